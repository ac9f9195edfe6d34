"""Data that is ready: directories of data that are sealed once, cloned often, and packed into snapshots.

`manifest` describes a directory and verifies it; `copying` clones one; `store` keeps sealed seeds; `archive` is the
file of a snapshot; `counts` counts what is in a directory. Nothing here starts or asks a daemon.
"""
