"""What images are expected to do, tried with the programs in them: chroma's settings, the bridge's scripts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from neo_daemons import catalog
from neo_daemons.config.configuration import load
from neo_daemons.definitions import Launch, Secret
from neo_daemons.render import render
from neo_daemons.render.images import CHROMA_FILE
from neo_daemons.render.probing import command
from neo_daemons.render.stack import Faults
from neo_daemons.render.workload import Workload, plan
from tests.harness import free_port, until

from .project import stack

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
BIN = Path(sys.executable).parent


def planned(name: str, text: str) -> Workload:
    given = stack(text)
    faults = Faults(given)
    found = plan(given, faults).workloads[name]
    faults.raise_all()
    return found


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a process with its group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def passes(asked: tuple[str, ...], env: dict[str, str]) -> bool:
    return subprocess.run(asked, env=env, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("program", ["bash", "curl", "python3", "neo-daemons"])
def test_chroma_takes_its_variables_before_its_file_and_its_probe_passes(program: str, tmp_path: Path) -> None:
    port = free_port()
    data = tmp_path / "data"
    workload = planned(
        "chroma",
        f"[daemons.chroma]\nport = {port}\nsettings = {{ allow_reset = true }}\n"
        f'deploy = {{ data_dir = "{data}", probe_with = "{program}" }}\n',
    )
    assert workload.arguments == ("run", CHROMA_FILE)
    file = tmp_path / "config.yaml"  # as the one in the image
    file.write_text('persist_path: "/elsewhere"\n')
    env = {key: value for key, value in workload.env.items() if not isinstance(value, Secret)}
    path = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = shutil.which("chroma", path=path["PATH"])
    assert script is not None
    asked = command(workload, workload.ready)
    assert not passes(asked, path), "nothing listens yet"
    chroma = subprocess.Popen(
        [script, "run", str(file)], env=path | env, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until(lambda: passes(asked, path), "chroma answers")
        assert httpx.post(f"http://127.0.0.1:{port}/api/v2/reset").status_code == 200, "allow_reset is set"
        assert (data / "chroma.sqlite3").exists()
    finally:
        ended(chroma)
    assert not passes(asked, path)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``npm ci`` of the rendered directory installs: it is the same as that of the catalog."""
    file = tmp_path_factory.mktemp("project") / "neo-daemons.toml"
    file.write_text("[daemons.bridge]\n")
    configuration = load(file, environ={**os.environ, "NEO_HOME": ""})
    launch = catalog.resolve(configuration.definitions[0], configuration.project)
    assert isinstance(launch, Launch)
    found = Path(launch.provisions[0].target) / "node_modules"
    if not found.is_dir():
        pytest.skip("neo.mjs is not in the cache: neo-daemons up bridge")
    return found


class Built:
    """The bridge, as its image runs it: the rendered directory is in the place of /app."""

    def __init__(self, root: Path, modules: Path) -> None:
        text = '[daemons.bridge]\ndeploy = { data_dir = "%s" }\n' % (root / "data")
        workload = planned("bridge", text)
        files = render("compose", stack(text))
        self.directory = root / "app"
        for path, content in files.items():
            if path.startswith("bridge/"):
                file = self.directory / path.removeprefix("bridge/")
                file.parent.mkdir(exist_ok=True)
                file.write_text(content.replace("/app", str(self.directory)))
        (self.directory / "node_modules").symlink_to(modules)
        self.memory = root / "tmp"
        self.memory.mkdir()
        env = {key: str(value) for key, value in workload.env.items()}
        # The modules are there by a link, and node would take the script for one that is imported.
        linked = {"NODE_PRESERVE_SYMLINKS": "1", "NODE_PRESERVE_SYMLINKS_MAIN": "1"}
        self.env = {"PATH": os.environ["PATH"], "HOME": str(root), "TMPDIR": str(self.memory), **linked, **env}
        self.database = Path(env["NEO_MEMORY_DB_PATH"])
        self.daemon_dir = Path(env["NEO_AI_DAEMON_DIR"])
        self.log = root / "log"
        self._check = workload.image.probe_command or ()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it tails the log."""
        before = self.log.read_text().count("Started. Tail-syncing") if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                ["sh", "start.sh"], cwd=self.directory, env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        until(lambda: self.log.read_text().count("Started. Tail-syncing") > before, "the bridge has started")
        return process

    def healthy(self) -> bool:
        """Whether its probe passes."""
        asked = tuple(word.replace("/app", str(self.directory)) for word in self._check)
        return passes(asked, self.env)

    def write(self) -> None:
        """Add to the log that it tails."""
        with sqlite3.connect(self.database, timeout=30) as connection:
            connection.execute("INSERT INTO GraphLog (entity_id, entity_type) VALUES ('x', 'nodes')")
        connection.close()

    def later(self, seconds: float) -> None:
        """Let time pass for the probe: what it remembers becomes older."""
        (memory,) = self.memory.glob("*.json")
        seen = json.loads(memory.read_text())
        memory.write_text(json.dumps({**seen, "since": seen["since"] - seconds * 1000}))


@pytest.fixture
def built(tmp_path: Path, modules: Path) -> Built:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    return Built(tmp_path, modules)


def test_the_bridge_s_probe_fails_while_it_falls_behind_and_passes_again(built: Built) -> None:
    assert not built.healthy(), "there is no database yet"
    bridge = built.start()
    try:
        assert built.healthy()
        built.write()
        position = built.daemon_dir / "lastSyncId"
        until(lambda: position.exists() and position.read_text().strip() == "1", "the bridge has seen the entry")
        assert built.healthy()
        built.later(60)
        assert built.healthy(), "at the end of the log it need not move"
        os.killpg(bridge.pid, signal.SIGSTOP)
        built.write()
        assert built.healthy(), "it has time to catch up"
        built.later(20)
        assert built.healthy()
        built.later(11)
        assert not built.healthy()
        built.write()
        assert not built.healthy(), "the end of the log moves, its position does not"
        os.killpg(bridge.pid, signal.SIGCONT)
        until(built.healthy, "it has caught up")
    finally:
        ended(bridge)


def test_the_bridge_starts_after_a_run_that_was_killed(built: Built) -> None:
    ended(built.start())
    (left,) = built.daemon_dir.glob("*.pid")
    left.write_text(str(os.getpid()))  # the number is another process's by now
    inode = built.database.stat().st_ino
    bridge = built.start()
    try:
        assert built.healthy()
        assert built.database.stat().st_ino == inode, "the database is kept"
    finally:
        ended(bridge)


def test_the_bridge_s_dockerfile_copies_what_is_rendered(built: Built) -> None:
    lines = (built.directory / "Dockerfile").read_text().splitlines()
    copied = {
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    }
    assert copied == {path.name for path in built.directory.iterdir()} - {"Dockerfile", "node_modules"}
    assert subprocess.run(["sh", "-n", "start.sh"], cwd=built.directory, check=False).returncode == 0
    assert subprocess.run(["node", "--check", "healthcheck.mjs"], cwd=built.directory, check=False).returncode == 0
