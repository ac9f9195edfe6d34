"""The environment variables that the daemons of a session inherit, and how those of two runs differ. A session keeps
digests of their values only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

LEFT_OUT = ("PYTEST_", "COV_CORE_", "COVERAGE_", "NEO_DAEMONS_", "TERM", "SSH_", "XDG_SESSION")
LEFT_OUT_NAMES = frozenset({"_", "COLUMNS", "LINES", "OLDPWD", "PWD", "SHLVL", "WINDOWID"})
"""Variables that daemons of a session do not inherit: they describe the run, and no daemon should depend on them. The
first are how names begin."""
NOISE = (
    # of shells and their prompts, and of runners
    "DIRENV_", "ATUIN_", "STARSHIP_", "P9K_", "_P9K_", "__MISE_", "MAKE_TERM",
    # of terminals
    "TMUX", "ZELLIJ", "KITTY_", "ITERM_", "ALACRITTY_", "WEZTERM_", "GHOSTTY_", "KONSOLE_", "WARP_", "GUAKE_", "TILIX_",
    "GNOME_TERMINAL_",
    # of editors and debuggers
    "VSCODE_", "JETBRAINS_", "NVIM", "INSIDE_EMACS", "__INTELLIJ_", "DEBUGPY_", "CURSOR_TRACE_",
)  # fmt: skip
NOISE_NAMES = frozenset(
    {
        "COLORTERM", "COLORFGBG", "GPG_TTY", "LC_TERMINAL", "LC_TERMINAL_VERSION", "SHELL_SESSION_ID", "STY", "WINDOW",
        "VTE_VERSION", "WT_PROFILE_ID", "WT_SESSION", "PROMPT_COMMAND", "PS1", "FNM_MULTISHELL_PATH",
        "DESKTOP_STARTUP_ID", "GIO_LAUNCHED_DESKTOP_FILE", "GIO_LAUNCHED_DESKTOP_FILE_PID", "INVOCATION_ID",
        "JOURNAL_STREAM", "MANAGERPID", "SECURITYSESSIONID", "SESSION_MANAGER", "SYSTEMD_EXEC_PID",
        "XDG_ACTIVATION_TOKEN",
        "MYVIMRC", "VIM", "VIMRUNTIME", "IDEA_INITIAL_DIRECTORY", "PYCHARM_HOSTED",
        "BUNDLED_DEBUGPY_PATH", "CHROME_DESKTOP", "ELECTRON_RUN_AS_NODE", "GIT_ASKPASS", "PYTHONSTARTUP",
        "CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT",
        "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "UV_RUN_RECURSION_DEPTH",
        "CONDA_PROMPT_MODIFIER", "CONDA_SHLVL", "VIRTUAL_ENV_PROMPT", "PYTHONHASHSEED",
    }
)  # fmt: skip
"""Variables that daemons inherit, but that differ from terminal to terminal or from run to run without a meaning for
them: a session that was kept warm is used again in spite of them. A name that a program could use for its settings does
not belong here."""
SHOWN = 6


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that daemons of a session inherit."""
    return {
        name: value for name, value in environ.items() if name not in LEFT_OUT_NAMES and not name.startswith(LEFT_OUT)
    }


def digests(environ: Mapping[str, str], salt: str) -> dict[str, str]:
    """Return a digest for each variable that must be the same for daemons that were kept warm.

    Args:
        salt: of the session, so that the digests of short secrets cannot be looked up.
    """
    return {
        _text(name): _digest(value, salt)
        for name, value in environment(environ).items()
        if name not in NOISE_NAMES and not name.startswith(NOISE)
    }


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()  # it may hold any bytes


def _digest(value: str, salt: str) -> str:
    return hashlib.blake2b(value.encode("utf-8", "surrogateescape"), key=salt.encode(), digest_size=8).hexdigest()


def differing(before: Mapping[str, str], after: Mapping[str, str]) -> Iterable[str]:
    """Return in words which variables differ, by their digests."""
    kinds = {
        "changed": [name for name in after if name in before and before[name] != after[name]],
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
    }
    for how, names in kinds.items():
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            variables = "variable" if len(names) == 1 else "variables"
            yield f"environment {variables} {how}: {', '.join(sorted(names)[:SHOWN])}{more}"
