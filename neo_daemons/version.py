"""The version, in a module of its own so that it is cheap to import."""

VERSION = "0.1.0"
