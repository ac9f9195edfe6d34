"""Where a supervisor keeps its files: the layout of a state directory, and how it is made."""

from __future__ import annotations

import os
import stat
from pathlib import Path

ENVIRONMENT_VARIABLE = "NEO_DAEMONS_STATE_DIR"
DEFAULT_NAME = ".neo-daemons"


class StateDirError(Exception):
    """The state directory cannot be used; ``str()`` says which, why, and what to do."""


class StateDirLost(StateDirError):
    """The state directory of a running supervisor is no longer its own; ``str()`` says why."""

    def __init__(self, path: Path, why: str, *, adopted: bool = False) -> None:
        self.adopted = adopted
        """The daemons are another supervisor's by now: they are to be left to it."""
        end = "its daemons are left to that one" if adopted else "its daemons are ended"
        super().__init__(f"the state directory {path} is no longer this supervisor's: {why}; {end}")


class UnusableStateDir(StateDirError):
    """It cannot be used where it is: another place is to be named."""


def is_text(path: Path | str) -> bool:
    """Whether a path, or another text from the system, is UTF-8. Records and the API can hold no other."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse_foreign_links(path: Path) -> None:
    """In a directory that all may write to, such as /tmp, anybody can lay a link that has us work, with our
    rights, in a directory that they choose.

    Args:
        path: absolute, and with its links.

    Raises:
        StateDirError: it leads through a link that belongs to neither this user nor root.
    """
    for step in (*reversed(path.parents), path):
        try:
            found = step.lstat()
        except OSError:
            return  # what is not there yet, or cannot be seen, is found when it is used
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (os.geteuid(), 0):
            raise StateDirError(
                f"{step} is a link that belongs to user id {found.st_uid}, and this is {os.geteuid()}; "
                f"name the directory itself with --state-dir"
            )


def keep_own_rights() -> None:
    """For a process that is ours: a umask that withholds the owner's own rights would have us make directories that we
    cannot enter. What it withholds from others is the user's wish, and daemons inherit that."""
    mask = os.umask(0o077)
    os.umask(mask & 0o077)


class StateDir:
    """The paths inside one state directory. Making this object touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = path / "supervisor.lock"
        self.record = path / "supervisor.json"
        self.intentions = path / "intentions.json"
        self.journal = path / "journal.jsonl"
        self.supervisor_log = path / "supervisor.log"
        self.token = path / "control.token"
        self.daemons = path / "daemons"
        self.logs = path / "logs"
        self.data = path / "data"

    def daemon_record(self, name: str) -> Path:
        """The daemon's PID file."""
        return self.daemons / f"{name}.json"

    def daemon_lock(self, name: str) -> Path:
        """Held by the processes of the daemon for as long as one of them lives."""
        return self.daemons / f"{name}.lock"

    def daemon_log(self, name: str) -> Path:
        """What the daemon writes to its standard output and error."""
        return self.logs / f"{name}.log"

    def data_dir(self, name: str) -> Path:
        """The default data directory of a built-in daemon."""
        return self.data / name

    def is_whole(self) -> bool:
        """Whether the directories in it are there."""
        return all(directory.is_dir() for directory in (self.daemons, self.logs, self.data))

    def create(self) -> None:
        """Make the directory, private to this user and ignored by git, with what is in it.

        Raises:
            UnusableStateDir: it cannot be made or written, or it belongs to somebody else.
        """
        if not is_text(self.path):
            raise UnusableStateDir(f"{self.path}: the path is not UTF-8; choose another with --state-dir")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.lstat()
            if not stat.S_ISDIR(found.st_mode):
                # The path was made real when it was read: somebody has put a link there since.
                raise UnusableStateDir(f"{self.path} is no directory; choose another with --state-dir")
            if found.st_uid != os.geteuid():
                raise UnusableStateDir(
                    f"{self.path} belongs to user id {found.st_uid}, and this is {os.geteuid()}; "
                    f"choose another with --state-dir"
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
