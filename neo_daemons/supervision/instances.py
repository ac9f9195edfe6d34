"""Daemons that are not shared: a template in the configuration, and an instance of it for each client.

An instance is a daemon like any other, on demand and without idle time, so it ends with its client's lease. Without
ports, it talks to that client over standard input and output, which `stdio_host` hands over to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import msgspec

from neo_daemons.definitions import CannotRun, Definition, Launch, Restart
from neo_daemons.references import escape
from neo_daemons.state_dir import StateDir
from neo_daemons.status import Holder

from . import faults
from .daemon import SupervisedDaemon
from .demand import Demand
from .fleet import Fleet, is_down
from .machine import Event, Refused
from .platform import stdio_host

MAX_INSTANCES = 64
"""Of one template. More clients are refused: somebody starts them and does not end them."""
RECLAIM_S = 10.0
"""How long an adopted instance waits for its client to take its lease again. Clients try twice a second."""

Resolve = Callable[[Definition], Launch | CannotRun]


class Instances:
    """The instances of one supervisor.

    Args:
        find: returns the daemon of a name, or raises `UnknownDaemon`.
    """

    def __init__(self, fleet: Fleet, demand: Demand, find: Callable[[str], SupervisedDaemon]) -> None:
        self._fleet = fleet
        self._demand = demand
        self._find = find
        self._removing: dict[str, asyncio.Task[None]] = {}
        self._kept: dict[str, int] = {}
        """Adopted instance → the lease that keeps it until its client has taken one again."""
        self._reclaiming: asyncio.TimerHandle | None = None
        demand.on_released = self._review
        fleet.context.changed.listeners.append(self._review)

    def begin(self) -> None:
        """Give the clients of adopted instances time to take their leases again."""
        self._remove_sockets()
        adopted = [name for name, daemon in self._fleet.daemons.items() if daemon.definition.instance_of is not None]
        if adopted:
            holder = Holder(name="its client, to be heard of", pid=None, since=time.time())
            self._kept = {name: self._demand.passing(name, holder) for name in adopted}
            self._reclaiming = asyncio.get_running_loop().call_later(RECLAIM_S, self._keep_no_more)

    def _keep_no_more(self) -> None:
        while self._kept:
            self._demand.give_up(self._kept.popitem()[1])

    def close(self) -> None:
        """Remove no instance any more: the supervisor is stopping."""
        if self._reclaiming is not None:
            self._reclaiming.cancel()

    # Clients

    def check_need(self, name: str, *, own: bool) -> None:
        """Check that a client can need a daemon.

        Args:
            own: it wants an instance if the daemon is a template, or if `name` is that of an instance which is gone.

        Raises:
            UnknownDaemon: it is not configured.
            Refused: the daemon is a template, and the client does not want an instance or cannot get one.
        """
        template = self._template(name) if own else None
        if template is None:
            daemon = self._find(name)
            if daemon.definition.is_template:
                raise Refused(_usage(name))
            return
        if not template.definition.enabled:
            raise Refused(f"{template.name} is not enabled in the configuration")
        if template.held:
            raise Refused(f"{template.name} is held; run `{self._command(f'release {template.name}')}`")
        if self._fleet.context.is_stopping():
            raise Refused("the supervisor is stopping")
        if template.name in self._fleet.changing:
            raise Refused(f"a reload is changing {template.name}; try again when the reload is done")
        if sum(1 for _ in self._of(template.name)) >= MAX_INSTANCES:
            raise Refused(
                f"{template.name} has {MAX_INSTANCES} clients, and each has a process; end some of them: "
                f"`{self._command('status')}` lists them"
            )

    def give(self, name: str) -> str:
        """Return the name of the daemon that a client uses who needs this one: a new instance if it is a template. The
        client must be able to need it, see `check_need`, and take a lease at once."""
        template = self._template(name)
        if template is None:
            if name in self._kept:
                self._demand.give_up(self._kept.pop(name))
            return name
        own = name if name != template.name else self._free_name(template.name)
        self._fleet.add(instance(template.definition, own))
        self._demand.look_again()
        return own

    def check_order(self, daemon: SupervisedDaemon, event: Event) -> None:
        """Check that an operator's order to a daemon makes sense.

        Raises:
            Refused: a template cannot be started.
        """
        if daemon.definition.is_template and event in (Event.START, Event.RESTART):
            raise Refused(_usage(daemon.name))

    def _template(self, name: str) -> SupervisedDaemon | None:
        """Return the template of which a client that asks for this name gets a new instance."""
        daemons = self._fleet.daemons
        daemon = daemons.get(name)
        if daemon is None:
            stem = template_name(name)
            daemon = daemons.get(stem) if stem is not None else None
        return daemon if daemon is not None and daemon.definition.is_template else None

    def _free_name(self, template: str) -> str:
        number = 1
        while (name := f"{template}-{number}") in self._fleet.daemons:
            number += 1
        return name

    def _of(self, template: str) -> Iterator[SupervisedDaemon]:
        return (one for one in self._fleet.daemons.values() if one.definition.instance_of == template)

    def _command(self, words: str) -> str:
        return self._fleet.context.state_dir.command(words)

    # Ends

    def kept_by(self, definitions: Iterable[Definition]) -> list[Definition]:
        """Return new definitions, and after each template those of its present instances, which stay as they are until
        their clients end."""
        found = []
        for definition in definitions:
            found.append(definition)
            if definition.is_template and definition.enabled:
                found += [one.definition for one in self._of(definition.name)]
        return found

    def _review(self, name: str) -> None:
        """Remove an instance that is down and that nobody needs."""
        if self._is_over(name) and name not in self._removing:
            removing = asyncio.get_running_loop().create_task(self._remove(name))
            self._removing[name] = faults.reported(removing, f"removing {name}")
            removing.add_done_callback(lambda _: self._removing.pop(name, None))

    def _is_over(self, name: str) -> bool:
        daemon = self._fleet.daemons.get(name)
        if daemon is None or daemon.definition.instance_of is None or name in self._fleet.changing:
            return False
        return is_down(daemon) and self._demand.is_free(name) and not self._fleet.context.is_stopping()

    async def _remove(self, name: str) -> None:
        if self._is_over(name):  # still
            await self._fleet.remove(name)
            with contextlib.suppress(OSError):
                self._socket(name).unlink(missing_ok=True)
            self._demand.look_again()

    def _socket(self, name: str) -> Path:
        return self._fleet.context.state_dir.daemon_socket(name)

    def _remove_sockets(self) -> None:
        """Remove the sockets of instances that were killed together with their supervisor."""
        for path in self._fleet.context.state_dir.daemons.glob("*.sock"):
            if path.stem not in self._fleet.daemons:
                with contextlib.suppress(OSError):
                    path.unlink()


def instance(template: Definition, name: str) -> Definition:
    """Return the definition of an instance."""
    # The client of one that speaks stdio ends with it, so nobody would talk to the next process.
    restart = Restart(when="never") if template.speaks_stdio else template.restart
    return msgspec.structs.replace(
        template, name=name, instance_of=template.name, start="on-demand", idle_stop_s=0.0, restart=restart
    )


def template_name(name: str) -> str | None:
    """Return the name of the template of which a name could be an instance."""
    stem, dash, number = name.rpartition("-")
    return stem if dash and number.isdecimal() and number.isascii() else None


def survivors_of(
    definitions: Iterable[Definition], alive: Collection[str], recorded: Collection[str]
) -> tuple[Definition, ...]:
    """Return the definitions of the instances that an earlier supervisor left.

    Args:
        definitions: the configured daemons.
        alive: the names of daemons of which a process lives.
        recorded: the names of daemons that have a record. If such an instance speaks HTTP, its client waits for it.
    """
    known = {definition.name: definition for definition in definitions}
    found = []
    for name in sorted({*alive, *recorded} - known.keys()):
        template = known.get(template_name(name) or "")
        if template is None or not template.is_template or not template.enabled:
            continue
        if name in alive or not template.speaks_stdio:
            found.append(instance(template, name))
    return tuple(found)


def hosting(resolve: Resolve, state_dir: StateDir) -> Resolve:
    """Return `resolve` such that instances that speak stdio are started by `stdio_host`."""

    @functools.wraps(resolve)
    def hosted(definition: Definition) -> Launch | CannotRun:
        launch = resolve(definition)
        if isinstance(launch, CannotRun) or definition.instance_of is None or not definition.speaks_stdio:
            return launch
        socket = escape(str(state_dir.daemon_socket(definition.name)))
        host = (sys.executable, "-IS", escape(str(stdio_host.__file__)), socket)
        return msgspec.structs.replace(launch, command=(*host, *launch.command))

    return hosted


def _usage(name: str) -> str:
    return f"{name} has one process for each client (share = false), which `neo-daemons mcp connect {name}` starts"
