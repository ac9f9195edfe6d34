"""Prepare the start of a daemon that runs as another user than its supervisor."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from neo_daemons.accounts import barred_by, user_name
from neo_daemons.definitions import Account

OPEN = 0o711
"""The mode of a directory that all users may pass through, and whose content they do not see."""


class Barred(Exception):
    """The user cannot use a directory; ``str()`` says which, why, and what to do."""


def check_way(account: Account, what: str, directory: Path, remedy: str) -> None:
    """Check that a user can enter a directory.

    Args:
        what: what it is to the daemon.

    Raises:
        Barred: it, or a directory on the way, is closed to the user.
    """
    barrier = barred_by(directory, account)
    if barrier is not None:
        where = "" if barrier == directory else f", which is on the way to {directory}"
        raise Barred(f"{what}: {account.name} may not enter {barrier}{where}; {remedy}")


def give(account: Account, data_dir: Path) -> None:
    """Create a daemon's data directory for its user, if it does not exist, and check that it is theirs.

    Raises:
        Barred: the user cannot use it.
        OSError: it cannot be created.
    """
    if not data_dir.exists():
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        check_way(account, "data_dir", data_dir.parent, "choose another place, or open that one with chmod o+x")
        data_dir.mkdir(mode=0o700)
        # By descriptor: if the parent belongs to the user, they may have put a link there meanwhile.
        descriptor = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(descriptor, account.uid, account.gid)
        finally:
            os.close(descriptor)
        return
    check_way(account, "data_dir", data_dir.parent, "choose another place, or open that one with chmod o+x")
    owner = data_dir.stat().st_uid
    if owner != account.uid:
        command = f"chown -R {account.name} {shlex.quote(str(data_dir))}"
        raise Barred(f"data_dir: {data_dir} belongs to {user_name(owner)}, not to {account.name}; run: {command}")


def open_place(place: Path) -> None:
    """Create a directory of ours, for data directories of other users, that they may pass through.

    Raises:
        Barred: it is not ours: in a directory like /tmp, anybody may have created it.
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Barred(f"{place} is not a directory of {user_name(os.geteuid())}; remove it")
    place.chmod(OPEN)
