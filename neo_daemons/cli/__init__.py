"""The command line: ``neo-daemons``, and the same as ``python -m neo_daemons``.

Exit codes: 0 success; 1 the operation failed; 2 invalid usage or configuration; 3 no supervisor is running; 4 the state
directory is already supervised; 5 a required daemon cannot run. `health` has its own.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
from collections.abc import Callable, Sequence

from neo_daemons.state_dir import StateDirError, UnusableStateDir, is_text, keep_own_rights

from .codes import DONE, FAILED, INTERRUPTED, NO_SUPERVISOR, UNKNOWN, USAGE
from .parser import command_parser
from .streams import complain, drop_output, open_closed_streams, say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    keep_own_rights()
    if arguments is None and "_ARGCOMPLETE" in os.environ:
        from .completion import complete

        complete()
    given = list(sys.argv[1:] if arguments is None else arguments)
    options, rest = command_parser(given).parse_known_args(given)
    if rest:
        options.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if (getattr(options, "json", False) or options.command == "env") and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # as files are, whatever the locale
    for argument in given:
        if not is_text(argument):
            options.parser.error(f"{argument!r} is not UTF-8")
    from neo_daemons.config.errors import ConfigError
    from neo_daemons.control.client import ControlError, NoSupervisor

    try:
        command = _command(options.command)
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        code = command(options)
        sys.stdout.flush()
    except (ConfigError, UnusableStateDir) as error:
        return complain(str(error), USAGE)
    except NoSupervisor as error:
        return complain(str(error), NO_SUPERVISOR)
    except (ControlError, StateDirError) as error:
        return complain(str(error), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has closed it: print no message, and suppress that of the interpreter's last flush.
        drop_output()
        return DONE
    except OSError as error:
        drop_output()
        return complain(f"{error.strerror}: {error.filename or 'standard output or the working directory'}", FAILED)
    except Exception as error:
        from neo_daemons import bugs

        if options.command == "serve" and not sys.stderr.isatty():
            say(bugs.details(error))  # into the log
        return complain(bugs.describe(error), UNKNOWN if options.command == "health" else FAILED)
    return code


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """Return what a command runs, after importing no more than that."""
    match name:
        case "serve":
            from .serve import serve

            return serve
        case "up":
            from .up import up

            return up
        case "down":
            from .down import down

            return down
        case "doctor" | "reap":
            from . import inspect

            return inspect.doctor if name == "doctor" else inspect.reap
        case "snapshot" | "restore":
            from .snapshot import run as copy_data

            return copy_data
        case "env":
            from .env import env

            return env
        case "exec":
            from .execute import execute

            return execute
        case "enable" | "disable":
            from . import enable as installing

            return installing.enable if name == "enable" else installing.disable
        case "sessions":
            from .sessions import sessions

            return sessions
        case "render":
            from .render import run as render

            return render
        case "mcp":
            from .mcp import mcp

            return mcp
        case "logs":
            from .logs import logs

            return logs
        case "init":
            from .init import init

            return init
        case "completion":
            from .completion import completion

            return completion
        case "schema":
            from .schema import print_schema

            return print_schema
        case "health":
            from .health import health

            return health
        case _:
            from .client import run

            return run
