"""Provisions are created once, tested before they count, and recreated when they break."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.catalog.neo_mjs import NODE_TELLS, NPM_TELLS
from neo_daemons.definitions import Definition, Launch, LogProbe, Provision, Restart, Step
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import Lock, Platform, current_platform
from neo_daemons.supervision.provision import TRIED, ProvisionFailed, Runner, doubt, try_now
from neo_daemons.supervision.supervisor import Supervisor

pytestmark = pytest.mark.long


class Place:
    """A cache, a log, and a record of the steps."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.target = root / "cache" / "thing"
        self.done = root / "done"
        self.log = root / "log"
        self.said: list[str] = []

    def provision(
        self, make: str = "echo good > product", *, trial: str = 'grep -q good "$0/product"', **settings: Any
    ) -> Provision:
        """One that notes each time that it is made, or tried."""
        return Provision(
            target=str(self.target),
            steps=(Step(title="making", command=("sh", "-c", f"echo made >> {self.done}; {make}")),),
            trial=Step(title="trying", command=("sh", "-c", f"echo tried >> {self.done}; {trial}")),
            **settings,
        )

    def runner(self, platform: Platform | None = None, tried: set[str] | None = None) -> Runner:
        return Runner(
            platform or current_platform(),
            dict(os.environ),
            lambda: os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
            self.log,
            self.said.append,
            cwd=str(self.root),
            tried=tried,
        )

    def provide(self, provision: Provision) -> None:
        """As a supervisor does at its first start."""
        run(self.runner().provide(provision))

    def refused(self, provision: Provision) -> str:
        with pytest.raises(ProvisionFailed) as caught:
            self.provide(provision)
        return str(caught.value)

    @property
    def steps(self) -> list[str]:
        """What was done since this was last asked."""
        steps = self.done.read_text().split() if self.done.exists() else []
        self.done.unlink(missing_ok=True)
        return steps

    @property
    def product(self) -> str:
        return (self.target / "product").read_text()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_provision_is_trusted_once_it_was_tested(place: Place) -> None:
    place.provide(place.provision())
    assert place.steps == ["made", "tried"]
    place.provide(place.provision())
    assert place.steps == []


def test_a_broken_provision_is_not_kept_and_the_reason_is_reported(place: Place) -> None:
    bad = place.provision("echo bad > product", trial="echo first; echo the product is bad; exit 3")
    assert place.refused(bad) == f"trying: the product is bad; its output is in {place.log}"
    assert [path.name for path in place.target.parent.iterdir()] == ["thing.lock"]
    place.provide(place.provision())
    assert place.product == "good\n"


def test_a_failed_step_leaves_what_the_next_try_goes_on_with_and_nothing_else(place: Place) -> None:
    place.refused(place.provision("exit 1"))
    assert [path.name for path in place.target.parent.iterdir()] == ["thing.lock"]
    place.refused(place.provision("echo half > begun; exit 1"))
    assert sorted(path.name for path in place.target.parent.iterdir()) == ["thing.lock", "thing.partial"]


def test_an_untested_provision_of_an_older_version_is_tested_and_recreated_if_broken(place: Place) -> None:
    place.target.mkdir(parents=True)
    (place.target / "product").write_text("bad\n")
    place.provide(place.provision())
    assert place.steps == ["tried", "made", "tried"]
    assert place.product == "good\n"
    assert sorted(path.name for path in place.target.parent.iterdir()) == ["thing", "thing.lock"]


def test_finished_steps_are_repeated_if_their_product_does_not_work(place: Place) -> None:
    partial = place.target.with_name("thing.partial")
    partial.mkdir(parents=True)
    (partial / ".step-1-done").touch()
    place.provide(place.provision())
    assert place.steps == ["tried", "made", "tried"]


def test_a_provision_that_lost_a_file_is_recreated(place: Place) -> None:
    provision = place.provision(holds=("product",))
    place.provide(provision)
    (place.target / "product").unlink()
    place.provide(provision)
    assert place.product == "good\n"
    assert place.steps == ["made", "tried", "made", "tried"]


def test_a_provision_stays_until_its_replacement_works(place: Place) -> None:
    """Trial and steps may fail in the environment of one shell; a provision that works elsewhere must survive."""
    place.provide(place.provision(holds=("product",)))
    for make in ("exit 1", "echo bad > product"):
        doubt(place.provision())
        place.refused(place.provision(make, trial="exit 1"))
        assert place.product == "good\n"
    place.steps  # noqa: B018
    place.provide(place.provision())
    assert place.steps == ["tried"]


def test_a_quick_trial_is_made_once_by_each_supervisor(place: Place) -> None:
    provision = place.provision(always_tried=True)
    tried = set[str]()
    run(place.runner(tried=tried).provide(provision))
    run(place.runner(tried=tried).provide(provision))
    assert place.steps == ["made", "tried"]
    (place.target / "product").write_text("broken since\n")
    place.provide(provision)
    assert place.steps == ["tried", "made", "tried"]
    assert place.product == "good\n"


def test_a_doubted_provision_is_tested_again_and_kept_if_it_works(place: Place) -> None:
    place.provide(place.provision())
    doubt(place.provision())
    place.provide(place.provision())
    assert place.steps == ["made", "tried", "tried"]
    assert (place.target / TRIED).exists()


def test_a_trial_that_cannot_run_rejects_nothing(place: Place) -> None:
    place.provide(place.provision())
    for command, said in ((("/nowhere/node",), "does not exist"), (("sh", "-c", "kill -9 $$"), "killed by SIGKILL")):
        trial = Step(title="trying", command=command)
        doubt(place.provision())
        provision = Provision(target=str(place.target), steps=place.provision().steps, trial=trial)
        assert said in place.refused(provision)
        assert place.product == "good\n"


def test_a_trial_that_hangs_is_given_up(place: Place) -> None:
    hanging = Step(title="trying", command=("sh", "-c", "sleep 1000"), timeout_s=0.1)
    provision = Provision(target=str(place.target), steps=place.provision().steps, trial=hanging)
    assert place.refused(provision) == f"trying: not finished after 0.1 s; its output is in {place.log}"


class Unwritable:
    """The real platform, except that locks fail, which root never experiences."""

    def __init__(self, code: int) -> None:
        self._code = code
        self._platform = current_platform()

    def lock(self, path: Path, note: str = "") -> Lock | None:
        raise OSError(self._code, os.strerror(self._code), str(path))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_cache_of_another_user_is_used_if_it_works_and_named_if_it_does_not(place: Place, code: int) -> None:
    platform: Any = Unwritable(code)
    with pytest.raises(ProvisionFailed) as caught:
        run(place.runner(platform).provide(place.provision()))
    reason = os.strerror(code)
    remedy = "set NEO_DAEMONS_CACHE_DIR to a writable directory"
    assert str(caught.value) == f"cannot create {place.target}: {reason}: {place.target}.lock; {remedy}"
    place.provide(place.provision())
    (place.target / TRIED).unlink()
    run(place.runner(platform).provide(place.provision()))
    (place.target / TRIED).unlink()
    (place.target / "product").write_text("bad\n")
    with pytest.raises(
        ProvisionFailed, match=r"cannot be recreated.* set NEO_DAEMONS_CACHE_DIR to a directory of your"
    ):
        run(place.runner(platform).provide(place.provision()))


def test_what_a_step_says_of_its_progress_is_shown(place: Place) -> None:
    gate = place.root / "gate"
    script = f"echo 1 of 2 GB; while [ ! -e {gate} ]; do sleep 0.02; done"
    step = Step(title="fetching", command=("sh", "-c", script), shows_progress=True)

    def progress(text: str) -> None:
        if text == "fetching: 1 of 2 GB":
            gate.touch()

    runner = place.runner()
    runner._progress = progress
    run(runner.run(step, place.root))
    assert gate.exists()


def test_a_check_reports_and_changes_nothing(place: Place) -> None:
    platform, env = current_platform(), dict(os.environ)
    assert try_now(place.provision(), platform, env, "/") == "does not exist"
    place.provide(place.provision())
    assert try_now(place.provision(), platform, env, "/") is None
    (place.target / "product").write_text("bad\n")
    provision = place.provision(trial="echo it is bad; exit 1")
    assert try_now(provision, platform, env, "/") == "does not work (trying: it is bad)"
    assert place.product == "bad\n"


def test_a_check_reports_that_nothing_can_be_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.provide(place.provision())
    gone = place.root / "gone"
    monkeypatch.setattr(tempfile, "tempdir", str(gone))
    said = try_now(place.provision(), current_platform(), dict(os.environ), "/")
    assert said is not None
    assert said.startswith(f"could not be tried: No such file or directory: {gone}/")


def test_a_log_that_cannot_be_written_is_named(place: Place) -> None:
    place.log.mkdir()
    said = f"making: its output cannot be written: Is a directory: {place.log}"
    assert place.refused(place.provision()) == said


def test_a_failure_without_a_file_is_reported_without_one(place: Place) -> None:
    class Exhausted:
        def lock(self, path: Path, note: str = "") -> Lock | None:
            raise OSError("no lock to be had")

    platform: Any = Exhausted()
    with pytest.raises(ProvisionFailed, match=r"thing: no lock to be had; set NEO_DAEMONS_CACHE_DIR"):
        run(place.runner(platform).provide(place.provision()))


def test_a_daemon_whose_provision_has_broken_is_ready_after_its_next_start(place: Place) -> None:
    """Only a failing start shows that it is broken; then it is tested and recreated."""
    provision = place.provision()
    place.provide(provision)
    (place.target / "product").write_text("bad\n")
    script = f"grep -q good {place.target}/product && echo up && exec sleep 1000"
    definition = Definition(
        name="api",
        cwd=str(place.root),
        ready=(LogProbe(pattern="up"),),
        restart=Restart(base_s=0.01),
    )
    launch = Launch(command=("sh", "-c", script), provisions=(provision,))

    async def supervise() -> None:
        supervisor = Supervisor((definition,), state_dir=StateDir(place.root / "state"), resolve=lambda d: launch)
        await supervisor.start()
        try:
            assert await supervisor.daemon("api").wait_for(lambda daemon: daemon.ready, 30)
            assert supervisor.daemon("api").slot.restarts == 1
        finally:
            await supervisor.stop()
            supervisor.release()

    run(supervise())
    assert place.product == "good\n"


NPM = """\
npm error code {code}
npm error syscall write
npm error errno -28
npm error {kind} {line}
npm error {kind} Something longer.
npm error A complete log of this run can be found in: /x/y.log
"""


@pytest.mark.parametrize(
    ("telling", "output", "reason"),
    [
        (NPM_TELLS, NPM.format(code="ENOSPC", kind="nospc", line="ENOSPC: no space left"), "ENOSPC: no space left"),
        (
            NPM_TELLS,
            NPM.format(code="ENOTFOUND", kind="network", line="request to http://x failed, reason: y"),
            "request to http://x failed, reason: y",
        ),
        (
            NPM_TELLS,
            "npm error code 1\nnpm error path /x\nnpm error command failed\n"
            "npm error gyp ERR! stack Error: not found: make\nnpm error A complete log of this run\n",
            "not found: make",
        ),
        (
            NODE_TELLS,
            "file:///x.mjs:3\n    throw new Error()\nTypeError: no such thing\n    at x (y)\n",
            "no such thing",
        ),
    ],
    ids=["disk full", "no network", "no compiler", "node"],
)
def test_the_relevant_line_of_much_output_is_reported(
    place: Place, telling: tuple[str, ...], output: str, reason: str
) -> None:
    program = f"import sys; sys.stdout.write({output!r}); sys.exit(1)"
    step = Step(title="installing", command=(sys.executable, "-IS", "-c", program), telling=telling)
    with pytest.raises(ProvisionFailed) as caught:
        run(place.runner().run(step, place.root))
    assert f"{reason}; its output is in {place.log}" in str(caught.value)
    assert str(caught.value).startswith("installing: ")
