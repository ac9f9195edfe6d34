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


def copy(site: Path) -> None:
    """Copy the modules to where an interpreter finds them."""
    here, package = Path(__file__).parent, site / PACKAGE
    package.mkdir(exist_ok=True)
    for source in (here / "emulation.py", here / "libsystem.py", here.parent / "kqueue_shim.py"):
        shutil.copy(source, package)
    (package / "__init__.py").write_text(INIT)


def main() -> None:
    """Copy them into this environment, with a line that its interpreter executes when it starts."""
    site = Path(sysconfig.get_path("purelib"))
    copy(site)
    (site / f"{PACKAGE}.pth").write_text(START)


if __name__ == "__main__":
    main()
