"""Load a configuration for a command: what is said of deprecated keys, and ``--require``, daemons without which `serve`
and `up` fail."""

from __future__ import annotations

import argparse

from neo_daemons.config.configuration import Configuration, load

from .selection import chosen_of
from .streams import say


def announce(configuration: Configuration) -> Configuration:
    """Say on standard error which keys of a configuration are deprecated, and return it."""
    for text in configuration.deprecations:
        say(f"neo-daemons: {text}")
    return configuration


def load_with_requirements(options: argparse.Namespace) -> Configuration:
    """Load the configuration and check ``--require`` against it. Its groups become the names of their daemons.

    Raises:
        ConfigError: the configuration is wrong, or a required daemon is unknown.
    """
    configuration = announce(load(options.config, state_dir=options.state_dir))
    options.require = chosen_of(configuration.definitions, options.require, option="--require ")
    return configuration
