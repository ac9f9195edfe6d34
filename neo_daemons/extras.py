"""How to install what our extras need."""

from __future__ import annotations

import importlib.util
import shlex
import sys


def pip_install(extra: str) -> str:
    """Return the command that installs the packages of one of our extras into this interpreter's environment.

    It names the packages from our metadata instead of the extra, because we may have been installed from a checkout.
    """
    from importlib import metadata

    from packaging.requirements import Requirement

    stated = [Requirement(text) for text in metadata.requires("neo-daemons") or ()]
    wanted = [
        f"{one.name}{'[' + ','.join(sorted(one.extras)) + ']' if one.extras else ''}{one.specifier}"
        for one in stated
        if one.marker is not None and one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""})
    ]
    python = shlex.quote(sys.executable)
    # Environments of uv have no pip.
    has_pip = importlib.util.find_spec("pip") is not None
    command = f"{python} -m pip install" if has_pip else f"uv pip install --python {python}"
    return " ".join([command, *(f'"{one}"' for one in wanted)])
