"""Builds seeds on private daemons, and starts daemons on clones of them."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from neo_daemons.control.client import ControlError
from neo_daemons.definitions import Definition, Launch, Port, fingerprint
from neo_daemons.interpreter import installed_modules
from neo_daemons.seeds.counts import text
from neo_daemons.seeds.manifest import SeedError
from neo_daemons.seeds.store import KEY_DIGITS, Held, Limits, Store
from neo_daemons.unpatched import Unpatched

from . import clients
from .handles import ORDER_S, Daemon
from .isolation import Isolation
from .once import Once, OnceFailed
from .seeds import Seed
from .sessions import NOT_OURS, Session
from .unavailable import Unavailable, not_available

if TYPE_CHECKING:
    from neo_daemons.config.project import Project

DATABASES = f"/api/v2/tenants/{clients.TENANT}/databases"
PAGE = 1000
COMPILED = "__pycache__"
"""To import a module changes what is in there, and nothing else."""
CACHE = "seeds"
"""The directory of sealed seeds in the cache directory."""


class Seeding:
    """Gives clones of seeds to the daemons of one process.

    Args:
        session: where the daemons run.
        once: runs what happens once in a run.
        worker: the name of the process; part of the names of private daemons.
        remark: takes a line for the summary of the run.
    """

    def __init__(
        self, session: Session, once: Once, worker: str, limits: Limits, remark: Callable[[str], None]
    ) -> None:
        self._session = session
        self._once = once
        self._worker = worker
        self._limits = limits
        self._remark = remark
        self._held: dict[str, Held] = {}
        """Name and key → the seed, which stays in the store while this process runs."""
        self._keys: list[tuple[Seed, Definition, str]] = []
        """The keys so far: to read all inputs takes time."""
        self._known_project: Project | None = None

    def prepared(self, seed: Seed, definition: Definition | None) -> Prepared:
        """Return a seed that is sealed, after building it if necessary. The test fails if it cannot be built."""
        why = self._session.refusal(seed.daemon)
        if why is not None or definition is None:
            pytest.fail(f"cannot clone the seed {seed.name}: {why or NOT_OURS}", pytrace=False)
        if definition.external:
            pytest.fail(
                f"{definition.name} is external, so it cannot start on the seed {seed.name}; "
                "run without --neo-daemons-url, or let the seed fixture return None",
                pytrace=False,
            )
        if definition.data_dir is None:
            pytest.fail(f"{definition.name} has no data directory, so it cannot start on the seed {seed.name}; "
                        f"set daemons.{definition.name}.data_dir", pytrace=False)  # fmt: skip
        if definition.name != seed.daemon:
            pytest.fail(
                f"the seed {seed.name} was declared for the daemon {seed.daemon}, not {definition.name}", pytrace=False
            )
        with _failing():
            project = self._project()
            store, key = Store(project.cache / CACHE), self._key(seed, definition, project)
            if (held := self._held.get(f"{seed.name}-{key}")) is None:
                held = self._obtain(store, key, seed, definition)
                self._held[f"{seed.name}-{key}"] = held
        return Prepared(seed, held, definition, self._once, self._session, self._remark)

    def _key(self, seed: Seed, definition: Definition, project: Project) -> str:
        for known, its_definition, key in self._keys:
            if known is seed and its_definition == definition:
                return key
        self._keys.append((seed, definition, identity(seed, definition, project)))
        return self._keys[-1][2]

    def _project(self) -> Project:
        if self._known_project is not None:
            return self._known_project
        with installed_modules():
            from neo_daemons.ephemeral import session as sessions

        self._session.need_supervisor()
        record = sessions.read(self._session.state_dir)
        if record is None:
            raise SeedError(f"{self._session.state_dir.path} has lost its session file; run the tests again")
        self._known_project = sessions.configuration(record, self._session.state_dir).project
        return self._known_project

    def _obtain(self, store: Store, key: str, seed: Seed, definition: Definition) -> Held:
        found: list[Held] = []

        def ensure() -> None:
            found.append(self._find_or_build(store, key, seed, definition))

        self._once(f"the seed {seed.name} {key}", ensure)
        if not found:  # another worker has it
            held = store.hold(seed.name, key, verified=True)
            # It is gone if that worker has died and others needed the space.
            found.append(held if isinstance(held, Held) else self._find_or_build(store, key, seed, definition))
        return found[0]

    def _find_or_build(self, store: Store, key: str, seed: Seed, definition: Definition) -> Held:
        held = store.hold(seed.name, key)
        if not isinstance(held, Held):
            with store.building(seed.name):
                held = store.hold(seed.name, key)  # by now
                if isinstance(held, str):
                    self._remark(f"the seed {seed.name} is built again because its sealed copy is damaged: {held}")
                if not isinstance(held, Held):
                    held = self._build(store, key, seed, definition)
        for name in store.evict(self._limits):
            self._remark(f"removed the seed {name} from {store.root} (see neo_daemons_seeds_max_bytes)")
        return held

    def _build(self, store: Store, key: str, seed: Seed, definition: Definition) -> Held:
        began = Unpatched.monotonic()
        isolation = Isolation(self._session, f"seed-{self._worker}")
        try:
            daemon = isolation.begin(isolation.promise(definition.name), definition)
            returned = seed.build(daemon)
            _check_counts(returned, f"the builder of the seed {seed.name}")
            counted = count(seed, definition, daemon)
            wrong = [f"{name} = {returned[name]}, not {counted[name]}" for name in counted if name in returned
                     and returned[name] != counted[name]]  # fmt: skip
            if wrong:
                raise SeedError(
                    f"the builder of the seed {seed.name} returned {', '.join(wrong)} as counted afterwards"
                )
            data_dir, version = self._stop(daemon, seed)
            held = store.seal(
                data_dir,
                name=seed.name,
                key=key,
                daemon=definition.name,
                program=version,
                counts={**returned, **counted},
                counted=tuple(counted),
            )
        finally:
            isolation.end()
        size = held.manifest.size / 1e6
        self._remark(
            f"built the seed {seed.name} in {Unpatched.monotonic() - began:.1f} s: "
            f"{text(held.manifest.counts)}, {size:.1f} MB in {held.path}"
        )
        return held

    def _stop(self, daemon: Daemon, seed: Seed) -> tuple[Path, str | None]:
        """Stop the private daemon gracefully. Return its data directory and the version of its program."""
        name = daemon.name
        status = self._session.ask(lambda client: client.order(name, "stop", wait_s=ORDER_S))
        ended = status.last_exit.text if status.last_exit is not None else "it is still running"
        if status.last_exit is None or status.pid is not None or status.last_exit.signal == "SIGKILL":
            raise SeedError(
                f"the daemon of the seed {seed.name} did not stop by itself ({ended}), so its data may be incomplete; "
                f"give it more time: daemons.{seed.daemon}.stop.grace_s"
            )
        if status.data_dir is None:
            raise SeedError(f"{name} has no data directory")
        return Path(status.data_dir), status.version

    def close(self) -> None:
        """Release all seeds."""
        for held in self._held.values():
            held.close()
        self._held.clear()


class Prepared:
    """A sealed seed, and how a daemon starts on it."""

    def __init__(
        self,
        seed: Seed,
        held: Held,
        definition: Definition,
        once: Once,
        session: Session,
        remark: Callable[[str], None],
    ) -> None:
        self._seed = seed
        self._held = held
        self._definition = definition
        self._once = once
        self._session = session
        self._remark = remark

    def clone(self, target: Path) -> None:
        """Make `target`, which is absent, a clone. The test fails if that is not possible."""
        with _failing():
            self._clone(target)

    def _clone(self, target: Path) -> None:
        how = self._held.clone(target)
        if how == "reflink":
            self._remark("seeds are cloned by reflinks")
        else:
            where = f"{self._held.path.parent} and {self._session.state_dir.path.parent}"
            self._remark(f"seeds are cloned by copying, because {where} are not on one file system with reflinks")

    def shared(self) -> Definition:
        """Return the definition of the shared daemon on a clone, which the first worker makes."""
        target = self._shared_dir()

        def begin() -> bool:
            if target.is_dir() and any(target.iterdir()):
                return False  # a session that was kept warm keeps its data
            self._clone(target)
            return True

        with _failing():
            self._once(f"a clone at {target.name}", begin)
        return msgspec.structs.replace(self._definition, data_dir=str(target))

    def _shared_dir(self) -> Path:
        manifest = self._held.manifest
        return self._session.state_dir.data / f"{self._definition.name}-{manifest.name}-{manifest.key[:8]}"

    def check_shared(self, daemon: Daemon) -> None:
        """Fail the test if the shared daemon does not contain what the seed does. Only the first worker counts: later,
        tests have changed the data."""
        name = self._shared_dir().name
        with _failing():
            if self._once(f"a clone at {name}", bool):  # what `shared` has returned
                self._once(f"the counts of {name}", lambda: self._check(daemon))

    def check(self, daemon: Daemon) -> None:
        """Fail the test if a daemon on a clone does not contain what the seed does."""
        with _failing():
            self._check(daemon)

    def _check(self, daemon: Daemon) -> None:
        manifest = self._held.manifest
        if not manifest.counted:
            return
        counted = count(self._seed, self._definition, daemon)
        wrong = [
            f"{counted.get(name, 'no')} {name} instead of {manifest.counts[name]}"
            for name in manifest.counted
            if counted.get(name) != manifest.counts[name]
        ]
        if wrong:
            raise SeedError(
                f"the clone of the seed {manifest.name} that {daemon.name} was started on is refused: it has "
                f"{', '.join(wrong)}; have the seed built again: rm -r {self._held.path}"
            )


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """Fail the test, without a traceback, if a seed or the supervisor is at fault. The builder's own errors pass."""
    try:
        yield
        return
    except (SeedError, OnceFailed, ControlError, Unavailable) as error:
        fault = str(error)
    pytest.fail(fault, pytrace=False)  # not in an except clause: pytest would also show its error


def identity(seed: Seed, definition: Definition, project: Project) -> str:
    """Return what identifies the data of a seed: its daemon and the version of its program, its builder's source, and
    the content of its inputs. The files in ``watch`` do not count: not each edit of a program changes its data.

    Raises:
        SeedError: the source or an input cannot be read.
    """
    with installed_modules():
        from neo_daemons.catalog import resolve

    definition = msgspec.structs.replace(definition, watch=())
    launch = resolve(definition, project)
    if not isinstance(launch, Launch):
        raise SeedError(f"{not_available(definition.name)}: {launch.reason}; fix: {launch.remedy}")
    plain = msgspec.structs.replace(definition, data_dir="", ports=dict.fromkeys(definition.ports, Port()))
    stated = [
        "1",
        seed.name,
        seed.daemon,
        fingerprint(plain, launch),
        repr(sorted(definition.options.items())),
        *(_source(function) for function in (seed.build, seed.counter) if function is not None),
        *_inputs(seed),
    ]
    return hashlib.sha256(msgspec.json.encode(stated)).hexdigest()[:KEY_DIGITS]


def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        name = getattr(function, "__qualname__", function)
        raise SeedError(f"the source of {name} cannot be read; define it with `def` in a file") from None


def _inputs(seed: Seed) -> Iterator[str]:
    """Yield the name and the digest of each input file."""
    for stated in seed.inputs:
        found = (
            path for path in stated.rglob("*") if path.is_file() and COMPILED not in path.relative_to(stated).parts
        )
        below = sorted(found) if stated.is_dir() else [stated]
        for path in below:
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise SeedError(f"the seed {seed.name} cannot read its input {path}: {error.strerror}") from None
            yield f"{os.path.relpath(path, stated.parent)} {digest}"


def count(seed: Seed, definition: Definition, daemon: Daemon) -> dict[str, int]:
    """Count what is in a running daemon, by the seed's own function or, for chroma, by its API.

    Raises:
        SeedError: it cannot be counted.
    """
    if seed.counter is not None:
        counted = seed.counter(daemon)
        _check_counts(counted, f"the count function of the seed {seed.name}")
        return counted
    return _count_chroma(daemon) if definition.builtin == "chroma" else {}


def _check_counts(counts: object, who: str) -> None:
    if not isinstance(counts, dict) or not all(
        isinstance(name, str) and isinstance(number, int) and number >= 0 for name, number in counts.items()
    ):
        raise SeedError(f"{who} returned {counts!r:.200}; return counts by name, e.g. {{'records': 100}}")


def _count_chroma(daemon: Daemon) -> dict[str, int]:
    """Count the collections and records of the default tenant."""
    import httpx

    def get(path: str, **query: int) -> Any:
        return http.get(path, params=query).raise_for_status().json()

    collections = records = 0
    try:
        with clients.make_http(daemon.url) as http:
            for database in get(DATABASES):
                path, offset = f"{DATABASES}/{database['name']}/collections", 0
                while page := get(path, limit=PAGE, offset=offset):
                    offset += len(page)
                    collections += len(page)
                    records += sum(get(f"{path}/{one['id']}/count") for one in page)
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise SeedError(f"cannot count what is in {daemon.name}: {error}") from None
    return {"collections": collections, "records": records}
