"""Hurts daemons of its own, and looks at the shared one before and after."""

# mypy: ignore-errors

import os
import pathlib
import urllib.request

import pytest

from pytest_neo_daemons import FaultRefused

HERE = pathlib.Path(__file__).parent
PARALLEL = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") != "1"


@pytest.fixture
def built(api):
    return api.pid, api.port, api.data_dir


def check(built, api, kind):
    assert built == (api.pid, api.port, api.data_dir)
    assert urllib.request.urlopen(api.url, timeout=20).status == 200
    with (HERE / kind).open("a") as file:
        print(*built, api.log_path, file=file)


@pytest.mark.parametrize("number", range(2))
def test_before(built, api, number):
    check(built, api, "shared")


@pytest.mark.neo_daemons("api", isolated=True)
def test_isolated(built, api):
    check(built, api, "own")
    for fault in (api.kill, api.restart):
        pid = api.pid
        fault()
        api.wait_ready()
        assert api.pid != pid
    api.pause()
    api.resume()
    api.stop()
    api.start()
    (HERE / "own-pids").open("a").write(f"{api.pid}\n")


@pytest.mark.neo_daemons("api", isolated=True)
@pytest.mark.parametrize("number", range(2))
def test_another(built, api, number):
    check(built, api, "own")
    (HERE / "own-pids").open("a").write(f"{api.pid}\n")
    api.pause()


def test_after(built, api):
    check(built, api, "shared")


@pytest.mark.parametrize("fault", ["kill", "pause", "resume", "stop", "start", "restart"])
def test_refused(built, api, fault):
    check(built, api, "shared")
    if PARALLEL:
        with pytest.raises(FaultRefused, match=r"new_daemon\('api'\)"):
            getattr(api, fault)()
