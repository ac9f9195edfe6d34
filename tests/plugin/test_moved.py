"""A daemon that is restarted on another port, which nobody waited for: handles and variables say where it is."""

from __future__ import annotations

from .inner import Inner

MOVES = """
    import json, os, signal, socket, urllib.request

    HELD = []

    def answers(url):
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status == 200

    def move(pid, port, state_dir):
        '''Kill it and take its port while the supervisor sleeps; do not wait for it to be back.'''
        supervisor = json.loads((state_dir / "supervisor.json").read_text())["pid"]
        os.kill(supervisor, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        while True:
            try:
                HELD.append(socket.create_server(("127.0.0.1", port)))
                break
            except OSError:
                pass
        os.kill(supervisor, signal.SIGCONT)
"""


def test_the_next_tests_find_it_where_it_is(inner: Inner) -> None:
    inner.configure(api=inner.toy(exports={"API_URL": "http://${host}:${port}"}))
    inner.write("pytest.ini", "[pytest]\nneo_daemons_export_env = true\n")
    inner.write("moves.py", MOVES)
    inner.write(
        "test_moved.py",
        """
        import os, time
        import pytest
        from neo_daemons.control.client import Client
        from neo_daemons.state_dir import StateDir
        from moves import answers, move

        SEEN = {}

        @pytest.fixture
        def uses_it_afterwards(api):
            yield
            assert answers(api.url)

        def test_moves(api, neo_daemons, uses_it_afterwards):
            SEEN.update(port=api.port, state_dir=neo_daemons.state_dir)
            move(api.pid, api.port, neo_daemons.state_dir)

        def test_declared(api):
            assert api.port != SEEN["port"]
            assert answers(api.url)
            assert answers(os.environ["API_URL"])

            SEEN.update(pid=api.pid, port=api.port)

        def test_that_uses_no_daemon_is_not_asked():
            move(SEEN["pid"], SEEN["port"], SEEN["state_dir"])
            client = Client(StateDir(SEEN["state_dir"]))
            deadline = time.monotonic() + 60
            while not (now := client.status().daemon("api")).ready or now.pid == SEEN["pid"]:
                assert time.monotonic() < deadline
                time.sleep(0.02)

        def test_not_declared(neo_daemons):
            api = neo_daemons["api"]
            assert api.port != SEEN["port"]
            assert answers(api.url)
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 4}, outcome.text
