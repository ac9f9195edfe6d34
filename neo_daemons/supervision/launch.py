"""Begin a run: adopt a survivor or spawn a new process."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from neo_daemons.definitions import CannotRun, Launch
from neo_daemons.files import write_whole
from neo_daemons.records import DaemonRecord
from neo_daemons.references import expand, expand_all
from neo_daemons.state_dir import StateDirLost
from neo_daemons.status import EventName

from . import faults
from .following import runs_below, what_changed
from .other_user import Barred, check_way, give, open_place
from .platform import ExitStatus, Lock, Mark, Process, SpawnSpec, Unverifiable
from .ports import PortHeld
from .provision import Runner
from .run import Run
from .slot import Slot, Values

LAUNCHER_S = 5.0
"""A command without a readiness probe that exits with 0 within this time and leaves processes was a launcher."""


class StartRefused(Exception):
    """The daemon must not be started; ``str()`` says why and how to fix it."""


async def resolve(slot: Slot) -> Launch | CannotRun:
    """Return how to run a daemon on this machine."""
    if slot.definition.files:  # reading its files may take long, and probes must not wait for that
        return await asyncio.to_thread(slot.context.resolve, slot.definition)
    return slot.context.resolve(slot.definition)


async def adopt(slot: Slot, launch: Launch | None) -> Run | None:
    """Adopt the run that an earlier supervisor left; without one, stop its leftover processes and return None.

    Args:
        launch: how the daemon would be started now, if it can.

    Raises:
        StartRefused: a process may be ours but cannot be identified.
    """
    context, record = slot.context, slot.pidfile.record
    process: Process | None = None
    if record is not None:
        try:
            process, stranger = context.ownership.find_living(record)
        except Unverifiable as error:
            raise StartRefused(
                f"{error}; stop it yourself, then run `{context.state_dir.command(f'start {slot.name}')}`"
            ) from None
        if stranger is not None:
            slot.note(EventName.RECORD_FOREIGN, f"{stranger}; not touched")
        if process is None:
            process = await _follow_record(slot, record)
    if process is None or record is None:
        slot.clear_record(gone=await slot.tree.sweep())
        return None
    if record.pid != process.pid:
        record = slot.pidfile.establish(process.pid, process.identity)
    slot.ports.assign(record.ports)
    return Run(slot, process, record, launch, adopted=True)


def is_outdated(slot: Slot, launch: Launch | None) -> bool:
    """Whether the recorded run was started from a different definition than the current one."""
    record = slot.pidfile.record
    return launch is not None and record is not None and slot.fingerprint(launch) != record.fingerprint


def done_since(slot: Slot, launch: Launch) -> str | None:
    """Return since when a daemon that runs once is done; None if it is not, or what it depends on has changed."""
    record = slot.done.record if slot.definition.oneshot else None
    if record is None or record.fingerprint != slot.fingerprint(launch) or what_changed(slot) is not None:
        return None
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.at))
    return f"since {when}; what it depends on has not changed"


async def _follow_record(slot: Slot, record: DaemonRecord) -> Process | None:
    """Find the process of the recorded run that serves its port when the recorded process is gone: a forking daemon
    put its real process into the background while no supervisor ran."""
    context = slot.context
    if record.identity is not None and record.identity.boot_id != context.platform.boot_id():
        return None
    processes = context.ownership.of_run(record, await context.census.everywhere())
    if not processes:
        return None
    holders = {context.platform.port_holder(number, slot.definition.host) for number in record.ports.values()}
    pids = {holder.pid for holder in holders if holder is not None}
    found: Process | None = None
    for process in processes:
        if found is None and process.pid in pids:
            found = process
            slot.note(
                EventName.FOLLOWED,
                f"recorded pid {record.pid} is gone, but a process that it left behind still serves its port",
                process.pid,
            )
        else:
            process.close()
    return found


def find_daemonized(run: Run, status: ExitStatus, *, was_starting: bool) -> Process | None:
    """Find the real process of a forking daemon whose main process has just exited.

    Args:
        was_starting: the daemon was not ready yet.
    """
    slot, record = run.slot, run.slot.pidfile.record
    if record is None or status.signal is not None or slot.definition.oneshot or slot.definition.speaks_stdio:
        return None
    # The process that we followed may have been another fork of a launcher. It is not our child, so its exit code may
    # not be known yet.
    if status.code != 0 and not (run.followed and status.code is None):
        return None
    # Without a readiness probe it was ready at once, so its age distinguishes a launcher from a daemon that exited.
    by_age = run.followed or not slot.definition.ready
    if not was_starting and not (by_age and run.age_s < LAUNCHER_S):
        return None
    try:
        left = slot.context.ownership.of_run(record, slot.context.census.at_once(among_orphans=not run.adopted))
    except OSError as error:  # e.g. no descriptor left: what cannot be followed is restarted
        faults.report(f"searching for the processes that {slot.name} left", error)
        return None
    for other in left[1:]:
        other.close()
    return left[0] if left else None


async def spawn(slot: Slot, launch: Launch, progress: Callable[[str | None], None]) -> Run:
    """Create what the daemon needs, check for conflicts, and start its process.

    Args:
        progress: called with the current step, and with None when it is done.

    Raises:
        StartRefused: a port, the data directory or an earlier run conflicts.
        ProvisionFailed: a provision could not be created.
        OSError: a file or the process could not be created.
    """
    context = slot.context
    if context.is_stopping():  # and may wait for a reload before it stops this daemon
        raise StartRefused("the supervisor is stopping")
    slot.ports.settle(slot.ports.numbers)
    try:
        context.keep_claim()
    except StateDirLost as error:
        raise StartRefused(str(error)) from None
    if slot.definition.oneshot:
        slot.done.forget()  # if this run is killed, it is not done
    try:
        inherited = await _provide(slot, launch, progress)
    except Barred as error:
        raise StartRefused(str(error)) from None
    values = slot.values()
    for stale in launch.stale_files:
        Path(expand(stale, values)).unlink(missing_ok=True)
    for path, content in launch.files.items():
        write_whole(Path(expand(path, values)), expand(content, values).encode(), mode=0o600)
    progress(None)

    # From here to the spawn nothing waits, to keep the time between check and use short.
    try:
        for remark in slot.ports.claim():
            slot.note(EventName.PORT_TAKEN, remark)
    except PortHeld as error:
        raise StartRefused(str(error)) from None
    in_files, values = values.used, slot.values()
    mark = context.ownership.mark(secrets.token_hex(16), slot.name)
    env = slot.environment(launch.env, mark, values)
    values.used.update(in_files)
    lock_path = context.state_dir.daemon_lock(slot.name)
    lock = context.platform.lock(lock_path)
    if lock is None:
        raise StartRefused(
            f"{lock_path} is still locked by an unidentified process of an earlier run; "
            f"run `{context.state_dir.command('doctor')}`"
        )
    inherited.append(lock)
    try:
        process, record = _spawn(slot, launch, values, env, mark, inherited)
    finally:
        # The daemon's own processes hold it now, so it is free when the last of them exits.
        lock.release()
    run = Run(slot, process, record, launch, adopted=False)
    try:
        slot.pidfile.establish(process.pid, process.identity)
    except OSError as error:
        slot.note(EventName.RECORD_NOT_WRITTEN, f"{error.strerror}; its mark still identifies it", process.pid)
    return run


async def _provide(slot: Slot, launch: Launch, progress: Callable[[str | None], None]) -> list[Lock]:
    """Create what the daemon needs. Returns the locks that its process inherits."""
    definition = slot.definition
    if launch.account is not None:
        remedy = f"set daemons.{slot.name}.cwd to a directory that it may enter, or open that one with chmod o+x"
        check_way(launch.account, "cwd", Path(definition.cwd), remedy)
    for provision in launch.provisions:
        await _runner(slot, launch, progress).provide(provision)
    if definition.data_dir is None:
        return []
    data_dir = Path(definition.data_dir)
    if not data_dir.exists():
        from neo_daemons.seeds import replacing  # rarely needed

        replacing.finish(data_dir)  # a restore that was killed: an empty directory must not hide its data
    if launch.account is not None:
        if data_dir.parent == slot.context.state_dir.open_data:
            open_place(data_dir.parent)
        give(launch.account, data_dir)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = slot.lock_data()
    if isinstance(lock, str):
        raise StartRefused(
            f"data directory {data_dir} is in use by {lock}; stop it or set daemons.{slot.name}.data_dir"
        )
    for step in launch.before:
        await _runner(slot, launch, progress).run(expand_all(step, slot.values()), data_dir)
    return [lock]


def _runner(slot: Slot, launch: Launch, progress: Callable[[str | None], None]) -> Runner:
    context = slot.context
    return Runner(
        context.platform,
        slot.environment(launch.env, context.ownership.mark(context.token, slot.name)),
        slot.log.open,
        slot.log.path,
        progress,
        cwd=slot.definition.cwd,
        tried=context.tried,
    )


def _spawn(
    slot: Slot, launch: Launch, values: Values, env: Mapping[str, str], mark: Mark, inherited: list[Lock]
) -> tuple[Process, DaemonRecord]:
    definition = slot.definition
    output = slot.log.open()
    try:
        command = tuple(expand_all(launch.command, values))
        record = DaemonRecord(
            directory=mark.directory,
            name=slot.name,
            token=mark.token,
            fingerprint=slot.fingerprint(launch),
            command=command,
            ports=dict(slot.ports.numbers),
            url=slot.url,
            data_dir=definition.data_dir,
            log_path=str(slot.log.path),
            spawned_at=time.time(),
            log_offset=slot.log.end,
            log_inode=os.fstat(output).st_ino,
            restarts=slot.restarts,
            exports=slot.exports(),
            used=values.used,
            runs_below=runs_below(slot),
        )
        slot.pidfile.intend(record)
        locks = [lock.fileno() for lock in inherited]
        spec = SpawnSpec(record.command, env, definition.cwd, output, locks, launch.account)
        try:
            if launch.account is not None:
                slot.context.ownership.expect(mark)
                os.fchown(output, launch.account.uid, launch.account.gid)  # it may open /dev/stderr anew
            return slot.context.platform.spawn(spec), record
        except OSError:
            slot.pidfile.clear()
            raise
    finally:
        os.close(output)
