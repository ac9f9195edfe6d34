"""A program that uses observers under an audit hook, for tests: what Python is asked to do behind their backs is told.

One JSON object a line on standard input says which observer to make; it makes every public call, and answers with what
was seen, and with every event by which a process could have been started or signalled, or a file written.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

FORBIDDEN = (
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.kill",
    "signal.",
    "pty.",
)
WRITING = (
    "os.chmod", "os.chown", "os.link", "os.lockf", "os.mkdir", "os.putenv", "os.remove", "os.rename", "os.rmdir",
    "os.setxattr", "os.symlink", "os.truncate", "os.unsetenv", "os.utime", "fcntl.flock", "fcntl.lockf", "shutil.",
    "tempfile.",
)  # fmt: skip
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
events: list[str] = []


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what an observer must not do."""
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & WRITE_FLAGS:
            events.append(f"open {path!r} {flags:o}")
    elif event.startswith((*FORBIDDEN, *WRITING)):
        events.append(f"{event} {arguments!r}"[:300])


def use(order: dict[str, Any]) -> list[dict[str, Any]]:
    """Make an observer, and every public call of it; what the first and the last saw."""
    from neo_daemons import health

    def make() -> health.Observer[Any]:
        made: health.Observer[Any] = getattr(health, order["kind"])(*order.get("args", ()), **order.get("options", {}))
        return made

    observer = make()
    seen = observer.check()

    async def calls() -> None:
        other = make()
        await other.acheck()
        await other.ais_up()
        for call in (other.aensure_healthy(), other.await_until_ready(0.05)):
            try:
                await call
            except health.Unhealthy as error:
                str(error)
        async for change in other.watch():
            str(change)
            break
        await health.acheck_all([observer, other])

    asyncio.run(calls())
    observer.is_up()
    for call in (observer.ensure_healthy, lambda: observer.wait_until_ready(0.05)):
        try:
            call()
        except health.Unhealthy as error:
            str(error)
    report = health.check_all([observer])
    for _ in (report.text(), report.json(), report.healthz(), report.daemon(observer.name), repr(observer), str(seen)):
        pass
    if order["kind"] == "ChromaObserver":
        database = health.DatabaseLifecycleService(make())  # type: ignore[arg-type]
        database.start_database(0.05)
        database.stop_database()
        database.get_database_status()
        database.manage_database("start")
        database.manage_database("stop")
        database.is_db_running()
        database.wait_for_heartbeat(0.05)
    elif order["kind"] == "MlxObserver":
        inference = health.InferenceLifecycleService(make())  # type: ignore[arg-type]
        inference.start_inference_server(0.05)
        inference.stop_inference_server()
        inference.get_status()
        inference.manage_inference("start")
        inference.manage_inference("stop")
    found: dict[str, Any] = json.loads(report.json())["daemons"][0]
    return [json.loads(health.HealthReport.over([seen]).json())["daemons"][0], found]


def watch() -> None:
    """Note what happens from now on; it cannot be undone."""
    sys.addaudithook(hook)


def main() -> None:
    """Serve."""
    watch()
    for line in sys.stdin:
        events.clear()
        answer = use(json.loads(line))
        print(json.dumps({"seen": answer, "events": events}), flush=True)


if __name__ == "__main__":
    main()
