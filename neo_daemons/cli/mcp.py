"""``mcp`` and ``mcp connect NAME``: for the configuration of an agent."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util

from neo_daemons.definitions import is_name
from neo_daemons.state_dir import StateDir

from .codes import DONE, FAILED, USAGE
from .streams import complain


def mcp(options: argparse.Namespace) -> int:
    """Serve an agent over standard input and output until it closes them. Return the exit code."""
    match options.connect:
        case []:
            return _serve(options)
        case ["connect", name] if is_name(name) and not options.allow_control:
            from neo_daemons.mcp.connect import connect

            from .use import Keeper

            def hold(state: StateDir, daemon: str, holder: str) -> str:
                return Keeper(state, options.config, [daemon], holder, own=True).names[0]

            return connect(name, options.config, options.state_dir, hold)
        case _:
            options.parser.error("expected `mcp [--allow-control]`, or `mcp connect NAME` with the name of a daemon")
            return USAGE


def _serve(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("mcp") is None:
        from neo_daemons.extras import pip_install

        return complain(f"the Python SDK of MCP is not installed; install it: {pip_install('mcp')}", FAILED)
    from neo_daemons.mcp.server import serve
    from neo_daemons.mcp.tools import Tools

    asyncio.run(serve(Tools(options.config, options.state_dir), allow_control=options.allow_control))
    return DONE
