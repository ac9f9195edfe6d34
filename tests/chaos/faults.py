"""What strikes: each fault by its name, with how often it is to be chosen. One that found nothing to strike says so,
and is not counted."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from neo_daemons import records
from neo_daemons.control.client import ControlError
from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, DamagedRecord, SupervisorRecord
from neo_daemons.supervision import journal

from .stage import PATIENCE_S, Stage
from .watch import PROGRAMS

DAEMONS = tuple(PROGRAMS)
FILLER = b'{"at":0.0,"event":"filler","detail":"' + b"x" * 900 + b'"}\n'


class Fault(NamedTuple):
    """One kind."""

    weight: float
    strike: Callable[[Stage], object]
    """Returns False where there was nothing to strike."""
    ends_supervisor: bool = False


# Daemons


def _daemon(signum: int) -> Callable[[Stage], bool]:
    return lambda stage: stage.signal(stage.rng.choice(DAEMONS), signum)


def _daemon_pauses(stage: Stage) -> bool:
    name = stage.rng.choice(DAEMONS)
    stage.later(stage.rng.uniform(0.2, 5.0), lambda: stage.signal(name, signal.SIGCONT))
    return stage.signal(name, signal.SIGSTOP)


def _daemon_hangs(stage: Stage) -> bool:
    """For good: its liveness probes must notice."""
    return stage.signal(stage.rng.choice(("chroma", "mlx", "bridge", "worker")), signal.SIGSTOP)


def _child(stage: Stage) -> bool:
    return stage.signal("worker", stage.rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)), child=True)


def _all_at_once(stage: Stage) -> None:
    for name in DAEMONS:
        stage.signal(name, signal.SIGKILL)


# Orders


def _restart(stage: Stage) -> None:
    stage.order(stage.rng.choice(DAEMONS), "restart")


def _stop_and_start(stage: Stage) -> bool:
    name = stage.rng.choice(DAEMONS)
    if name in stage.held:
        return False
    stage.order(name, "stop")
    stage.later(stage.rng.uniform(0.0, 3.0), lambda: stage.order(name, "start"))
    return True


def _hold(stage: Stage) -> bool:
    """A daemon that is held and killed stays down, over the deaths of supervisors too."""
    name = stage.rng.choice(DAEMONS)
    if name in stage.held:
        return False
    stage.held.add(name)
    try:
        stage.client.order(name, "hold")
    except ControlError:
        stage.held.discard(name)
        return False
    stage.signal(name, signal.SIGKILL)

    def release() -> None:
        if not stage.client.status().daemon(name).held:
            stage.broken.append(f"a hold of {name} was forgotten")
        stage.held.discard(name)
        stage.order(name, "release")

    stage.later(stage.rng.uniform(1.0, 4.0), release)
    return True


def _reload(stage: Stage) -> None:
    stage.revision += 1
    stage.configure()
    if stage.rng.random() < 0.4:
        assert stage.supervisor is not None
        stage.supervisor.send_signal(signal.SIGHUP)
        return
    done = stage.project.run("reload", timeout_s=PATIENCE_S)
    if done.returncode:
        stage.broken.append(f"reload ended with {done.returncode}: {done.stderr}")


# Supervisors


def _supervisor_pauses(stage: Stage) -> None:
    assert stage.supervisor is not None
    stage.supervisor.send_signal(signal.SIGSTOP)
    _wait_and_strike(stage, stage.rng.uniform(0.1, 2.0))
    stage.supervisor.send_signal(signal.SIGCONT)


def _supervisor_killed(stage: Stage) -> None:
    stage.kill()
    _wait_and_strike(stage, stage.rng.choice((0.0, 0.0, 0.5, 2.0)))
    stage.start()


def _supervisor_killed_while_it_starts(stage: Stage) -> None:
    stage.kill()
    for _ in range(stage.rng.randrange(1, 4)):
        starting = stage.spawn()
        time.sleep(stage.rng.uniform(0.2, 1.5))
        starting.kill()
        starting.wait()
    stage.start()


def _two_supervisors_at_once(stage: Stage) -> None:
    stage.kill()
    stage.settle(stage.spawn(), stage.spawn())


def _second_supervisor(stage: Stage) -> None:
    """It is refused."""
    second = stage.spawn()
    code = second.wait(PATIENCE_S)
    if code != 4:
        stage.broken.append(f"serve beside a living supervisor ended with {code}: {stage.output()}")


def _takeover(stage: Stage) -> None:
    old = stage.supervisor
    assert old is not None
    new = stage.spawn("--takeover")
    code = old.wait(PATIENCE_S)
    if code:
        stage.broken.append(f"a supervisor that was taken over ended with {code}")
    stage.settle(new)


def _supervisor_ends_and_leaves(stage: Stage) -> None:
    assert stage.supervisor is not None
    stage.client.shutdown(detach=True)
    code = stage.supervisor.wait(PATIENCE_S)
    if code:
        stage.broken.append(f"a supervisor that was told to detach ended with {code}")
    stage.start()


def _supervisor_ends(stage: Stage) -> None:
    """And all daemons with it, whatever is wrong with them just now."""
    assert stage.supervisor is not None
    stage.supervisor.send_signal(signal.SIGTERM)
    if stage.rng.random() < 0.3:
        stage.signal(stage.rng.choice(DAEMONS), signal.SIGSTOP)
    code = stage.supervisor.wait(PATIENCE_S)
    left = stage.project.left()
    if code or left:
        stage.broken.append(f"a supervisor that was told to end ended with {code}, and left {left}")
    stage.start()


def _wait_and_strike(stage: Stage, wait_s: float) -> None:
    """While nobody watches."""
    if stage.rng.random() < 0.5:
        stage.signal(stage.rng.choice(DAEMONS), stage.rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)))
    time.sleep(wait_s)


# Records, between two lives


def _between_lives(change: Callable[[Stage], object]) -> Callable[[Stage], object]:
    def strike(stage: Stage) -> object:
        stage.kill()
        changed = change(stage)
        stage.start()
        return changed

    return strike


def _record(stage: Stage) -> DaemonRecord | None:
    with contextlib.suppress(DamagedRecord, OSError):
        return records.read(stage.state.daemon_record(stage.rng.choice(DAEMONS)), DaemonRecord)
    return None


def _forged_pid(stage: Stage) -> bool:
    """The record's pid is the bystander's, as if it had passed on to that process."""
    record = _record(stage)
    if record is None:
        return False
    forged = msgspec.structs.replace(record, pid=stage.bystander.pid)
    write_struct(stage.state.daemon_record(record.name), forged)
    return True


def _forged_identity(stage: Stage) -> bool:
    """The record describes the bystander, which has neither mark nor lock, in every way."""
    record = _record(stage)
    if record is None:
        return False
    forged = msgspec.structs.replace(record, pid=stage.bystander.pid, identity=stage.bystander.identity())
    write_struct(stage.state.daemon_record(record.name), forged)
    return True


def _forged_supervisor(stage: Stage) -> bool:
    """It looks as if the bystander supervised."""
    with contextlib.suppress(DamagedRecord, OSError):
        record = records.read(stage.state.record, SupervisorRecord)
        if record is not None:
            forged = msgspec.structs.replace(record, pid=stage.bystander.pid, identity=stage.bystander.identity())
            write_struct(stage.state.record, forged)
            return True
    return False


def _damaged_record(stage: Stage) -> bool:
    record = _record(stage)
    if record is None:
        return False
    path = stage.state.daemon_record(record.name)
    data = path.read_bytes()
    path.write_bytes(stage.rng.choice((b"", data[: len(data) // 2], b"\0" * 100, json.dumps([1]).encode())))
    return True


def _long_journal(stage: Stage) -> bool:
    """So long that the next supervisor begins another; once, so that what happened is all there at the end."""
    if stage.counts["long-journal"]:
        return False
    with stage.state.journal.open("ab") as file:
        file.write(FILLER * (journal.MAX_BYTES // len(FILLER) + 1))
    return True


ALL: Mapping[str, Fault] = {
    "kill-daemon": Fault(10, _daemon(signal.SIGKILL)),
    "term-daemon": Fault(4, _daemon(signal.SIGTERM)),
    "pause-daemon": Fault(5, _daemon_pauses),
    "hang-daemon": Fault(3, _daemon_hangs),
    "strike-child": Fault(3, _child),
    "kill-all-daemons": Fault(1, _all_at_once),
    "restart": Fault(4, _restart),
    "stop-start": Fault(4, _stop_and_start),
    "hold-release": Fault(3, _hold),
    "reload": Fault(3, _reload),
    "add-client": Fault(10, lambda stage: stage.clients.add()),
    "kill-client": Fault(4, lambda stage: stage.clients.kill()),
    "pause-client": Fault(4, lambda stage: stage.clients.stop()),
    "pause-supervisor": Fault(2, _supervisor_pauses),
    "second-supervisor": Fault(1, _second_supervisor),
    "kill-supervisor": Fault(3, _supervisor_killed, ends_supervisor=True),
    "kill-starting-supervisor": Fault(2, _supervisor_killed_while_it_starts, ends_supervisor=True),
    "two-supervisors": Fault(2, _two_supervisors_at_once, ends_supervisor=True),
    "takeover": Fault(2, _takeover, ends_supervisor=True),
    "detach-supervisor": Fault(1, _supervisor_ends_and_leaves, ends_supervisor=True),
    "term-supervisor": Fault(1, _supervisor_ends, ends_supervisor=True),
    "forged-pid": Fault(1.5, _between_lives(_forged_pid), ends_supervisor=True),
    "forged-identity": Fault(1.5, _between_lives(_forged_identity), ends_supervisor=True),
    "forged-supervisor": Fault(1, _between_lives(_forged_supervisor), ends_supervisor=True),
    "damaged-record": Fault(1, _between_lives(_damaged_record), ends_supervisor=True),
    "long-journal": Fault(1, _between_lives(_long_journal), ends_supervisor=True),
}


def choose(rng: random.Random, without: frozenset[str], *, supervisor_lives: bool) -> str:
    """The name of one, by the weights."""
    names = [name for name in ALL if name not in without and not (supervisor_lives and ALL[name].ends_supervisor)]
    return rng.choices(names, [ALL[name].weight for name in names])[0]
