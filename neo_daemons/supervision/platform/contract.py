"""What the core needs of an operating system. One documented contract; `linux` and `posix` fulfil it.

This package is the only place of the project that spawns a process or sends a signal.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from neo_daemons.definitions import is_name
from neo_daemons.records import Directory, Identity

MARK_VARIABLE = "NEO_DAEMONS_MARK"
"""Environment variable that every process of a daemon inherits: ``token:name:device.inode:state_dir``."""


class ExitStatus(Struct, frozen=True):
    """How a process ended: an exit code, or a signal's name; neither, where the kernel does not tell."""

    code: int | None = None
    signal: str | None = None

    @property
    def clean(self) -> bool:
        """It exited with code 0."""
        return self.code == 0

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {self.signal}"
        return "ended (exit code not known)" if self.code is None else f"exit code {self.code}"


class Mark(Struct, frozen=True):
    """Written into a daemon's environment at its spawn, and found again there in whatever it left behind."""

    token: str
    """Unique to one spawn."""
    name: str
    directory: Directory
    """The state directory."""

    @property
    def state_dir(self) -> str:
        """Path of the state directory at the spawn."""
        return self.directory.path

    def __str__(self) -> str:
        return f"{self.token}:{self.name}:{self.directory.key}:{self.directory.path}"

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """The mark in an environment variable's value, or None if that is none."""
        # Anybody can put one into the environment of a process of theirs: it must not become a path.
        found = re.fullmatch(r"([0-9a-f]{32}):([^:]*):([0-9a-f]{1,16})\.([0-9a-f]{1,16}):(/.*)", text, re.DOTALL)
        if found is None or not is_name(found[2]):
            return None
        return cls(found[1], found[2], Directory(found[5], int(found[3], 16), int(found[4], 16)))


class SpawnSpec(Struct, frozen=True):
    """A process to spawn: its own session, standard input closed, output appended to `output` (a descriptor)."""

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    output: int
    inherit: Sequence[int] = ()
    """Descriptors that the process keeps, besides its output: held locks."""


class PortHolder(Struct, frozen=True):
    """Who listens on a port; `pid` is None where the system does not say (another user's process)."""

    pid: int | None
    command: str

    def __str__(self) -> str:
        return "a process of another user" if self.pid is None else f"pid {self.pid} ({self.command})"


class Usage(Struct, frozen=True):
    """What a process and its descendants have used."""

    cpu_s: float
    rss_bytes: int


class NotOurs(Exception):
    """A process with that pid exists and is not the one that was recorded."""


class Unverifiable(Exception):
    """A process with that pid exists and cannot be looked at: nothing is known of it, and unknown is not dead."""


class Process(abc.ABC):
    """A living process whose identity is proven: spawned here, or adopted. A signal to it reaches it or nothing."""

    pid: int
    identity: Identity

    @abc.abstractmethod
    def watch(
        self, on_exit: Callable[[ExitStatus], None], on_learned: Callable[[ExitStatus], None] | None = None
    ) -> None:
        """Call `on_exit` once, from the running event loop, when the process has ended. Where it is not known then
        how, and becomes known in the seconds after, `on_learned` is called with that, also after `close`."""

    @abc.abstractmethod
    def is_alive(self) -> bool:
        """It has not ended (one that waits to be reaped has)."""

    @abc.abstractmethod
    def is_stopped(self) -> bool:
        """It is stopped by a signal, until SIGCONT."""

    @abc.abstractmethod
    def signal(self, signum: int) -> bool:
        """Send a signal to this process. False if it is gone.

        Raises:
            PermissionError: the process may not be signalled by us.
        """

    @abc.abstractmethod
    def signal_group(self, signum: int) -> bool:
        """Send a signal to the process group that this process leads, which may outlive it. False if it is empty."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop watching and free what is held; the process lives on."""


class Lock(Protocol):
    """A kernel lock on a file, freed by the death of every process that holds its descriptor."""

    path: Path

    def fileno(self) -> int:
        """The descriptor to hand to a daemon."""

    def is_at_its_path(self) -> bool:
        """Whether the file that is locked is still the one at `path`: not if that was deleted, or made anew."""

    def release(self) -> None:
        """Close our descriptor. The lock is free when no process that inherited it holds it either."""


class Platform(Protocol):
    """The operating system, as far as the core uses it."""

    def boot_id(self) -> str:
        """Identifies this boot of the machine: no process of another boot lives."""

    def own_identity(self) -> Identity:
        """Of this process."""

    def spawn(self, spec: SpawnSpec) -> Process:
        """Start a process.

        Raises:
            OSError: it could not be started; the message names the file.
        """

    def open(self, pid: int, identity: Identity) -> Process | None:
        """The living process `pid`, proven to be the one with `identity`; None if that is gone.

        Raises:
            NotOurs: `pid` names another process.
            Unverifiable: its identity cannot be read.
        """

    def marked(self, match: Callable[[Mark], bool], known: Container[int] = frozenset()) -> list[tuple[Process, Mark]]:
        """The living processes whose environment holds a mark that `match` accepts. Those in `known` are not looked
        at: to look at one takes time, and there may be many that are known to be something else."""

    def mark_of(self, pid: int) -> Mark | None:
        """The mark in the environment of `pid`; None if there is none, it cannot be read, or the process is another
        user's."""

    def lock_holders(self, lock: Path, *, deleted: bool = False) -> list[Process]:
        """The living processes, but for this one, that hold the lock on the file at this path; with `deleted`, on a
        file that was at this path and has been deleted. [] where the system does not say."""

    def keeps_deleted(self, pid: int, files: Iterable[Path]) -> bool:
        """Whether a process, which sees the same file systems as we do, keeps one of these files open, and that has
        been deleted. False where the system does not say."""

    def oom_kills(self) -> int | None:
        """How many processes the kernel has killed for want of memory since the boot; None if it does not say."""

    def lock(self, path: Path, note: str = "") -> Lock | None:
        """Take the lock on `path` (made if missing) without waiting; None if somebody holds it. `note` is written
        into the file once the lock is won, for whoever asks who holds it.

        Raises:
            OSError: the file cannot be opened or is a link.
        """

    def port_is_free(self, host: str, port: int) -> bool:
        """Whether a server could listen there now."""

    def free_port(self, host: str) -> int:
        """A port that nobody listens on now."""

    def port_holder(self, port: int, host: str | None = None) -> PortHolder | None:
        """Who answers a connection to TCP `port` of the local `host`: who listens on that very address, else on any
        address of its kind, else on any of both kinds. Without a host: who listens on the port on any address. None
        if nobody is seen to."""

    def usage(self, pids: Iterable[int]) -> Mapping[int, Usage]:
        """CPU time and memory of the living among `pids`, each with its descendants."""

    def age_s(self, identity: Identity) -> float:
        """Seconds since the process was started, whatever was done to the wall clock meanwhile where the system
        allows that."""

    def describe(self, pid: int) -> str | None:
        """The command line of `pid`, shortened, or None if there is no such process."""

    def become_subreaper(self) -> bool:
        """Have the orphans of our daemons re-parented to us, and reap them; False where the system cannot. For a
        process that is a supervisor and nothing else."""
