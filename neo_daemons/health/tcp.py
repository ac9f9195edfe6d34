"""Checks a daemon by connecting to its port."""

from __future__ import annotations

from pathlib import Path

from neo_daemons.checks import tcp
from neo_daemons.checks.reasons import is_refused, lacking, reason

from .listener import Listener
from .observation import Details
from .observer import TIMEOUT_S, Draft, Observer
from .record import Verification


class TcpObserver(Observer[Details]):
    """Connects to a port and sends nothing.

    Args:
        host: a name or an address.
        port: by default, the first recorded port.
    """

    details = Details

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        name: str,
        state_dir: Path | str | None = None,
        timeout_s: float = TIMEOUT_S,
        reuse_s: float = 0.0,
    ) -> None:
        if port is None and state_dir is None:
            raise ValueError(f"{name}: pass a port, or the state directory that records it")
        if port is not None and not 0 < port < 65_536:
            raise ValueError(f"{name}: port {port}: expected a port from 1 to 65535")
        super().__init__(name, state_dir, timeout_s, reuse_s)
        self._host = host
        self._port = port
        self._listener = Listener()

    def _place(self) -> str:
        return f"at {self._host}:{self._port}" if self._port is not None else super()._place()

    def _verify_record(self) -> Verification | None:
        verification = super()._verify_record()
        if self._port is None or verification is None or verification.record is None:
            return verification
        ports = verification.record.ports.values()
        return verification if self._port in ports else verification.elsewhere(f"ports {', '.join(map(str, ports))}")

    async def _examine(self, draft: Draft, verification: Verification | None) -> None:
        port = self._port
        if port is None:
            assert verification is not None
            if verification.record is None:
                draft.record_missing(verification)
                return
            port = next(iter(verification.record.ports.values()), None)
            if port is None:
                draft.fault("its PID record contains no port; pass one", "unknown")
                return
        draft.doing = f"{self._host}:{port}"
        try:
            await tcp.connect(self._host, port)
        except ValueError as error:
            draft.fault(f"{draft.doing}: cannot connect: {reason(error)}", "unknown")
        except OSError as error:
            if lacking(error) is not None:
                draft.fault(f"{draft.doing}: {lacking(error)} (in the observing process)", "unknown")
            else:
                draft.fault(f"{draft.doing}: {reason(error)}")
            draft.nobody_listens = is_refused(error)
        finally:
            self._listener.seek(draft, self._host, port)
