"""``enable`` and ``disable``: have the service manager of this machine start the supervisor, and keep it up."""

from __future__ import annotations

import argparse
import difflib
import os
import pwd
import re
import shlex
import shutil
import stat
import sys

from msgspec import Struct

from neo_daemons.catalog.mlx import HUB_VARIABLES
from neo_daemons.config.configuration import load
from neo_daemons.config.errors import ConfigError
from neo_daemons.config.locate import find_state_dir
from neo_daemons.config.project import CACHE_VARIABLE, Configuration
from neo_daemons.files import write_whole
from neo_daemons.registry import VARIABLE as REGISTRY_VARIABLE
from neo_daemons.render.installation import HEADER, Installation, NotExpressible, name_of
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import foreground
from neo_daemons.supervision.presence import FoundSupervisor

from . import services
from .codes import DONE, FAILED, USAGE
from .services import CannotInstall, Command, Service
from .streams import complain
from .takeover import supervisor, take_over, wait_until_ended

CARRIED = ("PATH", "PYTHONPATH", "NEO_HOME", CACHE_VARIABLE, REGISTRY_VARIABLE, *HUB_VARIABLES)
"""Variables by which a supervisor finds programs, modules and data: it needs them as this shell has them."""
GIVEN = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "XDG_RUNTIME_DIR")
"""Variables that a service manager sets by itself."""
EXIT_S = 10.0
"""How long a supervisor that has handed over may take to exit. A program that embeds one goes on."""
HEAD = 1024
"""Our mark is within so many characters."""


def enable(options: argparse.Namespace) -> int:
    """Write the file that describes the supervisor, and have the service manager start it."""
    try:
        return _enable(options)
    except (CannotInstall, NotExpressible) as error:
        return complain(str(error), FAILED)


def disable(options: argparse.Namespace) -> int:
    """Stop the supervisor, and remove what `enable` has installed."""
    try:
        return _disable(options)
    except CannotInstall as error:
        return complain(str(error), FAILED)


class Plan(Struct, frozen=True, kw_only=True):
    """What `enable` is about to do."""

    service: Service
    state: StateDir
    text: str
    """What the file is to contain."""
    old: str | None
    """What it contains; None: there is none."""
    is_current: bool
    """Whether the service manager already has what we would give it."""
    found: FoundSupervisor | None
    """The supervisor that is running, started by the service manager or not."""

    @property
    def replaces(self) -> bool:
        """Whether that supervisor hands its daemons over to the new one."""
        return self.found is not None and not self.is_current

    @property
    def start(self) -> Command:
        """The command that starts the new one."""
        restart = self.service.restart
        return restart if self.replaces and restart is not None else self.service.start


def _enable(options: argparse.Namespace) -> int:
    configuration = load(options.config, state_dir=options.state_dir)
    installation = _installation(configuration, options)
    service = services.find(installation.name, machine=options.machine, environ=os.environ)
    (text,) = service.render(installation).values()
    old = _read(service)
    plan = Plan(
        service=service,
        state=configuration.state,
        text=text,
        old=old,
        is_current=old == text and _succeeds(service.is_loaded),
        found=supervisor(configuration.state),
    )
    if plan.replaces and options.machine and _owner(configuration) != os.geteuid():
        raise CannotInstall(
            f"supervisor {plan.found} of another user is running; have it leave its daemons to the new one first: "
            f"`{plan.state.command('down --detach')}`"
        )
    _show(plan)
    _warn_of_missing_variables(configuration, options, installation)
    if options.dry_run:
        return DONE
    refused = _ask(options)
    if refused is not None:
        return refused
    _write(plan, options)
    return _carry_out(plan)


def _carry_out(plan: Plan) -> int:
    """Have the service manager start the supervisor, whose file has been written."""
    service, start = plan.service, plan.start
    left = [*service.load, start]
    if shutil.which(start[0]) is None:
        return _unfinished(f"{start[0]} was not found", left)
    for step in service.load:
        if not _run(step):
            return _unfinished(f"`{shlex.join(step)}` failed", left)
        left.remove(step)
    # The service manager has answered. From here to the start, nobody supervises the daemons of the old supervisor.
    if plan.replaces:
        _replace(plan.state)
    if service.restart is not None:
        is_started = _run(start)
    else:
        is_started = (plan.is_current and plan.found is not None) or _load_again(service, plan.state)
    if not is_started:
        return _unfinished(f"`{shlex.join(start)}` failed", left)
    print(f"{service.manager} runs the supervisor of {plan.state.path}")
    if service.remark is not None:
        print(service.remark)
    return DONE


def _replace(state: StateDir) -> None:
    """Have the running supervisor hand over its daemons, and exit."""
    found = supervisor(state)
    take_over(state)
    if found is not None and found.process is not None:
        wait_until_ended(found.process, EXIT_S)


def _load_again(service: Service, state: StateDir) -> bool:
    """Have launchd start what it may already know: it reads a file only once."""
    state.create()  # the log is in it, which launchd opens before anything else
    if _succeeds(service.is_loaded):
        _run(service.unload)
    return _run(service.start)


def _unfinished(why: str, left: list[Command]) -> int:
    remedy = " && ".join(map(shlex.join, left))
    return complain(f"the file is written, but the supervisor is not started: {why}; still to be run: {remedy}", FAILED)


def _installation(configuration: Configuration, options: argparse.Namespace) -> Installation:
    for name in options.env:
        if name not in os.environ:
            raise CannotInstall(f"--env {name}: this variable is not set; set it first, or leave the option out")
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
            raise CannotInstall(f"--env {name}: not a name that a service's definition can hold")
    if not sys.executable:
        raise CannotInstall("Python does not know where its interpreter is; run it by its full path")
    owner = _owner(configuration) if options.machine else 0
    return Installation(
        name=name_of(configuration.state.path),
        root=str(configuration.project.root),
        state_dir=str(configuration.state.path),
        interpreter=sys.executable,
        config=str(configuration.source) if options.config is not None else None,
        env={name: os.environ[name] for name in set(CARRIED) - set(GIVEN) | set(options.env) if name in os.environ},
        machine=options.machine,
        account=_account(owner) if owner else None,
    )


def _owner(configuration: Configuration) -> int:
    """Return the owner of the project: the supervisor of the machine runs as that user."""
    return configuration.project.root.stat().st_uid


def _account(uid: int) -> str:
    """Return the name of a user, or the number of one without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _warn_of_missing_variables(
    configuration: Configuration, options: argparse.Namespace, installation: Installation
) -> None:
    """Warn if the configuration cannot be used with the variables that the supervisor will have."""
    given = {name: os.environ[name] for name in GIVEN if name in os.environ}
    try:
        load(
            options.config,
            state_dir=configuration.state.path,
            directory=configuration.project.root,
            environ={**given, **installation.env},
        )
    except ConfigError as error:
        remedy = "add what is missing by --env NAME, or set it for the service manager"
        complain(f"warning: the supervisor will not have all variables of this shell: {error}; {remedy}", DONE)


def _read(service: Service) -> str | None:
    """Return the text of the file, which is ours; None if there is none.

    Raises:
        CannotInstall: it is not ours.
    """
    path = service.path
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(path)
            masked = "; the unit is masked: unmask it with systemctl" if target == os.devnull else "; move it away"
            raise CannotInstall(f"{path} is a link to {target}, which is not our doing{masked}")
        if not stat.S_ISREG(found.st_mode):
            raise CannotInstall(f"{path} is not a file; move it away")
        text = path.read_text(encoding="utf-8", errors="backslashreplace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotInstall(f"cannot read {path}: {error.strerror}") from None
    if HEADER not in text[:HEAD]:
        raise CannotInstall(f"{path} was not written by neo-daemons; move it away")
    return text


def _show(plan: Plan) -> None:
    """Show what will be written, of a changed file the difference, and what will be done."""
    path, old = plan.service.path, plan.old
    if old == plan.text:
        print(f"{path} is up to date; run:")
    else:
        print(f"{'change' if old is not None else 'write'} {path}:")
        lines = plan.text.splitlines()
        if old is not None:
            lines = list(difflib.unified_diff(old.splitlines(), lines, "old", "new", lineterm=""))
        print(*(f"    {line}".rstrip() for line in lines), sep="\n")
        print("then run:")
    print(*(f"    {shlex.join(step)}" for step in (*plan.service.load, plan.start)), sep="\n")
    if plan.replaces:
        print(f"supervisor {plan.found} is replaced; its daemons keep running")


def _ask(options: argparse.Namespace) -> int | None:
    """Ask whether to go on. Return an exit code if not."""
    if options.yes:
        return None
    if not sys.stdin.isatty():
        return complain("there is no terminal to ask on; pass --yes to do this, or --dry-run to only show it", USAGE)
    try:
        answer = input("Do this? [y/N] ")
    except EOFError:
        answer = ""
        print()
    if answer.strip().lower() in ("y", "yes"):
        return None
    print("nothing was done")
    return FAILED


def _write(plan: Plan, options: argparse.Namespace) -> None:
    path = plan.service.path
    if plan.text == plan.old:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Variables may be secrets. The system's systemd tells them to everybody, and warns of private files.
        write_whole(path, plan.text.encode(), sync=True, mode=0o644 if options.machine else 0o600)
    except OSError as error:
        raise _refused(f"cannot write {path}", error, options) from None
    print(f"wrote {path}")


def _refused(what: str, error: OSError, options: argparse.Namespace) -> CannotInstall:
    remedy = "; run this as root" if options.machine and isinstance(error, PermissionError) else ""
    return CannotInstall(f"{what}: {error.strerror}{remedy}")


def _disable(options: argparse.Namespace) -> int:
    state = find_state_dir(options.state_dir, file=options.config)
    service = services.find(name_of(state.path), machine=options.machine, environ=os.environ)
    text = _read(service)
    remains = [path for path in (*service.links, service.path) if os.path.lexists(path)]
    if not remains:
        print(f"not enabled: there is no {service.path}")
        return DONE
    if text is not None:
        print(f"run:\n    {shlex.join(service.unload)}")
    print(*(f"remove {path}" for path in remains), sep="\n")
    if options.dry_run:
        return DONE
    code = _ask(options)
    if code is not None:
        return code
    answers = shutil.which(service.unload[0]) is not None and (text is None or _unload(service))
    if not answers and (found := supervisor(state)) is not None:
        raise CannotInstall(
            f"{service.manager} has not stopped supervisor {found}, and nothing was removed; "
            f"stop it with `{state.command('down')}` and disable it again"
        )
    _remove(service, options)
    if answers:
        for step in service.removed:
            _run(step)
    print(f"removed {service.path}")
    changes = service.path.with_name(f"{service.path.name}.d")
    if changes.exists():
        print(f"{changes} is not ours, and was kept")
    return DONE


def _unload(service: Service) -> bool:
    """Have the service manager stop the supervisor, and forget it. Return whether it has."""
    if service.restart is None and not _succeeds(service.is_loaded):
        return True  # launchd cannot stop what it does not know
    if not _run(service.unload):
        return False
    if service.has_failed is not None and service.forget is not None and _succeeds(service.has_failed):
        _run(service.forget)
    return True


def _remove(service: Service, options: argparse.Namespace) -> None:
    """Remove the file, and links to it that the service manager was not there to remove."""
    try:
        for link in service.links:
            if link.is_symlink():
                link.unlink()
                if not any(link.parent.iterdir()):
                    link.parent.rmdir()
        service.path.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(f"cannot remove {error.filename}", error, options) from None


def _run(command: Command) -> bool:
    """Run a command that tells the user itself what is wrong, and return whether it succeeded."""
    sys.stdout.flush()
    return foreground.run(command, os.environ) == 0


def _succeeds(command: Command) -> bool:
    """Run a command that only answers a question; without it, the answer is no."""
    try:
        return foreground.run(command, os.environ, quiet=True) == 0
    except OSError:
        return False
