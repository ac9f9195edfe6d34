"""The layout of a supervisor's state directory, and its creation."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

ENVIRONMENT_VARIABLE = "NEO_DAEMONS_STATE_DIR"
DEFAULT_NAME = ".neo-daemons"


class StateDirError(Exception):
    """The state directory cannot be used; ``str()`` says which, why, and what to do."""


class StateDirLost(StateDirError):
    """A running supervisor lost its state directory; ``str()`` says why."""

    def __init__(self, path: Path, why: str, *, adopted: bool = False) -> None:
        self.adopted = adopted
        """Another supervisor has adopted the daemons, so this one must leave them alone."""
        end = "that supervisor has its daemons now" if adopted else "its daemons are stopped"
        super().__init__(f"the supervisor stops because its state directory {path} is gone: {why}; {end}")


class UnusableStateDir(StateDirError):
    """The state directory cannot be used; choose another one."""


def is_text(path: Path | str) -> bool:
    """Return whether a path or other text from the system is UTF-8. Records and the API cannot hold anything else."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse_foreign_links(path: Path) -> None:
    """Refuse a path through another user's link. In a directory that all users can write to, such as /tmp, such a link
    could make us work, with our rights, in a directory of their choice.

    Args:
        path: absolute, and with its links.

    Raises:
        StateDirError: the path leads through a link that neither this user nor root owns.
    """
    for step in (*reversed(path.parents), path):
        try:
            found = step.lstat()
        except OSError:
            return  # what is missing or hidden is reported when it is used
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (os.geteuid(), 0):
            raise StateDirError(
                f"{step} is a symbolic link owned by user id {found.st_uid}, not {os.geteuid()}; "
                "pass the real directory with --state-dir"
            )


def keep_own_rights() -> None:
    """Remove the owner's rights from the umask, which would otherwise make us create directories that we cannot enter.
    What it withholds from others is kept, and inherited by daemons. Only for processes of our own."""
    mask = os.umask(0o077)
    os.umask(mask & 0o077)


class StateDir:
    """The paths inside one state directory. Creating this object touches no file.

    Args:
        options: the options by which a command finds it; by default ``--state-dir`` with the path.
    """

    def __init__(self, path: Path, *, options: Sequence[str | Path] | None = None) -> None:
        self.path = path
        self.options = [str(option) for option in (("--state-dir", path) if options is None else options)]
        self.lock = path / "supervisor.lock"
        self.record = path / "supervisor.json"
        self.intentions = path / "intentions.json"
        self.journal = path / "journal.jsonl"
        self.supervisor_log = path / "supervisor.log"
        self.token = path / "control.token"
        self.daemons = path / "daemons"
        self.logs = path / "logs"
        self.data = path / "data"
        self.open_data = Path(f"/var/tmp/neo-daemons-{os.geteuid()}-{path.name}")  # noqa: S108 - made private
        """Where a session puts the data of daemons that run as another user: they may not enter `path`."""
        self._daemon_locks: dict[str, Path] = {}

    def command(self, words: str) -> str:
        """Return the command line that runs a command, such as ``up``, on this state directory."""
        return f"neo-daemons {' '.join([words, *map(shlex.quote, self.options)])}"

    def daemon_record(self, name: str) -> Path:
        """Return the path of the daemon's PID file."""
        return self.daemons / f"{name}.json"

    def done_record(self, name: str) -> Path:
        """Return the path of the record that the daemon, which runs once, has succeeded."""
        return self.daemons / f"{name}.done"

    def daemon_lock(self, name: str) -> Path:
        """Return the path of the file that the daemon's processes keep locked while any of them is running."""
        # Each run asks for it. pathlib interns the name of a file that it has not met, which costs memory even if the
        # path is forgotten at once: the interpreter's table of interned strings grows with all that were.
        path = self._daemon_locks.get(name)
        if path is None:
            path = self._daemon_locks[name] = self.daemons / f"{name}.lock"
        return path

    def daemon_socket(self, name: str) -> Path:
        """Return the path of the socket at which an instance that speaks stdio waits for its client. It may be too long
        for an address: use it relative to its directory."""
        return self.daemons / f"{name}.sock"

    def daemon_log(self, name: str) -> Path:
        """Return the path of the log, which takes the daemon's standard output and error."""
        return self.logs / f"{name}.log"

    def data_dir(self, name: str) -> Path:
        """Return the default data directory of a built-in daemon."""
        return self.data / name

    def is_whole(self) -> bool:
        """Return whether its subdirectories exist."""
        return all(directory.is_dir() for directory in (self.daemons, self.logs, self.data))

    def create(self) -> None:
        """Create the directory, private to this user and ignored by git, with its subdirectories.

        Raises:
            UnusableStateDir: it cannot be created or written, or another user owns it.
        """
        if not is_text(self.path):
            raise UnusableStateDir(f"{self.path}: the path is not UTF-8; choose another one with --state-dir")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.lstat()
            if not stat.S_ISDIR(found.st_mode):
                # The path was resolved when it was read: a link has been put there since.
                raise UnusableStateDir(f"{self.path} is not a directory; choose another one with --state-dir")
            if found.st_uid != os.geteuid():
                raise UnusableStateDir(
                    f"{self.path} is owned by user id {found.st_uid}, but you are user id {os.geteuid()}; "
                    "choose another directory with --state-dir"
                )
            if stat.S_IMODE(found.st_mode) & 0o077:
                self.path.chmod(0o700)
            for directory in (self.daemons, self.logs, self.data):
                directory.mkdir(mode=0o700, exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(13, "not writable", str(self.path))
        except OSError as error:
            raise UnusableStateDir(
                f"cannot use the state directory {self.path}: {error.strerror}; "
                f"choose a writable one with --state-dir or {ENVIRONMENT_VARIABLE}"
            ) from None
