"""Refuses what this process is about to do to fenced daemons, by an audit hook.

Python processes that tests start execute this file too, perhaps by another interpreter without this package. So it
needs the standard library alone, no Python later than 3.8, and at first few modules: each such process imports them.
"""

from __future__ import annotations

import functools
import os
import sys
from collections import namedtuple

TYPE_CHECKING = False  # typing takes longer to import than all of this
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from typing import Any

    Check = Callable[[tuple[Any, ...]], None]

WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT | os.O_APPEND
SQLITE_SIDECARS = ("journal", "shm", "wal")
COMPILED = "/__pycache__/"
MAX_DIRECTORIES = 4096
NO_DIRECTORY = -1
"""What audit events have in place of the descriptor of a directory, if there is none."""

__tracebackhide__ = True
"""Reports show where a test was refused, not how."""

_lstat, _realpath, _readlink, _abspath = os.lstat, os.path.realpath, os.readlink, os.path.abspath
_lexists = os.path.lexists


class ProductionFenceError(Exception):
    """A test process was about to use a daemon of a production supervisor; ``str()`` says which, and what to do."""

    __module__ = "pytest_neo_daemons"


class Owner(namedtuple("Owner", "what remedy state_dir daemon", defaults=(None,))):
    """Whose a port, directory or socket is."""

    what: str
    """``chroma of the production supervisor in /project/.neo-daemons``."""
    remedy: str
    state_dir: str
    daemon: str | None


class Port(namedtuple("Port", "host owner")):
    """A port at which a fenced daemon listens."""

    host: str
    owner: Owner


class Zone(namedtuple("Zone", "path owner open", defaults=(False,))):
    """A directory or file whose contents are fenced, or, inside of one that is, let through."""

    path: str
    owner: Owner
    open: bool


class Plan(namedtuple("Plan", "ports zones sockets places", defaults=((),))):
    """All that is fenced."""

    ports: dict[int, tuple[Port, ...]]
    zones: tuple[Zone, ...]
    sockets: dict[str, Owner]
    places: tuple[str, ...]
    """The directories of the registry."""


class Wall:
    """What is fenced in this process.

    Args:
        tell: called with the text of each refusal.
        subject: returns who is about to be refused: a test.
        confirm: returns whether a port still belongs to a fenced daemon.
        spawning: called when a process is about to be started.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        subject: Callable[[], str],
        confirm: Callable[[int, Owner], bool] = lambda number, owner: True,
        spawning: Callable[[], None] = lambda: None,
    ) -> None:
        self.plan = Plan({}, (), {})
        self._tell = tell
        self._subject = subject
        self._confirm = confirm
        self._spawning = spawning
        self._zones: dict[str, Zone] = {}
        self._above: dict[str, Zone] = {}
        """Directory that contains fenced ones → one of these."""
        self._directories: dict[str, tuple[str, Zone | None]] = {}
        """Directory → its path without links, and the innermost zone that it is in. Most files are in a few of them."""

    def stand(self, plan: Plan) -> None:
        """Fence this from now on."""
        self.plan = plan
        self._zones = {zone.path: zone for zone in plan.zones}
        self._above = {above: zone for zone in plan.zones if not zone.open for above in _parents(zone.path)}
        self._directories = {}
        checks: dict[str, Check] = {}
        if plan.ports or plan.zones or plan.sockets:
            checks.update(dict.fromkeys(SPAWNING, self._about_to_spawn))
            checks.update(dict.fromkeys(CONNECTING, self._connect))
            checks["open"] = self._open
            checks["sqlite3.connect"] = self._sqlite
            checks["os.mkdir"] = self._create
            checks["os.symlink"] = checks["os.link"] = self._link
            for event, (said, position) in CHANGES.items():
                checks[event] = functools.partial(self._change, said, position)
            for event, said in WHOLE.items():
                checks[event] = functools.partial(self._take, said)
        _stand(self, checks)

    def fall(self) -> None:
        """Fence nothing any more."""
        self.stand(Plan({}, (), {}))

    def refuse(self, owner: Owner, what: str) -> None:
        """Refuse what the process is about to do.

        Raises:
            ProductionFenceError: always.
        """
        text = f"{self._subject()} {what}, which is {owner.what}. It was refused, and nothing was done. {owner.remedy}"
        self._tell(text)
        raise ProductionFenceError(text)

    def _about_to_spawn(self, arguments: tuple[Any, ...]) -> None:
        self._spawning()

    # Connections

    def _connect(self, arguments: tuple[Any, ...]) -> None:
        link, address = arguments[0], arguments[1]
        if isinstance(address, tuple):
            if len(address) > 1 and isinstance(address[1], int) and address[1] in self.plan.ports:
                self._connect_to_port(link, address)
        elif isinstance(address, (str, bytes)):
            self._connect_to_path(address)

    def _connect_to_port(self, link: socket.socket, address: tuple[Any, ...]) -> None:
        import socket

        if link.family not in (socket.AF_INET, socket.AF_INET6) or link.type != socket.SOCK_STREAM:
            return
        host = os.fsdecode(address[0]) if isinstance(address[0], (str, bytes)) else str(address[0])
        for port in self.plan.ports[address[1]]:
            if is_reached(port.host, host) and self._confirm(address[1], port.owner):
                self.refuse(port.owner, f"connects to {host or 'localhost'}:{address[1]}")

    def _connect_to_path(self, address: Any) -> None:
        path = os.fsdecode(address)
        if not path or path.startswith("\0"):
            return
        owner = self.plan.sockets.get(_realpath(path)) or self.owner_of(path)
        if owner is not None:
            self.refuse(owner, f"connects to the socket {path}")

    # Files

    def owner_of(self, path: str, *, follow: bool = True) -> Owner | None:
        """Return whose a path is; None if it is not fenced.

        Args:
            follow: if the path is a link, return whose its target is.
        """
        path = _abspath(path)
        head, _, tail = path.rpartition("/")
        found = self._directories.get(head)
        directory, zone = found if found is not None else self._look_at(head)
        if follow:
            try:
                is_link = _lstat(path).st_mode & 0o170000 == 0o120000
            except OSError:
                is_link = False
            if is_link:
                return self.owner_of(_realpath(path), follow=False)
        zone = self._zones.get(f"{directory}/{tail}", zone)
        if zone is None and "-" in tail:  # the files that SQLite keeps beside a database
            base, _, rest = tail.rpartition("-")
            zone = self._zones.get(f"{directory}/{base}") if rest in SQLITE_SIDECARS else None
        return None if zone is None or zone.open else zone.owner

    def _look_at(self, path: str) -> tuple[str, Zone | None]:
        """Return a directory without links, and its zone. Both are remembered if it exists."""
        if not path:
            return "", None
        head, _, tail = path.rpartition("/")
        parent, zone = self._directories.get(head) or self._look_at(head)
        real = f"{parent}/{tail}"
        try:
            mode = _lstat(real).st_mode
        except OSError:
            return real, self._zones.get(real, zone)
        if mode & 0o170000 == 0o120000:
            real = _realpath(real)
            zone = next((self._zones[one] for one in _parents(f"{real}/") if one in self._zones), None)
        found = real, self._zones.get(real, zone)
        if len(self._directories) >= MAX_DIRECTORIES:
            self._directories = {}
        self._directories[path] = found
        return found

    def _refuse_path(self, path: Any, directory: int, said: str, *, follow: bool = True) -> None:
        if isinstance(path, int):  # a descriptor
            return
        text = os.fsdecode(path)
        full = text
        if directory >= 0 and not text.startswith("/"):
            try:
                full = f"{_readlink(f'/proc/self/fd/{directory}')}/{text}"
            except OSError:
                return
        if COMPILED in f"/{full}/":
            return  # Python keeps compiled modules beside their sources, which may be beside data
        owner = self.owner_of(full, follow=follow)
        if owner is not None:
            self.refuse(owner, said.format(full))

    def _open(self, arguments: tuple[Any, ...]) -> None:
        path, _, flags = arguments
        if isinstance(flags, int) and flags & WRITING:
            self._refuse_path(path, NO_DIRECTORY, "opens {} for writing")

    def _sqlite(self, arguments: tuple[Any, ...]) -> None:
        import urllib.parse

        path = os.fsdecode(arguments[0])
        if path.startswith("file:"):
            parts = urllib.parse.urlsplit(path)
            options = urllib.parse.parse_qs(parts.query)
            if options.get("mode") == ["ro"] or options.get("immutable", ["0"])[-1] not in ("0", "no", "off", "false"):
                return
            path = urllib.parse.unquote(parts.path)
        if path and path != ":memory:":
            self._refuse_path(path, NO_DIRECTORY, "opens the SQLite database {} for writing")

    def _create(self, arguments: tuple[Any, ...]) -> None:
        if not _lexists(arguments[0]):  # else nothing will happen
            self._change("creates {}", 2, arguments)

    def _link(self, arguments: tuple[Any, ...]) -> None:
        self._refuse_path(arguments[1], arguments[-1], "creates {}", follow=False)

    def _change(self, said: str, position: int, arguments: tuple[Any, ...]) -> None:
        directory = arguments[position] if 0 < position < len(arguments) else NO_DIRECTORY
        self._refuse_path(
            arguments[0], directory if isinstance(directory, int) else NO_DIRECTORY, said, follow=said in FOLLOWED
        )

    def _take(self, said: str, arguments: tuple[Any, ...]) -> None:
        """Check what moves or removes all that is below a path, and what replaces the second path."""
        for number, path in enumerate(arguments[:2]):
            if isinstance(path, (str, bytes, os.PathLike)):
                position = number + 2 if len(arguments) > 3 else -1 if len(arguments) > 2 else 1
                directory = arguments[position] if position > 0 and position < len(arguments) else NO_DIRECTORY
                directory = directory if isinstance(directory, int) else NO_DIRECTORY
                self._refuse_path(path, directory, said, follow=False)
                text = _abspath(os.fsdecode(path))
                head, _, tail = text.rpartition("/")
                zone = self._above.get(f"{self._look_at(head)[0]}/{tail}")
                if zone is not None and _lexists(zone.path):
                    self.refuse(zone.owner, f"{said.format(text)} with {zone.path}")


SPAWNING = ("subprocess.Popen", "os.forkpty", "os.posix_spawn", "os.system")
"""Not os.fork: its child is behind the wall, and a fork of a process with threads makes Python warn."""
CONNECTING = ("socket.connect", "socket.sendto", "socket.sendmsg")
CHANGES = {
    "os.remove": ("removes {}", 1),
    "os.rmdir": ("removes {}", 1),
    "os.truncate": ("truncates {}", 0),
    "os.chmod": ("changes the permissions of {}", 2),
    "os.chown": ("changes the owner of {}", 3),
}
"""Audit event → what is said of it, and the position of the directory's descriptor among its arguments."""
FOLLOWED = ("truncates {}", "changes the permissions of {}", "changes the owner of {}")
"""Changes of what a link leads to; the others are of the link."""
WHOLE = {
    "os.rename": "renames or replaces {}",
    "shutil.rmtree": "removes {}",
    "shutil.move": "moves {}",
}
"""Audit events that concern two paths, or all that is below one."""


# Where things are


def _parents(path: str) -> Iterator[str]:
    """Yield the directories that contain a path, the innermost first."""
    while path := path.rpartition("/")[0]:
        yield path


def is_reached(bound: str, host: str) -> bool:
    """Return whether a connection to `host`, an address or a name, reaches a daemon of this machine that listens at
    `bound`."""
    listening = _resolved(bound or "0.0.0.0")  # noqa: S104 - it is compared
    return any(_reaches(address, wanted) for wanted in _resolved(host) for address in listening)


def _resolved(host: str) -> list[Any]:
    import socket

    if host in ("", "<any>"):
        host = "0.0.0.0"  # noqa: S104 - what a socket makes of it
    try:
        return [_parsed(host)]
    except ValueError:
        pass
    try:
        return [_parsed(str(info[4][0])) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, ValueError, UnicodeError):
        return []


def _parsed(text: str) -> Any:
    import ipaddress

    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _reaches(bound: Any, wanted: Any) -> bool:
    if wanted.is_unspecified:  # the kernel connects to the loopback interface
        return bool(bound.is_loopback or bound.is_unspecified)
    if bound == wanted:
        return True
    if not bound.is_unspecified or bound.version < wanted.version:
        return False
    return bool(wanted.is_loopback) or _is_own(wanted)


def _is_own(address: Any) -> bool:
    """Return whether an interface of this machine has the address: only then can a socket be bound to it."""
    import socket

    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


# The hook. It cannot be removed, so it is installed once and asks what is to be checked at present. A run of pytest
# within a test of another one has a wall of its own, and both stand.

_walls: dict[Wall, dict[str, Check]] = {}
_checks: dict[str, Check] = {}
_installed: list[bool] = []


def _stand(wall: Wall, checks: dict[str, Check]) -> None:
    if checks:
        _walls[wall] = checks
    else:
        _walls.pop(wall, None)
    events = {event for checks in _walls.values() for event in checks}
    for event in events:
        found = [checks[event] for checks in _walls.values() if event in checks]
        _checks[event] = found[0] if len(found) == 1 else functools.partial(_each, found)
    for event in _checks.keys() - events:
        del _checks[event]
    if _walls and not _installed:
        _installed.append(True)
        sys.addaudithook(_hook)


def _each(checks: list[Check], arguments: tuple[Any, ...]) -> None:
    for check in checks:
        check(arguments)


def _hook(event: str, arguments: tuple[Any, ...], get: Callable[[str], Any] = _checks.get) -> None:
    check = get(event)
    if check is not None:
        check(arguments)
