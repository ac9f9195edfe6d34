"""``--require``: daemons without which `serve` and `up` fail."""

from __future__ import annotations

import argparse

from neo_daemons.config.configuration import Configuration, load
from neo_daemons.config.errors import ConfigError


def load_with_requirements(options: argparse.Namespace) -> Configuration:
    """Load the configuration and check ``--require`` against it.

    Raises:
        ConfigError: either is wrong.
    """
    configuration = load(options.config, state_dir=options.state_dir)
    known = {definition.name for definition in configuration.definitions}
    for name in options.require:
        if name not in known:
            raise ConfigError(f"--require {name}: no such daemon; configured: {', '.join(sorted(known))}")
    return configuration
