"""Fetch a model from the Hugging Face Hub into the hub's own cache, as `mlx_lm.server` will look for it there.

    python hub_model.py fetch REPOSITORY DIRECTORY
    python hub_model.py check DIRECTORY

`fetch` makes DIRECTORY/model a link to the snapshot, and uses no network if that is complete. `check` checks that the
files of DIRECTORY/model, or of DIRECTORY itself, are complete, without loading them. Both report an error in their last
line and exit with code 1.

The interpreter that has mlx-lm runs this file as a script, and may not have this package.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
import time
from fnmatch import fnmatch
from pathlib import Path

LINK = "model"
WEIGHTS = "model*.safetensors"
ASK_S = 15.0
"""The timeout for the hub's list of the repository's files."""
PROGRESS_S = 2.0
PROGRESS_LINES = 50
STALLED_S = 180.0
"""After so long without data, no more is expected. Longer than the hub client's own retries for one file."""
GIGABYTE = 1e9


class NotUsableError(Exception):
    """The model is not usable; ``str()`` is one line with the reason and a remedy."""


def wanted_patterns() -> list[str]:
    """Return the patterns of the files that the installed server loads."""
    try:
        from mlx_lm.utils import DEFAULT_ALLOW_PATTERNS
    except ImportError:  # an older one
        return ["*.json", WEIGHTS, "*.py", "tokenizer.model", "*.tiktoken", "tiktoken.model", "*.txt", "*.jinja"]
    return list(DEFAULT_ALLOW_PATTERNS)


def check(model: Path) -> None:
    """Check that the files of a model exist and are complete.

    Raises:
        NotUsableError: they are missing or damaged.
    """
    try:
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            if name == "config.json" or (model / name).exists():
                json.loads((model / name).read_bytes())
        weights = sorted(model.glob(WEIGHTS))
        if not weights:
            raise NotUsableError(f"{model} contains no {WEIGHTS}")
        for path in weights:
            with path.open("rb") as file:
                # A safetensors file: 8 bytes of length, a JSON header of that length, the data that it describes.
                length = int.from_bytes(file.read(8), "little")
                size = os.fstat(file.fileno()).st_size
                header = json.loads(file.read(length)) if length < size else {}
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            if not ends or 8 + length + max(ends) != size:
                raise NotUsableError(f"{path} is damaged")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotUsableError(f"{model} is damaged: {error}") from None


def fetch(repository: str, directory: Path) -> str:
    """Fetch the repository's snapshot into the hub's cache and link to it. Return a description of what was done.

    Raises:
        NotUsableError: the model cannot be fetched or used.
    """
    from huggingface_hub import constants, snapshot_download

    damaged = False
    if not _place(Path(constants.HF_HUB_CACHE), repository).is_dir():
        _ask_hub(repository)  # first, because finding out what the server loads takes a while
    patterns = wanted_patterns()
    try:
        found = Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=True))
        check(found)
    except NotUsableError:
        damaged = True
    except Exception as error:  # it is missing or incomplete: then it is fetched
        _refuse_bad_name(error, repository)
    else:
        _link(directory, found)
        return f"{repository} is already in the cache: {found}"
    total = _size(_ask_hub(repository), repository, patterns)
    cache = Path(constants.HF_HUB_CACHE)
    stop = threading.Event()
    threading.Thread(target=_watch, args=(cache, repository, total, stop), daemon=True).start()
    try:
        found = Path(snapshot_download(repository, allow_patterns=patterns, force_download=damaged))
    except Exception as error:
        raise NotUsableError(_why(error, repository)) from None
    finally:
        stop.set()
    check(found)
    _link(directory, found)
    return f"fetched {repository}: {found}"


def _link(directory: Path, found: Path) -> None:
    link = directory / LINK
    link.unlink(missing_ok=True)
    link.symlink_to(found)


def _ask_hub(repository: str) -> dict[str, int]:
    """Return the sizes of the repository's files. This comes first: it fails immediately, without retries."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().model_info(repository, files_metadata=True, timeout=ASK_S).siblings or []
    except Exception as error:
        raise NotUsableError(_why(error, repository)) from None
    sizes = {file.rfilename: file.size or 0 for file in files}
    if "config.json" not in sizes or not any(fnmatch(name, WEIGHTS) for name in sizes):
        raise NotUsableError(
            f"mlx_lm cannot load {repository}: it has no config.json with {WEIGHTS}; "
            "set daemons.mlx.model to another repository, e.g. one from mlx-community"
        )
    return sizes


def _size(sizes: dict[str, int], repository: str, patterns: list[str]) -> int:
    """Return the bytes of the files to fetch, after checking that there is enough space."""
    from huggingface_hub import constants

    total = sum(size for name, size in sizes.items() if any(fnmatch(name, pattern) for pattern in patterns))
    cache = Path(constants.HF_HUB_CACHE)
    missing = total - _bytes_of(_place(cache, repository))
    place = next(path for path in (cache, *cache.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if missing > free:
        raise NotUsableError(
            f"{repository} needs {missing / GIGABYTE:.1f} GB more, but {cache} has only {free / GIGABYTE:.1f} GB free; "
            "free space there, or set HF_HOME to another directory"
        )
    return total


def _why(error: BaseException, repository: str) -> str:
    """Describe an error of the hub's client in one line with a remedy."""
    from huggingface_hub import constants

    endpoint, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    _refuse_bad_name(error, repository)
    if "GatedRepoError" in kinds:
        return f"{repository} is gated: accept its terms on {endpoint}/{repository}, and set HF_TOKEN to your token"
    responses = (getattr(one, "response", None) for one in chain)
    status = next((response.status_code for response in responses if response is not None), None)
    if "RepositoryNotFoundError" in kinds or status == 404:
        return (
            f"{endpoint} has no repository {repository}, or it is private; "
            "correct daemons.mlx.model, or set HF_TOKEN to a token that can read it"
        )
    if "OfflineModeIsEnabled" in kinds:
        return f"{repository} is not in {cache}, and HF_HUB_OFFLINE prevents the download; unset it for the first start"
    full = next((one for one in chain if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT)), None)
    if full is not None:
        return f"no space left in {cache}; free some space, or set HF_HOME to another directory"
    denied = next((one for one in chain if isinstance(one, PermissionError)), None)
    if denied is not None:
        return f"cannot write to {cache}: {denied.strerror}: {denied.filename}; set HF_HOME to another directory"
    root = str(chain[-1]).strip().partition("\n")[0] or type(chain[-1]).__name__
    if status in (401, 403):
        return f"{endpoint} refuses access to {repository} (status {status}); check HF_TOKEN"
    if status is not None:
        return f"{endpoint} returned status {status} for {repository}; try again later, or check HF_ENDPOINT"
    if kinds & {"TransportError", "RequestException", "LocalEntryNotFoundError", "TimeoutError", "ConnectionError"}:
        return (
            f"cannot reach {endpoint} ({root}), and {repository} is not in {cache}; check the network, "
            "HTTPS_PROXY or HF_ENDPOINT, or set daemons.mlx.model to a model's directory"
        )
    return f"cannot fetch {repository}: {type(error).__name__}: {root}"


def _refuse_bad_name(error: BaseException, repository: str) -> None:
    if type(error).__name__ in ("HFValidationError", "HfUriError"):
        raise NotUsableError(
            f"{repository!r} is not a repository id (OWNER/NAME) or an existing directory; correct daemons.mlx.model"
        ) from None


def _place(cache: Path, repository: str) -> Path:
    return cache / f"models--{repository.replace('/', '--')}" / "blobs"


def _bytes_of(directory: Path) -> int:
    total = 0
    try:
        for path in directory.iterdir():
            # A file that is being written may already have its final size.
            found = path.lstat()
            total += min(found.st_size, found.st_blocks * 512)
    except OSError:  # it does not exist yet, or a file has just been renamed
        pass
    return total


def _watch(cache: Path, repository: str, total: int, stop: threading.Event) -> None:
    """Print the progress; end this process when no more data arrives."""
    seen, since, said = -1, time.monotonic(), -total
    while not stop.wait(PROGRESS_S):
        size = _bytes_of(_place(cache, repository))
        if size != seen:
            seen, since = size, time.monotonic()
            if size - said >= total / PROGRESS_LINES:
                print(f"{size / GIGABYTE:.2f} of {total / GIGABYTE:.2f} GB", flush=True)
                said = size
        elif time.monotonic() - since > STALLED_S:
            print(f"no data received for {repository} in {STALLED_S:.0f} s; check the network and start it again")
            sys.stdout.flush()
            os._exit(1)


def main(arguments: list[str]) -> int:
    """Run one command. Return the exit code."""
    # The client's progress bars would fill the log with terminal sequences.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        match arguments:
            case ["fetch", repository, directory]:
                print(fetch(repository, Path(directory)))
            case ["check", directory]:
                made = Path(directory)
                check(made / LINK if (made / LINK).is_symlink() else made)
            case _:
                print("usage: hub_model.py fetch REPOSITORY DIRECTORY | hub_model.py check DIRECTORY", file=sys.stderr)
                return 2
    except NotUsableError as error:
        print(error, flush=True)
        return 1
    except ImportError as error:
        print(f"cannot fetch the model: {error}; install mlx-lm for {sys.executable}", flush=True)
        return 1
    except Exception as error:  # other versions of the client may raise anything
        print(f"cannot fetch the model: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    # For a script, Python searches its directory for modules first, and there `mlx` is this package's module.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    sys.exit(main(sys.argv[1:]))
