"""The users that daemons run as, other than the user of their supervisor."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .definitions import Account, CannotRun, Definition

ACL = "system.posix_acl_access"


def account_of(definition: Definition) -> Account | CannotRun | None:
    """Return the account that a daemon must be started with; None if it is our own."""
    name = definition.user
    if name is None:
        return None
    import pwd

    key = f"daemons.{definition.name}.user"
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError):
        reason = f"user = {name!r}: this machine has no such user"
        return CannotRun(reason=reason, remedy=f"create it, or correct {key}", missing=False)
    us = os.geteuid()
    if found.pw_uid == us:
        return None
    if us != 0:
        return CannotRun(
            reason=f"user = {name!r}: only root may start a program as another user, and this is {user_name(us)}",
            remedy=f"run the supervisor as {'root' if found.pw_uid == 0 else f'root or as {name}'}, or remove {key}",
            missing=False,
        )
    groups = tuple(os.getgrouplist(name, found.pw_gid))
    return Account(name=name, uid=found.pw_uid, gid=found.pw_gid, groups=groups, home=found.pw_dir)


def user_name(uid: int) -> str:
    """Return the name of a user, or the number of one without a name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def barred_by(directory: Path, account: Account) -> Path | None:
    """Return the first directory on the way to one, or itself, that an account may not enter; None if there is none. A
    directory with an access control list is taken for open, and one that does not exist ends the way."""
    for step in (*reversed(directory.parents), directory):
        try:
            found = step.stat()
        except OSError:
            return None
        if not _may_enter(found, account) and not _has_list(step):
            return step
    return None


def _may_enter(found: os.stat_result, account: Account) -> bool:
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid in account.groups:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _has_list(path: Path) -> bool:
    try:
        return hasattr(os, "listxattr") and ACL in os.listxattr(path)
    except OSError:
        return False
