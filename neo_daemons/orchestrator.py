"""Run the daemons of a configuration, with the control API and signal handling.

orchestrator = AgentOrchestrator(config.load())
await orchestrator.start()
...
await orchestrator.stop()
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from . import threads
from .catalog import resolve
from .config.errors import ConfigError
from .config.project import Configuration
from .definitions import CannotRun, Definition, Launch
from .environment import inherited
from .extras import pip_install
from .life import Life
from .state_dir import StateDirError, StateDirLost
from .status import Change, EventName, Needed, Status
from .supervision import faults
from .supervision.machine import Refused
from .supervision.platform import MARK_VARIABLE
from .supervision.registrar import Registrar
from .supervision.supervisor import PARALLEL, Supervisor

if TYPE_CHECKING:
    from .control.address import Loopback
    from .control.protocols import DefinedSession
    from .source_watch import SourceWatch

SETTLED_S = 10.0
"""After this time, most objects of a supervisor exist that last as long as its daemons."""
PRESENCE_S = 2.0
"""The interval of checks that the supervisor can still be found: its directory, lock, record and socket."""


class AgentOrchestrator:
    """Starts, supervises and stops the daemons of one configuration.

    Args:
        configuration: what to run, and where.
        config_file: the file that `reload` reads; None: `reload` searches for it again.
        on_demand: start every daemon on demand, whatever its definition says.
        listen: also serve the control API at this TCP address, for clients that have the token.
    """

    session: DefinedSession | None = None
    """The session that this supervisor belongs to, if any; see `neo_daemons.ephemeral`."""
    registers = True
    """Whether `run` enters it in the user's registry, so that test processes keep away from its daemons."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        config_file: Path | None = None,
        on_demand: bool = False,
        listen: Loopback | None = None,
    ) -> None:
        self.configuration = configuration
        self._on_demand = on_demand
        self.life: Life | None = None
        """How long it runs, if that depends on leases. May be set before `start`."""
        self._listen = listen
        self._config_file = config_file
        self._stop_asked = asyncio.Event()
        self._detach = False
        self._started = False
        self._runs = False
        self._settled_at = 0.0
        self.lost: StateDirLost | None = None
        """Why the supervisor stopped by itself, if it did: its state directory was moved or taken by another."""
        self._presence: asyncio.Task[None] | None = None
        self._sources: SourceWatch | None = None
        self._registrar: Registrar | None = None
        self._stopping = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        project = configuration.project
        # A supervisor that is itself a daemon of another one does not pass its own mark on to its daemons.
        env = {name: value for name, value in project.environ.items() if name != MARK_VARIABLE}
        self.supervisor = Supervisor(
            self._wanted(configuration.definitions),
            state_dir=configuration.state,
            resolve=self._resolve,
            values=project.references(configuration.state.path),
            env=inherited(env),
            parallel=configuration.parallel or PARALLEL,
            config=str(configuration.source) if configuration.source else None,
        )

    def _wanted(self, definitions: Iterable[Definition]) -> list[Definition]:
        if not self._on_demand:
            return list(definitions)
        return [msgspec.structs.replace(one, start="on-demand", idle_stop_s=None) for one in definitions]

    def _resolve(self, definition: Definition) -> Launch | CannotRun:
        return resolve(definition, self.configuration.project)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, *, starts_all: bool = True) -> None:
        """Claim the state directory, begin to start the daemons, and serve the control API.

        Args:
            starts_all: start every enabled daemon; otherwise only survivors are adopted, and others wait for an order.

        Raises:
            AlreadyRunning: another supervisor runs in the state directory.
            StateDirError: the state directory or the address to listen at cannot be used.
        """
        from .control.address import socket_path

        state_dir = self.configuration.state
        self.supervisor.upkeep.claim()
        tcp = None
        try:
            path = socket_path(state_dir.path)
            with contextlib.suppress(OSError):
                state_dir.token.unlink()  # of a supervisor that was killed
            if self._listen is not None:
                from .control.tcp_listener import TcpListener

                tcp = TcpListener(self._listen, state_dir.token)
                self.supervisor.url = tcp.address.url
            self.supervisor.upkeep.announce(str(path))
        except BaseException:
            if tcp is not None:
                tcp.close()
            self.supervisor.release()
            raise
        self.supervisor.launch(starts_all=starts_all)
        # The daemons start while we import the server.
        await self._spawn_first()
        # Supervisors that tests start are not production; pytest sets this variable, and its children inherit it.
        if self._runs and self.registers and "PYTEST_VERSION" not in os.environ:
            self._registrar = Registrar(self.supervisor, str(path))
            await self._registrar.begin()
        from .control.server import ControlServer

        self._control = ControlServer(self, path, tcp)
        try:
            self._control.start()
        except BaseException:
            if tcp is not None:
                tcp.close()
            await self.supervisor.stop()
            self.supervisor.release()
            raise
        self.supervisor.on_remade = self._on_remade
        presence = asyncio.get_running_loop().create_task(self._keep_present())
        self._presence = faults.reported(presence, "checking that the supervisor can be found")
        self._settled_at = asyncio.get_running_loop().time() + SETTLED_S
        self._watch_sources()
        self._started = True

    async def _spawn_first(self) -> None:
        """Give the daemons that wait for no other the time to be spawned."""
        await asyncio.sleep(0)

    async def _keep_present(self) -> None:
        """Keep the supervisor findable; stop it if it loses its state directory."""
        unreachable = None
        self._keep_objects()
        while True:
            await asyncio.sleep(PRESENCE_S)
            if asyncio.get_running_loop().time() < self._settled_at:
                self._keep_objects()
            self.supervisor.platform.reap_orphans()
            try:
                self.supervisor.keep_claim()
                self.supervisor.keep_records()
                if await self._control.listen_again():
                    self.supervisor.upkeep.announce(str(self._control.path))
                if self._registrar is not None:
                    self._registrar.keep()
                unreachable = None
            except StateDirLost as error:
                self.lost = error
                self.ask_to_stop(detach=error.adopted)
                return
            except (OSError, StateDirError) as error:
                if str(error) != unreachable:
                    unreachable = str(error)
                    self.supervisor.journal.add(EventName.UNREACHABLE, detail=unreachable)

    def _keep_objects(self) -> None:
        """Make the garbage collector pass over what there is now: with a thousand daemons, a look at all of it holds up
        the loop for 30 ms. What is deleted is freed all the same, unless it is part of a cycle."""
        if self._runs:
            gc.freeze()

    def _on_remade(self) -> None:
        """Recreate the files of a subclass after the state directory was deleted and recreated."""

    async def stop(self, *, detach: bool = False) -> None:
        """Stop every daemon, dependants first; with `detach` leave them running for adoption. A second call waits for
        the first."""
        async with self._stopping:
            if not self._started:
                return
            self._started = False
            if self._presence is not None:
                self._presence.cancel()
            if self._sources is not None:
                await self._sources.stop()
            await self.supervisor.stop(detach=detach)
            await self._control.stop()
            if self._registrar is not None:
                await self._registrar.end()
            self.supervisor.release()

    def lease_taken(self, lease: int, *, owner: bool) -> None:
        """Note that a client holds this lease from now on.

        Args:
            owner: it takes the place of the process that started the supervisor.

        Raises:
            Refused: too late, the supervisor is stopping.
        """
        if self._stop_asked.is_set():
            raise Refused("the supervisor is stopping")
        if self.life is not None:
            self.life.taken(lease, owner=owner)

    def lease_dropped(self, lease: int) -> None:
        """Note that the client has given up this lease."""
        if self.life is not None:
            self.life.dropped(lease)

    async def need(self, name: str, wait_s: float) -> Needed:
        """Start a daemon unless it is running, and wait up to `wait_s` seconds for the outcome; see `Needs.need`."""
        return await self.supervisor.needs.need(name, wait_s)

    def status(self) -> Status:
        """Return the current status of the supervisor and its daemons."""
        return self.supervisor.status()

    async def wait_ready(self, timeout_s: float, names: tuple[str, ...] = ()) -> bool:
        """Wait until the named daemons, or all that are started with the supervisor, are ready; return False after
        `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        for daemon in [self.supervisor.daemon(name) for name in names] or list(self.supervisor.daemons.values()):
            started = daemon.definition.enabled and daemon.definition.start == "always"
            if (names or started) and not await daemon.wait_for(lambda d: d.ready, max(deadline - loop.time(), 0)):
                return False
        return True

    async def reload(self, *, dry_run: bool = False) -> list[Change]:
        """Reload the configuration and restart only the daemons that changed.

        Raises:
            ConfigError: the configuration cannot be used; nothing was changed.
            Refused: the supervisor is stopping.
        """
        from .config.configuration import load

        current = self.configuration
        new = load(
            self._config_file,
            state_dir=current.state.path,
            directory=current.project.root,
            environ=current.project.environ,
        )
        if dry_run:
            return await self.supervisor.plan(self._wanted(new.definitions))
        changes = await self.supervisor.reload(
            self._wanted(new.definitions), config=str(new.source) if new.source else None
        )
        self.configuration = new
        if self._runs:
            gc.unfreeze()
            gc.collect()
            self._settled_at = asyncio.get_running_loop().time() + SETTLED_S
        self._watch_sources()
        return changes

    def _watch_sources(self) -> None:
        """Restart daemons from now on when the files that they watch change. In a session only the next run does."""
        definitions = self.configuration.definitions
        if self.session is not None or not (self._sources or any(definition.files for definition in definitions)):
            return
        if self._sources is None:
            from .source_watch import SourceWatch

            self._sources = SourceWatch(self.supervisor, self.configuration.project.root, lambda: pip_install("watch"))
        self._sources.begin(definitions)

    def ask_to_stop(self, *, detach: bool = False) -> None:
        """Begin to stop. A second call skips all grace periods."""
        if self._stop_asked.is_set():
            self.supervisor.hurry()
            return
        self._detach = detach
        self._stop_asked.set()
        self.supervisor.stopping = True
        if not self._runs:
            # Embedded in a program that keeps running: nothing awaits the event.
            stopping = asyncio.get_running_loop().create_task(self.stop(detach=detach))
            self._tasks.append(faults.reported(stopping, "stopping"))

    async def run(
        self, *, detach_on_exit: bool = False, started: Callable[[], None] = lambda: None, starts_all: bool = True
    ) -> None:
        """Start, call `started`, and run until SIGTERM, SIGINT or a request to shut down; then stop. SIGHUP reloads; a
        second SIGINT skips all grace periods. For a process that does nothing but supervise.

        Raises:
            AlreadyRunning, StateDirError: as `start`.
            StateDirLost: the supervisor lost its state directory and has stopped.
        """
        threads.take_all_signals()
        loop = asyncio.get_running_loop()
        had_terminal = sys.stdout is not None and sys.stdout.isatty()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, lambda: self.ask_to_stop(detach=detach_on_exit))
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
            loop.add_signal_handler(signal.SIGHUP, self._hang_up, had_terminal, detach_on_exit)
        self._runs = True
        self.supervisor.platform.become_subreaper()
        try:
            await self.start(starts_all=starts_all)
            started()
            await self._stop_asked.wait()
            await self.stop(detach=self._detach)
            if self.lost is not None:
                raise self.lost
        finally:
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(signum)

    def _hang_up(self, had_terminal: bool, detach_on_exit: bool) -> None:
        if had_terminal and not _has_terminal():
            # The signal does not ask for a reload: our terminal was closed.
            self.ask_to_stop(detach=detach_on_exit)
            return
        reloading = asyncio.get_running_loop().create_task(self._reload_by_signal())
        self._tasks.append(faults.reported(reloading, "reloading after SIGHUP"))

    async def _reload_by_signal(self) -> None:
        try:
            await self.reload()
        except (ConfigError, Refused) as error:
            self.supervisor.journal.add(EventName.RELOAD_REFUSED, detail=str(error).replace("\n", " "))


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
