"""The plugin that pytest loads: options, hook specifications, and fixtures that skip.

Everything else is loaded with ``--neo-daemons``. Without it, only this module and its top-level imports are imported.

PYTEST_DONT_REWRITE: see `pytest_neo_daemons`.
"""

from __future__ import annotations

import contextlib

import pytest

from .hookspecs import HookSpecs
from .names import MARKER
from .options import add_options, is_fenced, is_on, refuse_without_flag, will_be_fenced, will_need_supervisor

MARKER_HELP = (
    f"{MARKER}(*names, isolated=False): start these daemons for the test; with isolated=True, give it its own "
    "instances (as new_daemon does), which it may kill, pause or stop"
)
OLDEST = (8, 4)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(HookSpecs)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    add_options(parser)
    config = pluginmanager.get_plugin("pytestconfig")
    if config is not None and will_need_supervisor(config):
        from . import early

        early.begin(config)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    on = will_be_fenced(early_config)
    if on is not None:
        from . import fence

        with contextlib.suppress(Exception):  # `pytest_configure` does it again, and reports why it fails
            fence.begin(early_config, is_on=on)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER_HELP)
    try:
        _configure(config)
    except (pytest.UsageError, pytest.exit.Exception):
        raise
    except Exception as error:  # pytest would show its own internals
        from neo_daemons import bugs

        raise pytest.UsageError(f"neo-daemons: {bugs.describe(error)}") from None


def _configure(config: pytest.Config) -> None:
    on = is_on(config)
    fenced = is_fenced(config, on=on)
    if not on:
        from .off import skip_what_needs_daemons

        refuse_without_flag(config)
        skip_what_needs_daemons(config)
        if fenced:
            from . import fence

            fence.begin(config, is_on=False)
        return
    if pytest.version_tuple < OLDEST:
        raise pytest.UsageError(f"--neo-daemons requires pytest 8.4 or newer, but this is {pytest.__version__}")
    from neo_daemons.interpreter import installed_modules

    with installed_modules():
        from .hooks import activate
    session = activate(config)
    if fenced:
        from . import fence

        fence.begin(config, is_on=True, session=session)
