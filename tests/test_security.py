"""The lines of the threat model in docs/security.md, each attacked."""

from __future__ import annotations

import ast
import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neo_daemons.config import ConfigError, find_state_dir, load
from neo_daemons.control import http_server
from neo_daemons.control.address import Loopback, socket_path
from neo_daemons.control.client import Client, ControlError
from neo_daemons.state_dir import StateDir, StateDirError
from neo_daemons.supervision.slot import DATA_LOCK

from .harness import PATIENCE_S, Child, Project, is_alive, kill, toy, until
from .strays import children, descriptors

SECRET = "hunter2-and-a-half"
STRANGER = 12345
"""A user id that nobody has here."""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


# Other users of the machine


def made_by_a_stranger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `path` belong to somebody else than us."""
    if os.geteuid() == 0:
        os.lchown(path, STRANGER, STRANGER)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: STRANGER)


def test_all_that_a_supervisor_writes_is_for_its_user_only(project: Project) -> None:
    project.configure(api=toy())
    before = os.umask(0o022)
    try:
        project.serve("--listen", "0")
    finally:
        os.umask(before)
    project.reaches("api", "ready")
    assert stat.S_IMODE(project.state.path.stat().st_mode) == 0o700
    for path in (project.state.token, socket_path(project.state.path), project.state.journal):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_state_directory_that_was_open_is_closed_before_anything_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o777)
    (tmp_path / "state").chmod(0o777)
    StateDir(tmp_path / "state").create()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_a_state_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    made_by_a_stranger(tmp_path / "theirs", monkeypatch)
    with pytest.raises(StateDirError, match="is owned by user id"):
        StateDir(tmp_path / "theirs").create()
    assert list((tmp_path / "theirs").iterdir()) == []


@as_root
@pytest.mark.parametrize("below", ["", "/project/.neo-daemons"])
def test_a_link_that_somebody_else_laid_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    (tmp_path / "precious").mkdir()
    link = tmp_path / "shared"
    link.symlink_to(tmp_path / "precious")
    made_by_a_stranger(link, monkeypatch)
    for look in (load, find_state_dir):
        with pytest.raises(ConfigError, match=r"is a symbolic link owned by user id 12345.*pass the real directory"):
            look(state_dir=Path(f"{link}{below}"))
    assert list((tmp_path / "precious").iterdir()) == []


def test_a_link_of_ones_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert find_state_dir(tmp_path / "link" / "state").path == tmp_path / "real" / "state"


def test_a_link_that_is_laid_after_the_path_was_read_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir(mode=0o755)
    (tmp_path / "state").symlink_to(tmp_path / "precious")
    with pytest.raises(StateDirError, match="is not a directory"):
        StateDir(tmp_path / "state").create()
    assert list((tmp_path / "precious").iterdir()) == []


@as_root
def test_the_socket_hears_no_other_user_even_where_the_directory_lets_him_in(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    for directory in (*project.root.parents, project.root, project.state.path):
        if stat.S_IMODE(directory.stat().st_mode) & 0o011 != 0o011:
            directory.chmod(0o755)
    sock = project.state.path / "control.sock"
    if socket_path(project.state.path) != sock:
        pytest.skip("the path of pytest's directory is too long for a socket")
    sock.chmod(0o666)
    attempt = (
        "import socket, sys\n"
        "with socket.socket(socket.AF_UNIX) as s:\n"
        "    s.connect(sys.argv[1])\n"
        "    try:\n"
        "        s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "        print(s.recv(100))\n"
        "    except OSError: print(b'')\n"
    )

    def asked(user: int) -> str:
        command = [
            "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable,
            "-c",
            attempt,
            str(sock),
        ]
        return subprocess.run(command, user=user, group=user, capture_output=True, text=True, check=True).stdout

    assert asked(STRANGER) == "b''\n"
    assert "200 OK" in asked(os.geteuid())


@as_root
def test_a_server_of_another_user_is_believed_by_nobody_but_root(tmp_path: Path) -> None:
    listen = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('on', flush=True)\n"
        "c, _ = s.accept(); sys.stdout.buffer.write(c.recv(1000)); sys.stdout.flush()\n"
    )
    for directory in (tmp_path, *tmp_path.parents):
        directory.chmod(directory.stat().st_mode | 0o011)
    state = StateDir(tmp_path)
    victim = (
        "import sys; from pathlib import Path\n"
        "from neo_daemons.control.client import ControlError, connect\n"
        "try: connect(sys.argv[1], 10).sendall(b'something')\n"
        "except ControlError as error: print(error)\n"
    )
    path = state.path / "theirs.sock"
    with Child([sys.executable, "-c", listen, str(path)], stdout=subprocess.PIPE, text=True) as theirs:
        assert theirs.stdout is not None
        assert theirs.stdout.readline() == "on\n"
        path.chmod(0o666)
        # The server is root's here, and root may be believed: so the victim takes it for somebody else's.
        pretend = victim.replace("try:", "import neo_daemons.control.peer as p; p._uid = lambda c: 7\ntry:")
        pretend = pretend.replace("import sys;", "import os, sys; os.geteuid = lambda: 12345;")
        said = subprocess.run([sys.executable, "-c", pretend, str(path)], capture_output=True, text=True, check=True)
        assert "is served by another user" in said.stdout
        assert theirs.stdout.read() == "", "something was told to it"


# Programs and pages that reach a TCP port


@pytest.fixture(scope="module")
def open_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("open"))
    project.configure(api=toy())
    project.serve("--listen", "127.0.0.1:0")
    project.reaches("api", "ready")
    yield project
    assert project.close() == []


def ask(project: Project, method: str = "GET", path: str = "/v1/status", **headers: str) -> tuple[int, dict[str, str]]:
    """A request over TCP; with the right token and host unless `headers` say otherwise. An empty one is left out."""
    port = int(str(project.client.status().supervisor.url).rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    token = project.state.token.read_text().strip()
    told = {"Host": f"127.0.0.1:{port}", "Authorization": f"Bearer {token}"}
    told |= {name.replace("_", "-"): value.replace("PORT", str(port)) for name, value in headers.items()}
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True)
        for name, value in told.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}


@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "localhost:PORT", "LOCALHOST:PORT"])
def test_who_has_the_token_is_let_in(open_project: Project, host: str) -> None:
    assert ask(open_project, Host=host)[0] == 200


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer x", "Basic x", "Bearer \xe9", "bearer nothing", "Bearer " + "x" * 9000],
)
def test_who_has_no_token_is_not(open_project: Project, authorization: str) -> None:
    before = open_project.daemon("api").pid
    assert ask(open_project, Authorization=authorization)[0] == 401
    assert ask(open_project, "POST", "/v1/daemons/api/restart", Authorization=authorization)[0] == 401
    assert open_project.daemon("api").pid == before


@pytest.mark.parametrize(
    "host", ["evil.example:PORT", "evil.example", "127.0.0.1", "localhost:1", "127.0.0.1:PORT.evil.example"]
)
def test_a_page_whose_name_was_rebound_to_this_machine_is_not(open_project: Project, host: str) -> None:
    assert ask(open_project, Host=host)[0] == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:PORT"},
        {"Sec_Fetch_Site": "none"},
    ],
)
def test_a_page_in_a_browser_is_not_even_with_the_token(open_project: Project, headers: dict[str, str]) -> None:
    status, answer = ask(open_project, **headers)
    assert status == 403
    assert not [name for name in answer if name.startswith("access-control")]
    assert ask(open_project, "OPTIONS", **headers)[0] == 403


def test_the_token_is_of_one_life_and_is_shown_nowhere(project: Project) -> None:
    project.configure(api=toy())
    supervisor = project.serve("--listen", "0")
    project.reaches("api", "ready")
    token = project.state.token.read_text().strip()
    assert len(token) >= 43, "256 bits, in base64"
    assert token not in Path(f"/proc/{supervisor.pid}/cmdline").read_bytes().decode()
    assert token not in Path(f"/proc/{supervisor.pid}/environ").read_bytes().decode()
    assert token not in Path(f"/proc/{project.daemon('api').pid}/environ").read_bytes().decode()
    assert holding(project.root, token) == [project.state.token]
    project.kill_supervisor()
    project.serve("--listen", "0")
    assert project.state.token.read_text().strip() not in ("", token)
    project.kill_supervisor()
    project.serve()
    assert not project.state.token.exists(), "one that opens nothing is not left lying about"
    project.stop()


def test_up_can_listen_too_and_says_where(project: Project) -> None:
    project.configure(api=toy())
    up = project.run("up", "--listen", "[::1]:0")
    assert up.returncode == 0, up.stderr
    assert f"control API on {project.client.status().supervisor.url}" in up.stdout
    assert "http://[::1]:" in up.stdout
    assert project.run("down").returncode == 0
    assert not project.state.token.exists()


@pytest.mark.parametrize(
    "text", ["0.0.0.0:80", "192.168.0.1:80", "example.com:80", "::", "65536", "-1", "x", "", "localhost:"]
)
def test_only_this_machine_is_listened_to(tmp_path: Path, text: str) -> None:
    said = Project(tmp_path).run("serve", f"--listen={text}")
    assert said.returncode == 2
    assert "argument --listen" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_port_that_is_taken_is_one_clear_error(project: Project) -> None:
    project.configure(api=toy())
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = project.run("serve", "--listen", str(other.getsockname()[1]))
    assert said.returncode == 1
    assert "Address already in use; choose another port with --listen" in said.stderr
    assert not project.state.token.exists()
    assert not project.state.record.exists()


def test_addresses_are_read_as_they_are_written() -> None:
    assert Loopback.parse("8000") == Loopback("127.0.0.1", 8000)
    assert Loopback.parse("localhost:0") == Loopback("127.0.0.1", 0)
    assert Loopback.parse("[::1]:8000").url == "http://[::1]:8000"
    assert Loopback.parse(Loopback.parse("[::1]:8000").url.removeprefix("http://")) == Loopback("::1", 8000)


# Secrets


def holding(root: Path, text: str) -> list[Path]:
    """The regular files below that hold `text`. A supervisor may replace any of them meanwhile."""
    found = []
    for path in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink() and text.encode() in path.read_bytes():
                found.append(path)
    return found


def test_a_secret_of_a_daemons_environment_is_told_to_the_daemon_alone(project: Project) -> None:
    probe = {"type": "http", "headers": {"X-Key": SECRET}, "interval_s": 0.1}
    project.configure(
        api=toy(env={"API_KEY": SECRET}, live=probe),
        broken={"command": ["/bin/sh", "-c", "exit 3"], "env": {"API_KEY": SECRET}, "restart": {"limit": 1}},
        missing={"command": ["no-such-program"], "env": {"API_KEY": SECRET}},
    )
    project.env["FROM_OUTSIDE"] = SECRET
    project.serve()
    pid = project.reaches("api", "ready").pid
    assert SECRET in Path(f"/proc/{pid}/environ").read_text()
    project.reaches("broken", "parked")
    said = [project.run(*words.split()) for words in (
        "status", "status --json", "why api", "why api --json", "why broken", "events -n 1000", "events --json",
        "doctor", "logs api", "health", "health --json", "why missing", "start missing --wait 0", "restart api",
    )]  # fmt: skip
    project.configure(api=toy(env={"API_KEY": SECRET + "!"}))
    said += [project.run("reload", "--dry-run"), project.run("reload")]
    kill(project.reaches("api", "ready").pid)
    project.stop()
    for outcome in said:
        assert SECRET not in outcome.stdout + outcome.stderr, outcome.args
    assert SECRET not in project.output()
    assert holding(project.root, SECRET) == [project.root / "neo-daemons.toml"]


@pytest.mark.parametrize(
    "line",
    [
        f'env = "{SECRET}"',
        f'env = ["{SECRET}"]',
        f'env = {{ KEY = ["{SECRET}"] }}',
        f'env = {{ "A=B" = "{SECRET}" }}',
        f'env = {{ KEY = "{SECRET}$" }}',
        f'env = {{ KEY = "{SECRET}${{nothing}}" }}',
        f'exports = {{ KEY = "{SECRET}${{nothing}}" }}',
        f'ready = {{ type = "http", headers = {{ KEY = ["{SECRET}"] }} }}',
        f'ready = {{ type = "http", headers = "{SECRET}" }}',
        f'live = [{{ type = "http", headers = {{ KEY = "{SECRET}${{nothing}}" }} }}]',
    ],
)
def test_a_secret_is_not_quoted_by_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "neo-daemons.toml").write_text(f'[daemons.x]\ncommand = ["true"]\nport = "auto"\n{line}\n')
    with pytest.raises(ConfigError) as caught:
        load(directory=tmp_path, environ={})
    assert SECRET not in str(caught.value)
    assert "daemons.x." in str(caught.value)


def test_there_is_no_shell_anywhere() -> None:
    """No call names a shell, and none lets one interpret a string. `env` has a format of that name, `completion` is for
    shells, `init` writes what other files have a shell do, and what is rendered, for containers that have shells, runs
    nothing here."""
    here = Path(http_server.__file__).parents[1]
    rendered = {here / "definitions.py", *(here / "render").rglob("*.py")}
    harmless = {"env.py": {"sh"}, "parser.py": {"sh", "bash"}, "compose.py": {"sh"}, "draft.py": {"sh"}}
    for path in {*here.rglob("*.py"), *(here.parent / "pytest_neo_daemons").rglob("*.py")} - rendered:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("os.system", "os.popen", "subprocess.getoutput"), f"{path}:{node.lineno}"
                runs_one = any(word.arg == "shell" for word in node.keywords) and name != "shellcode"
                assert not runs_one, f"{path}:{node.lineno}"
            if isinstance(node, ast.Constant):
                names = {"sh", "/bin/sh", "bash", "/bin/bash"} - harmless.get(path.name, set())
                assert node.value not in names, f"{path}:{node.lineno}"


def test_a_command_is_not_interpreted(project: Project) -> None:
    evil = "$(touch pwned); touch pwned | `touch pwned` && touch pwned".replace("$", "$$")
    project.configure(api=toy(env={"X": evil}), said={"command": ["echo", evil], "restart": "never"})
    project.serve()
    project.reaches("said", "stopped")
    assert evil.replace("$$", "$") in project.run("logs", "said").stdout
    assert not list(project.root.rglob("pwned"))


# What a daemon inherits


def test_a_daemon_inherits_its_own_lock_and_nothing_else(project: Project) -> None:
    project.configure(api=toy(data_dir="data"))
    supervisor = project.serve("--listen", "0")
    pid = project.reaches("api", "ready").pid
    assert pid is not None
    theirs, ours = set(descriptors(pid)), set(descriptors(supervisor.pid))
    assert str(project.state.lock) in ours, "what the supervisor has open can be read"
    assert str(project.state.daemon_lock("api")) in theirs
    sockets = {name for name in theirs & ours if not name.startswith("/")}
    assert not sockets, "a daemon shares these with the supervisor"
    private = {str(project.state.lock), str(project.state.token), str(project.state.journal), str(project.state.record)}
    assert not theirs & private


def test_a_daemon_inherits_no_descriptor_that_its_supervisor_was_started_with(project: Project) -> None:
    project.configure(api=toy(data_dir="data"), other=toy())
    supervisor = project.serve(prefix=("sh", "-c", 'exec 9</etc/passwd; exec "$@"', "sh"))

    def answers() -> bool:
        with contextlib.suppress(ControlError):
            return project.client.status().supervisor.pid == supervisor.pid
        return False

    until(answers, "an answer of the supervisor")
    assert "/etc/passwd" in descriptors(supervisor.pid)
    for name in ("api", "other"):
        pid = project.reaches(name, "ready").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        pid = project.back(name, pid).pid
        assert pid is not None
        files = {found for found in descriptors(pid) if found.startswith("/")}
        data = {str(project.root / "data" / DATA_LOCK)} if name == "api" else set()
        log = str(project.state.daemon_log(name))
        assert files == {os.devnull, log, str(project.state.daemon_lock(name)), *data}


# A client that means ill, or is broken


def connect(project: Project) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(PATIENCE_S)
        connection.connect(json.loads(project.state.record.read_text())["socket"])
    except BaseException:
        connection.close()
        raise
    return connection


@pytest.mark.long
def test_a_client_that_never_comes_to_a_request_is_hung_up_on(
    open_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as closed:
        began = time.monotonic()
        waiting = [closed.enter_context(connect(open_project)) for _ in range(3)]
        waiting[1].sendall(b"GET /v1/sta")
        for connection in waiting:
            assert connection.recv(1000) == b""
    assert time.monotonic() - began >= http_server.HEAD_S / 2, "it had its time"


def test_too_many_connections_are_closed_and_later_ones_served(project: Project) -> None:
    project.configure(api=toy())
    supervisor = project.serve()
    first = project.reaches("api", "ready").pid
    assert first is not None
    lease = b'POST /v1/leases HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{"holder": "x"}'
    before = len(descriptors(supervisor.pid))
    with contextlib.ExitStack() as kept:
        for _ in range(http_server.MAX_CONNECTIONS):
            connection = kept.enter_context(connect(project))
            connection.sendall(lease)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        with pytest.raises(ControlError, match="too many connections"):
            project.client.status()
        idle = [kept.enter_context(connect(project)) for _ in range(http_server.SPARE_CONNECTIONS + 50)]
        with contextlib.suppress(ConnectionResetError):
            assert idle[-1].recv(1000) == b""
        most = http_server.MAX_CONNECTIONS + http_server.SPARE_CONNECTIONS
        until(lambda: len(descriptors(supervisor.pid)) <= before + most, "the end of those that are too many")
        os.kill(first, signal.SIGKILL)
        until(lambda: [pid for pid in children(supervisor.pid) if pid != first], "a new daemon")
    assert project.back("api", first).ready


def test_a_burst_of_connections_leaves_descriptors_for_the_daemons(project: Project) -> None:
    """All that waited were accepted before any was closed: a daemon could not be started for want of descriptors."""
    few = 1024
    project.configure(api=toy())
    supervisor = project.serve()
    first = project.reaches("api", "ready").pid
    assert first is not None
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (few, few))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with contextlib.ExitStack() as burst:
            supervisor.send_signal(signal.SIGSTOP)
            for _ in range(2 * few):
                burst.enter_context(connect(project))
            os.kill(first, signal.SIGKILL)
            supervisor.send_signal(signal.SIGCONT)
            until(lambda: [pid for pid in children(supervisor.pid) if pid != first], "a new daemon")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def answers() -> bool:
        with contextlib.suppress(ControlError):  # it may have to notice first that nobody is there any more
            return project.daemon("api").ready
        return False

    until(answers, "an answer")
    assert [detail for _, detail in project.events("api") if "open files" in str(detail)] == []
    assert "Traceback" not in project.output()


def test_tcp_clients_without_a_token_do_not_shut_out_those_of_the_socket(open_project: Project) -> None:
    url = open_project.client.status().supervisor.url
    port = int(str(url).rpartition(":")[2])
    with contextlib.ExitStack() as idle:
        for _ in range(2 * http_server.MAX_TCP_CONNECTIONS):
            idle.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert open_project.client.status().daemon("api").ready
    until(lambda: answered(open_project) == 200, "an answer over TCP again")


def answered(project: Project) -> int | None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return ask(project)[0]
    return None


def test_a_body_without_end_is_cut_off(open_project: Project) -> None:
    with connect(open_project) as connection:
        connection.sendall(b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                connection.sendall(chunk)
            raise AssertionError("64 MB were taken")


def test_a_lease_holder_that_reads_nothing_stalls_nobody(project: Project) -> None:
    project.configure(api=toy("flood=100000"))
    supervisor = project.serve()
    with contextlib.ExitStack() as held:
        for number in range(50):
            connection = held.enter_context(connect(project))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            if number % 2:
                connection.sendall(b'POST /v1/leases HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{"holder": "x"}')
            else:
                connection.sendall(b"GET /v1/daemons/api/logs?n=100000&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        pid = project.reaches("api", "ready").pid
        os.kill(pid or 0, 9)
        assert project.back("api", pid).ready
        assert Client(project.state).status().daemon("api").ready
        project.stop()
    assert not is_alive(supervisor.pid)


def test_every_line_of_the_threat_model_names_tests_that_exist() -> None:
    here = Path(__file__).parent
    told = re.findall(r"`(test_\w+)`", (here.parent / "docs" / "security.md").read_text())
    written = "".join(path.read_text() for path in here.glob("test_*.py"))
    assert len(told) > 20
    assert [name for name in told if f"def {name}(" not in written] == []
