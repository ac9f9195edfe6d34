"""What the real daemons need: models of a hub, neo.mjs whatever npm is set to, caches that have broken."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from neo_daemons import catalog
from neo_daemons.catalog import hub_model, neo_mjs, tiny_model
from neo_daemons.config import load
from neo_daemons.definitions import Launch, Provision
from neo_daemons.supervision.platform import current_platform
from neo_daemons.supervision.provision import Runner

from ..harness import Project
from ..hub import Hub

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

REPOSITORY = "org/tiny"
HOSTILE_NPMRC = """\
ignore-scripts=true
global=true
dry-run=true
package-lock=false
engine-strict=true
bin-links=false
install-strategy=nested
location=global
workspaces=true
strict-allow-scripts=true
loglevel=silent
json=true
"""


def provisions(root: Path, name: str, settings: str = "", **environ: str) -> tuple[Launch, tuple[Provision, ...]]:
    """What a built-in daemon needs here."""
    file = root / "neo-daemons.toml"
    file.write_text(f"[daemons.{name}]\n{settings}\n")
    configuration = load(file, environ={**os.environ, **environ})
    launch = catalog.resolve(configuration.definitions[0], configuration.project)
    assert isinstance(launch, Launch), launch
    return launch, launch.provisions


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, as a repository holds it."""
    directory = tmp_path_factory.mktemp("tiny")
    subprocess.run([sys.executable, tiny_model.__file__, str(directory)], check=True)
    return directory


@pytest.fixture
def hub(tiny: Path) -> Iterator[tuple[Hub, str]]:
    hub = Hub(tiny, REPOSITORY)
    with hub.serving() as url:
        yield hub, url


def fetch(directory: Path, env: Mapping[str, str], repository: str = REPOSITORY) -> tuple[int, str]:
    """Run the fetching program; its exit code and its last line."""
    directory.mkdir(exist_ok=True)
    command = [sys.executable, hub_model.__file__, "fetch", repository, str(directory)]
    ended = subprocess.run(command, env={**os.environ, **env}, text=True, capture_output=True, timeout=120, check=False)
    lines = ended.stdout.strip().splitlines()
    return ended.returncode, lines[-1] if lines else ended.stderr


def test_a_model_of_a_hub_is_fetched_served_and_needs_no_network_then(project: Project, hub: tuple[Hub, str]) -> None:
    served, url = hub
    project.env |= {
        "HF_ENDPOINT": url,
        "HF_HOME": str(project.root / "hf"),
        "NEO_DAEMONS_CACHE_DIR": str(project.root / "cache"),
    }
    project.env.pop("HF_HUB_OFFLINE", None)
    project.configure(mlx={"model": REPOSITORY, "env": {"MLX_DISABLE_COMPILE": "1"}})
    project.serve()
    project.reaches("mlx", "ready")
    asked = len(served.asked)
    assert asked
    project.stop()
    served.fault = "status=500"  # whoever asks now fails
    assert "works" in project.run("doctor").stdout
    project.serve()
    project.reaches("mlx", "ready")
    assert len(served.asked) == asked


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("gated", f"{REPOSITORY} is gated: accept its terms on "),
        ("status=404", f" has no repository {REPOSITORY}, or it is private; correct daemons.mlx.model"),
        ("status=401", f" refuses access to {REPOSITORY} (status 401); check HF_TOKEN"),
        ("status=503", f" returned status 503 for {REPOSITORY}; try again later"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(tmp_path: Path, hub: tuple[Hub, str], fault: str, said: str) -> None:
    served, url = hub
    served.fault = fault
    code, line = fetch(tmp_path / "made", {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"})
    assert code == 1
    assert said in line
    assert len(served.asked) <= 3


@pytest.mark.parametrize(
    ("repository", "env", "said"),
    [
        (REPOSITORY, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot reach http://127.0.0.1:9 ("),
        (REPOSITORY, {"HF_HUB_OFFLINE": "1"}, "and HF_HUB_OFFLINE prevents the download; unset it for the first start"),
        ("a/b/c", {}, "'a/b/c' is not a repository id (OWNER/NAME) or an existing directory"),
    ],
    ids=["no network", "offline", "no name"],
)
def test_a_hub_that_is_not_asked_or_reached_is_said_in_one_line(
    tmp_path: Path, repository: str, env: dict[str, str], said: str
) -> None:
    code, line = fetch(tmp_path / "made", {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0", **env}, repository)
    assert code == 1
    assert said in line


def test_a_repository_without_a_model_for_mlx_is_refused_before_anything_is_fetched(
    tmp_path: Path, hub: tuple[Hub, str]
) -> None:
    served, url = hub
    served.directory = tmp_path / "empty"
    served.directory.mkdir()
    (served.directory / "model.gguf").write_bytes(b"GGUF")
    code, line = fetch(tmp_path / "made", {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"})
    assert code == 1
    assert line.startswith(f"mlx_lm cannot load {REPOSITORY}: ")


def test_a_damaged_file_in_the_hub_s_cache_is_fetched_again(tmp_path: Path, hub: tuple[Hub, str]) -> None:
    env = {"HF_ENDPOINT": hub[1], "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
    made = tmp_path / "made"
    assert fetch(made, env)[0] == 0
    weights = (made / "model" / "model.safetensors").resolve()
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    check = [sys.executable, hub_model.__file__, "check", str(made)]
    assert "is damaged" in subprocess.run(check, text=True, capture_output=True, check=False).stdout
    assert fetch(made, env)[0] == 0
    assert (made / "model" / "model.safetensors").read_bytes() == whole
    assert subprocess.run(check, check=False).returncode == 0


def test_pytest_says_at_once_why_a_model_cannot_be_had(project: Project) -> None:
    (project.root / "test_mlx.py").write_text("def test_mlx(mlx): pass\n")
    project.configure(mlx={"model": "org/no-such-model"})
    env = {**project.env, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(project.root / "hf")}
    command = [sys.executable, "-m", "pytest", "-q", "--neo-daemons", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=project.root, env=env, text=True, capture_output=True, timeout=240, check=False)
    assert ended.returncode == 1
    assert "fetching the model org/no-such-model: cannot reach http://127.0.0.1:9" in ended.stdout


@pytest.mark.parametrize("by", ["npmrc", "environment"])
def test_npm_settings_that_would_break_neo_mjs_do_not_count_for_it(tmp_path: Path, by: str) -> None:
    """As npm itself reads its settings, files, variables and our arguments."""
    _, (provision,) = provisions(tmp_path, "bridge", NEO_HOME="")
    rebuild = next(step for step in provision.steps if "rebuild" in step.command)
    npm = rebuild.command[: rebuild.command.index("rebuild")]
    arguments = rebuild.command[len(npm) + 2 :]
    env = {name: value for name, value in os.environ.items() if not name.lower().startswith("npm_config_")}
    if by == "npmrc":
        (tmp_path / ".npmrc").write_text(HOSTILE_NPMRC)
        env["npm_config_userconfig"] = str(tmp_path / ".npmrc")
    else:
        hostile = (line.partition("=") for line in HOSTILE_NPMRC.splitlines())
        env |= {f"npm_config_{name.replace('-', '_')}": value for name, _, value in hostile}
        env["npm_config_workspace"] = "of-whoever-runs-us"
    for name, wanted in {**neo_mjs.NPM_SETTINGS, "ignore-scripts": "false"}.items():
        ended = subprocess.run(
            [*npm, "config", "get", name, *arguments],
            cwd=tmp_path,
            env={**env, **rebuild.env},
            text=True,
            capture_output=True,
            check=True,
        )
        assert ended.stdout.strip() == wanted, name


def test_the_trial_of_neo_mjs_says_what_npm_has_not_built(tmp_path: Path) -> None:
    launch, (provision,) = provisions(tmp_path, "bridge", NEO_HOME="")
    assert provision.trial is not None
    target = Path(provision.target)
    log = tmp_path / "log"

    def output() -> int:
        return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    runner = Runner(current_platform(), dict(os.environ), output, log, lambda title: None)
    asyncio.run(runner.provide(provision))

    def trial(directory: Path) -> tuple[int, str]:
        ended = subprocess.run(
            [*provision.trial.command, str(directory)],  # type: ignore[union-attr]
            env={**os.environ, **provision.trial.env},  # type: ignore[union-attr]
            text=True,
            capture_output=True,
            check=False,
        )
        return ended.returncode, ended.stderr.strip()

    assert trial(target) == (0, "")
    copy = tmp_path / "copy"
    shutil.copytree(target, copy, symlinks=True, ignore=lambda directory, names: [n for n in names if n == "docs"])
    for binding in (copy / "node_modules" / "better-sqlite3" / "build").rglob("*.node"):
        binding.unlink()
    code, line = trial(copy)
    assert code == 1
    assert line.startswith("its SQLite binding was not built because npm ran no install scripts; see ignore-scripts in")
    shutil.rmtree(copy / "node_modules" / "better-sqlite3")
    code, line = trial(copy)
    assert (code, "better-sqlite3" in line) == (1, True)
    assert json.loads((target / "package.json").read_text())["dependencies"]["better-sqlite3"]
    assert launch.provisions == (provision,)
