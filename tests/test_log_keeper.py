"""A quiet log costs nothing until the system reports a change, and is kept within its limits all the same."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.definitions import Log
from neo_daemons.supervision import log_keeper
from neo_daemons.supervision.log_keeper import LogKeeper
from neo_daemons.supervision.logs import DaemonLog
from neo_daemons.supervision.platform import FileChanges, current_platform
from neo_daemons.supervision.platform.posix import PosixPlatform

PATIENCE_S = 20.0


class _Slot:
    """What the keeper uses of a slot."""

    def __init__(self, path: Path, max_bytes: int = 100_000) -> None:
        self.name = path.stem
        self.log = DaemonLog(path, Log(max_bytes=max_bytes, keep=1))
        self.notes: list[str] = []

    def note(self, event: str, detail: str | None = None) -> None:
        self.notes.append(event)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the daemons whose logs were checked, in order."""
    names: list[str] = []
    look = LogKeeper._look

    def counted(self: LogKeeper, slot: Any, kept: Any) -> float:
        names.append(slot.name)
        return look(self, slot, kept)

    monkeypatch.setattr(LogKeeper, "_look", counted)
    return names


async def until(met: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not met():  # noqa: ASYNC110 - files and counters send no event
            await asyncio.sleep(0.005)


def kept(slots: list[_Slot], work: Any, platform: Any = None) -> LogKeeper:
    """Keep the logs of these slots while `work` runs, which is called with the keeper if it takes an argument."""
    keeper = LogKeeper(platform or current_platform(), lambda: slots)  # type: ignore[arg-type,return-value]

    async def run() -> None:
        keeping = asyncio.get_running_loop().create_task(keeper.keep())
        try:
            await (work(keeper) if inspect.signature(work).parameters else work())
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    asyncio.run(run())
    return keeper


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often, so that the tests take less time."""
    monkeypatch.setattr(log_keeper, "LOOK_MAX_S", 0.05)
    monkeypatch.setattr(log_keeper, "AWOKEN_S", 0.01)


@pytest.mark.linux("it reports no changes of files, so logs are looked at every few seconds")
@pytest.mark.usefixtures("quick")
def test_a_quiet_log_is_not_looked_at(tmp_path: Path, checks: list[str]) -> None:
    quiet, busy = _Slot(tmp_path / "quiet.log"), _Slot(tmp_path / "busy.log")
    quiet.log.path.write_text("once\n")

    async def work() -> None:
        with busy.log.path.open("a") as log:

            def grows() -> bool:
                log.write("line\n")
                log.flush()
                return checks.count("busy") >= 20

            await until(grows)

    kept([quiet, busy], work)
    # The first check, and the one that found it unchanged.
    assert checks.count("quiet") <= 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("change", ["grows", "is emptied", "is deleted", "is replaced"])
def test_a_quiet_log_is_looked_at_once_it_changes(tmp_path: Path, checks: list[str], change: str) -> None:
    slot = _Slot(tmp_path / "api.log", max_bytes=1000)
    slot.log.path.write_text("line\n" * 10)
    slot.log.inode = slot.log.path.stat().st_ino

    async def work() -> None:
        await until(lambda: len(checks) >= 1)
        await asyncio.sleep(0.2)
        seen = len(checks)
        match change:
            case "grows":
                with slot.log.path.open("a") as log:
                    log.write("line\n" * 1000)
                await until(lambda: (tmp_path / "api.log.1").exists())
            case "is emptied":
                os.truncate(slot.log.path, 0)
                await until(lambda: "log-truncated" in slot.notes)
            case "is deleted":
                slot.log.path.unlink()
                await until(lambda: "log-deleted" in slot.notes)
            case "is replaced":
                other = tmp_path / "other"
                other.write_text("other\n")
                other.replace(slot.log.path)
                await until(lambda: "log-deleted" in slot.notes)
        assert len(checks) > seen

    kept([slot], work)


@pytest.mark.usefixtures("quick")
def test_new_limits_are_applied_to_a_quiet_log(tmp_path: Path, checks: list[str]) -> None:
    slot = _Slot(tmp_path / "api.log")
    slot.log.path.write_text("line\n" * 1000)

    async def work(keeper: LogKeeper) -> None:
        await until(lambda: len(checks) >= 1)
        slot.log.limits = Log(max_bytes=1000, keep=1)
        keeper.attend(slot.name)
        await until(lambda: (tmp_path / "api.log.1").exists())

    kept([slot], work)


@pytest.mark.usefixtures("quick")
def test_a_log_is_kept_where_the_system_reports_nothing(tmp_path: Path) -> None:
    class Silent(PosixPlatform):
        def file_changes(self) -> FileChanges | None:
            return None

    slot = _Slot(tmp_path / "api.log", max_bytes=1000)
    slot.log.path.write_text("line\n")

    async def work() -> None:
        await asyncio.sleep(0.2)
        with slot.log.path.open("a") as log:
            log.write("line\n" * 1000)
        await until(lambda: (tmp_path / "api.log.1").exists())

    kept([slot], work, Silent())


@pytest.mark.usefixtures("quick")
def test_a_daemon_that_is_gone_is_forgotten(tmp_path: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_keeper, "QUIET_S", 0.05)
    stays, goes = _Slot(tmp_path / "stays.log"), _Slot(tmp_path / "goes.log")
    slots = [stays, goes]
    for slot in slots:
        slot.log.path.write_text("line\n")

    async def work(keeper: LogKeeper) -> None:
        await until(lambda: {*checks} == {"stays", "goes"})
        slots.remove(goes)
        await until(lambda: goes.name not in keeper._kept)
        goes.log.path.write_text("line\n" * 10)  # a report of it must not disturb
        stays.log.path.write_text("line\n" * 10)
        seen = checks.count("stays")
        await until(lambda: checks.count("stays") > seen)

    kept(slots, work)


def test_the_log_of_a_new_run_is_looked_at(tmp_path: Path, checks: list[str]) -> None:
    slot = _Slot(tmp_path / "api.log", max_bytes=1000)

    async def work(keeper: LogKeeper) -> None:
        await until(lambda: not keeper._soon and len(checks) >= 1)  # there is none yet
        slot.log.path.write_text("line\n" * 1000)
        slot.log.inode = slot.log.path.stat().st_ino
        keeper.attend(slot.name)
        await until(lambda: (tmp_path / "api.log.1").exists())

    kept([slot], work)


@pytest.mark.linux("it reports no changes of files, so logs are looked at every few seconds")
def test_the_system_reports_each_change_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    reports: list[int] = []

    async def work() -> None:
        changes = current_platform().file_changes()
        assert changes is not None
        try:
            assert not changes.report_next(tmp_path / "missing", lambda: reports.append(0))
            for number in (1, 2):
                assert changes.report_next(path, functools.partial(reports.append, number))
                for _ in range(100):
                    with path.open("a") as file:
                        file.write("line\n")
                await until(functools.partial(reports.__contains__, number))
        finally:
            changes.close()
        assert reports == [1, 2]

    asyncio.run(work())
