"""The contract between the core and the operating system. `linux` and `posix` implement it.

No other package of the project spawns a process or sends a signal.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from neo_daemons.definitions import Account, is_name
from neo_daemons.records import Directory, Identity

MARK_VARIABLE = "NEO_DAEMONS_MARK"
"""Environment variable that every process of a daemon inherits: ``token:name:device.inode:state_dir``."""


class ExitStatus(Struct, frozen=True):
    """How a process exited: by an exit code or by a signal. Neither is set if the kernel does not report it."""

    code: int | None = None
    signal: str | None = None

    @property
    def clean(self) -> bool:
        """Whether it exited with code 0."""
        return self.code == 0

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {self.signal}"
        return "exited (exit code unknown)" if self.code is None else f"exit code {self.code}"


class Mark(Struct, frozen=True):
    """Identifies the processes of a daemon. The spawn writes it into their environment, from which it is read later."""

    token: str
    """Unique to one spawn."""
    name: str
    directory: Directory
    """The state directory."""
    foreign: bool = False
    """Whether the process belongs to another user. Only root sees those, and any user can write a mark: it proves
    something only if its token is known, which that user could not guess."""

    @property
    def state_dir(self) -> str:
        """The path of the state directory at the spawn."""
        return self.directory.path

    def __str__(self) -> str:
        return f"{self.token}:{self.name}:{self.directory.key}:{self.directory.path}"

    @classmethod
    def parse(cls, text: str, *, foreign: bool = False) -> Mark | None:
        """Parse the value of the environment variable; None if it is not a mark."""
        # Any user can put one into the environment of their own process, so it is checked before it becomes a path.
        found = re.fullmatch(r"([0-9a-f]{32}):([^:]*):([0-9a-f]{1,16})\.([0-9a-f]{1,16}):(/.*)", text, re.DOTALL)
        if found is None or not is_name(found[2]):
            return None
        return cls(found[1], found[2], Directory(found[5], int(found[3], 16), int(found[4], 16)), foreign)


class SpawnSpec(Struct, frozen=True):
    """A process to spawn in its own session, without standard input. `output` is a descriptor to append to."""

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    output: int
    inherit: Sequence[int] = ()
    """More descriptors that the process inherits: locks that it then holds."""
    account: Account | None = None
    """Whom it runs as; None: as we do."""


class PortHolder(Struct, frozen=True):
    """The process that listens on a port. `pid` is None if the system hides it: another user's process, or one outside
    this container, whose network is that of its host."""

    pid: int | None
    command: str

    def __str__(self) -> str:
        return "a process of another user or container" if self.pid is None else f"pid {self.pid} ({self.command})"


class Usage(Struct, frozen=True):
    """CPU time and memory of a process and its descendants."""

    cpu_s: float
    rss_bytes: int


class NotOurs(Exception):
    """The pid belongs to a different process than the recorded one."""


class Unverifiable(Exception):
    """A process has that pid, but its identity cannot be read. Unknown is not dead."""


class Process(abc.ABC):
    """A spawned or adopted process of proven identity. A signal reaches this process or none."""

    pid: int
    identity: Identity

    @abc.abstractmethod
    def watch(
        self, on_exit: Callable[[ExitStatus], None], on_learned: Callable[[ExitStatus], None] | None = None
    ) -> None:
        """Call `on_exit` once, from the running event loop, when the process has exited. If its exit status becomes
        known only seconds later, call `on_learned` with it, even after `close`."""

    @abc.abstractmethod
    def is_alive(self) -> bool:
        """Whether it has not exited. A process that waits to be reaped has exited."""

    @abc.abstractmethod
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it, until SIGCONT."""

    @abc.abstractmethod
    def signal(self, signum: int) -> bool:
        """Send a signal to this process. Returns False if it is gone.

        Raises:
            PermissionError: we may not signal the process.
        """

    @abc.abstractmethod
    def signal_group(self, signum: int) -> bool:
        """Send a signal to the process group that this process leads, which may outlive it. Returns False if the
        group is empty."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop watching and free all descriptors. The process keeps running."""


class Lock(Protocol):
    """A kernel lock on a file, freed by the death of every process that holds its descriptor."""

    path: Path

    def fileno(self) -> int:
        """The descriptor that a daemon can inherit."""

    def is_at_its_path(self) -> bool:
        """Whether the locked file is still at `path`, and was not deleted or replaced."""

    def release(self) -> None:
        """Close our descriptor. The lock is free once every process that inherited it has exited."""


class FileChanges(Protocol):
    """Reports changes of files from one event loop."""

    def report_next(self, path: Path, on_change: Callable[[], None]) -> bool:
        """Call `on_change` once, when the file next changes: it is written, emptied, deleted or moved. Returns False if
        that cannot be reported, for example because the file is missing."""

    def close(self) -> None:
        """Report nothing more."""


class Platform(Protocol):
    """What the core uses of the operating system."""

    reason: str | None
    """Why it was chosen, if it is not the best one for this kind of system."""

    @property
    def name(self) -> str:
        """What this implementation is called: a word of `PLATFORMS`."""

    def boot_id(self) -> str:
        """The id of this boot. No process of another boot is running."""

    def own_identity(self) -> Identity:
        """The identity of this process."""

    def spawn(self, spec: SpawnSpec) -> Process:
        """Start a process.

        Raises:
            OSError: it could not be started; the message names the file.
        """

    def open(self, pid: int, identity: Identity) -> Process | None:
        """Open the running process `pid` after proving that it has `identity`. Returns None if it is gone.

        Raises:
            NotOurs: `pid` names another process.
            Unverifiable: its identity cannot be read.
        """

    def marked(self, match: Callable[[Mark], bool]) -> list[tuple[Process, Mark]]:
        """Open the running processes whose environment contains a mark that `match` accepts. This reads the environment
        of every process; a supervisor asks its `Census`."""

    def pids(self) -> Sequence[int]:
        """The pids of all processes except this one."""

    def newest_pid(self) -> int | None:
        """A number that differs after a process was created; None if the system does not tell."""

    def orphans(self) -> Sequence[int] | None:
        """The pids of the processes that were re-parented to us, and of their descendants. None if the system does not
        report them, or does not re-parent to us; see `become_subreaper`. May include children that are no daemons, such
        as provisioning steps."""

    def open_marked(self, pid: int, mark: Mark) -> Process | None:
        """Open the running process `pid` after proving that it carries `mark`. Returns None if it does not."""

    def mark_of(self, pid: int) -> Mark | None:
        """The mark in the environment of `pid`; None if there is none, or it cannot be read, or the process belongs to
        another user."""

    def lock_holders(self, lock: Path, *, deleted: bool = False) -> list[Process] | None:
        """Open the running processes, except this one, that hold the lock on the file at this path. With `deleted`, the
        file is one that was at this path and has been deleted. Returns None if the system does not tell."""

    def keeps_deleted(self, pid: int, files: Iterable[Path]) -> bool:
        """Whether a process that sees the same file systems as we do has one of these files open after its deletion.
        False if the system does not show it."""

    def oom_kills(self) -> int | None:
        """How many processes the kernel's OOM killer has killed since the boot; None if that is not reported."""

    def lock(self, path: Path, note: str = "") -> Lock | None:
        """Take the lock on `path` without waiting, creating the file if needed. Returns None if another process
        holds it. Once the lock is taken, `note` is written into the file, to tell others who holds it.

        Raises:
            OSError: the file cannot be opened or is a link.
        """

    def port_is_free(self, host: str, port: int) -> bool:
        """Whether a server could listen on the port now."""

    def free_port(self, host: str) -> int:
        """Find a port on which no process listens now."""

    def listens(self, pid: int, port: int, host: str) -> bool:
        """Whether the process itself is seen to answer connections to TCP `port` of the local `host`. If not, another
        process may, which `port_holder` finds; that takes longer."""

    def port_holder(self, port: int, host: str | None = None) -> PortHolder | None:
        """Find the process that answers a connection to TCP `port` of the local `host`: the listener on that address,
        else on any address of its family, else on any of both families. Without a host: a listener on the port on any
        address. Returns None if none is found."""

    def file_changes(self) -> FileChanges | None:
        """Begin to report changes of files to the running event loop; None if the system cannot."""

    def usage(self, pids: Iterable[int]) -> Mapping[int, Usage]:
        """CPU time and memory of the running `pids`, each with its descendants."""

    def age_s(self, identity: Identity) -> float:
        """Seconds since the start of the process. If the system allows it, clock changes do not count."""

    def describe(self, pid: int) -> str | None:
        """The shortened command line of `pid`; None if there is no such process."""

    def become_subreaper(self) -> bool:
        """Become the parent of our daemons' orphans. Returns False where the system cannot do that. Only for a process
        that does nothing but supervise."""

    def reap_orphans(self) -> None:
        """Reap the orphans of which we are the parent. Needed every few seconds: nothing reports their exit."""
