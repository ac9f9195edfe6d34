"""How a daemon comes to run: a survivor is adopted, or a new process spawned."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from neo_daemons.definitions import Launch, Unavailable, fingerprint
from neo_daemons.records import DaemonRecord
from neo_daemons.references import expand, expand_all
from neo_daemons.state_dir import StateDirLost
from neo_daemons.status import EventName

from .platform import Lock, Mark, Process, SpawnSpec, Unverifiable
from .ports import PortHeld
from .provision import Runner

if TYPE_CHECKING:
    from .daemon import Daemon

DATA_LOCK = ".neo-daemons.lock"
"""In a data directory: held by the daemon that uses it, and by the supervisor that started it. A supervisor that has
adopted the daemon does not hold it until it starts the daemon anew."""


class StartRefused(Exception):
    """A start that must not be; ``str()`` says why and what to do."""


async def adopt(daemon: Daemon, resolved: Launch | Unavailable) -> bool:
    """Take over what an earlier supervisor left running, or end what is left of it. Whether the daemon runs now.

    Raises:
        StartRefused: a process may be ours, and cannot be looked at.
    """
    site, record = daemon.site, daemon.pidfile.record
    process: Process | None = None
    if record is not None:
        try:
            process, stranger = site.ownership.find_living(record)
        except Unverifiable as error:
            raise StartRefused(f"{error}; end it by hand, then start {daemon.name}") from None
        if stranger is not None:
            daemon.note(EventName.RECORD_FOREIGN, f"{stranger}; it is left alone")
    leftovers = site.leftovers.pop(daemon.name, [])
    for leftover in leftovers:
        leftover.close()
    if process is None and record is not None:
        process = _heir(daemon, record)
    if process is None or record is None:
        await daemon.tree.sweep()
        daemon.clear_record()
        return False
    if record.pid != process.pid:
        record = daemon.pidfile.establish(process.pid, process.identity)
    daemon.ports.numbers = dict(record.ports)
    daemon.hold(process)
    if isinstance(resolved, Launch) and fingerprint(daemon.definition, resolved) != record.fingerprint:
        daemon.note(EventName.REPLACED, f"pid {process.pid} was started from another definition", process.pid)
        await daemon.tree.end(daemon.definition.stop)
        daemon.clear_record()
        daemon.ports.settle(record.ports)
        return False
    daemon.spawned(record, adopted=True)
    return True


def _heir(daemon: Daemon, record: DaemonRecord) -> Process | None:
    """The process of the recorded run that serves its port, where the recorded one is gone: a launcher has forked the
    daemon itself while nobody supervised."""
    if record.identity is not None and record.identity.boot_id != daemon.site.platform.boot_id():
        return None
    host = daemon.definition.host
    holders = {daemon.site.platform.port_holder(number, host) for number in record.ports.values()}
    pids = {holder.pid for holder in holders if holder is not None}
    heir: Process | None = None
    for process in daemon.site.ownership.of_run(record):
        if heir is None and process.pid in pids:
            heir = process
            daemon.note(
                EventName.FOLLOWED, f"pid {record.pid} on record is gone; what it left serves its port", process.pid
            )
        else:
            process.close()
    return heir


async def spawn(daemon: Daemon, launch: Launch) -> None:
    """Make what the daemon needs, make sure that nobody is in its way, and start its process.

    Raises:
        StartRefused: a port, the data directory or an earlier run is in the way.
        ProvisionFailed: what it needs could not be made.
        OSError: a file or the process could not be made.
    """
    site, definition = daemon.site, daemon.definition
    daemon.ports.settle(daemon.ports.numbers)
    try:
        site.keep_claim()
    except StateDirLost as error:
        raise StartRefused(str(error)) from None
    values = daemon.values()
    helper_env = daemon.environment(launch.env, site.ownership.mark(site.token, daemon.name))
    runner = Runner(
        site.platform,
        helper_env,
        daemon.log.open,
        daemon.log.path,
        daemon.progress,
        cwd=definition.cwd,
        tried=site.tried,
    )
    for provision in launch.provisions:
        await runner.provide(provision)
    inherited: list[Lock] = []
    if definition.data_dir is not None:
        data_dir = Path(definition.data_dir)
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        inherited.append(_lock_data(daemon, data_dir))
        for step in launch.before:
            await runner.run(expand_all(step, values), data_dir)
    for stale in launch.stale_files:
        Path(expand(stale, values)).unlink(missing_ok=True)
    daemon.progress(None)

    # From here to the spawn nothing waits, so that what was found stays true for as short as can be.
    try:
        for remark in daemon.ports.claim():
            daemon.note(EventName.PORT_TAKEN, remark)
    except PortHeld as error:
        raise StartRefused(str(error)) from None
    values = daemon.values()
    mark = site.ownership.mark(secrets.token_hex(16), daemon.name)
    env = daemon.environment(launch.env, mark)
    lock_path = site.state.daemon_lock(daemon.name)
    lock = site.platform.lock(lock_path)
    if lock is None:
        raise StartRefused(f"a process of an earlier run holds {lock_path} and cannot be told; see doctor")
    inherited.append(lock)
    try:
        process, record = _spawn(daemon, launch, values, env, mark, inherited)
    finally:
        # Now the daemon's own processes hold it, and it tells when the last of them is gone.
        lock.release()
    daemon.hold(process)
    try:
        daemon.pidfile.establish(process.pid, process.identity)
    except OSError as error:
        daemon.note(EventName.RECORD_NOT_WRITTEN, f"{error.strerror}; its mark still tells it", process.pid)
    daemon.spawned(record, adopted=False)


def _spawn(
    daemon: Daemon,
    launch: Launch,
    values: Mapping[str, str],
    env: Mapping[str, str],
    mark: Mark,
    inherited: list[Lock],
) -> tuple[Process, DaemonRecord]:
    definition = daemon.definition
    output = daemon.log.open()
    try:
        record = DaemonRecord(
            directory=mark.directory,
            name=daemon.name,
            token=mark.token,
            fingerprint=fingerprint(definition, launch),
            command=tuple(expand_all(launch.command, values)),
            ports=dict(daemon.ports.numbers),
            url=daemon.url,
            data_dir=definition.data_dir,
            log_path=str(daemon.log.path),
            spawned_at=time.time(),
            log_offset=daemon.log.end,
            log_inode=os.fstat(output).st_ino,
            restarts=daemon.restarts,
            exports=daemon.exports(),
        )
        daemon.pidfile.intend(record)
        locks = [lock.fileno() for lock in inherited]
        try:
            return daemon.site.platform.spawn(SpawnSpec(record.command, env, definition.cwd, output, locks)), record
        except OSError:
            daemon.pidfile.clear()
            raise
    finally:
        os.close(output)


def _lock_data(daemon: Daemon, data_dir: Path) -> Lock:
    path = data_dir / DATA_LOCK
    if daemon.data_lock is not None and not daemon.data_lock.is_at_its_path():
        daemon.data_lock.release()  # of a directory that was deleted
        daemon.data_lock = None
    if daemon.data_lock is None:
        daemon.data_lock = daemon.site.platform.lock(path, f"daemon {daemon.name} of {daemon.site.state.path}\n")
        if daemon.data_lock is None:
            holder = "somebody"
            with contextlib.suppress(OSError):
                holder = path.read_text(errors="replace").strip()[:300]
            raise StartRefused(
                f"its data directory {data_dir} is in use by {holder}; stop that, or set daemons.{daemon.name}.data_dir"
            )
    return daemon.data_lock
