"""Have the processes of this interpreter's environment emulate macOS where ``NEO_DAEMONS_TEST_EMULATE=macos`` is set:
``python -m tests.macos``."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

PACKAGE = "emulated_macos"
INIT = """
def install():
    from . import emulation

    def libsystem():
        from .libsystem import LibSystem

        return LibSystem()

    def kqueue(put):
        from .kqueue_shim import install

        install(put)

    emulation.install(libsystem, kqueue)
"""
START = (
    "import os; 'macos' in (os.environ.get('NEO_DAEMONS_TEST_EMULATE'), os.environ.get('EMULATED_SYSTEM')) "
    f"and __import__('{PACKAGE}').install()\n"
)


def main() -> None:
    """Copy the modules, and a line that the interpreter executes when it starts."""
    here, site = Path(__file__).parent, Path(sysconfig.get_path("purelib"))
    package = site / PACKAGE
    package.mkdir(exist_ok=True)
    for source in (here / "emulation.py", here / "libsystem.py", here.parent / "kqueue_shim.py"):
        shutil.copy(source, package)
    (package / "__init__.py").write_text(INIT)
    (site / f"{PACKAGE}.pth").write_text(START)


if __name__ == "__main__":
    main()
