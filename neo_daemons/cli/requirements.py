"""Load a configuration for a command: what is said of deprecated keys, and ``--require``, daemons without which `serve`
and `up` fail."""

from __future__ import annotations

import argparse

from neo_daemons.config.configuration import Configuration, load
from neo_daemons.config.errors import ConfigError

from .streams import say


def announce(configuration: Configuration) -> Configuration:
    """Say on standard error which keys of a configuration are deprecated, and return it."""
    for text in configuration.deprecations:
        say(f"neo-daemons: {text}")
    return configuration


def load_with_requirements(options: argparse.Namespace) -> Configuration:
    """Load the configuration and check ``--require`` against it.

    Raises:
        ConfigError: the configuration is wrong, or a required daemon is unknown.
    """
    configuration = announce(load(options.config, state_dir=options.state_dir))
    known = {definition.name: definition for definition in configuration.definitions}
    for name in options.require:
        if name not in known:
            raise ConfigError(f"--require {name}: unknown daemon; configured daemons: {', '.join(sorted(known))}")
        if not known[name].share:
            raise ConfigError(f"--require {name}: it has one process for each client (share = false); leave it out")
    return configuration
