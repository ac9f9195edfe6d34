"""The tables of a configuration file as types, which msgspec checks."""

# Without `from __future__ import annotations`: msgspec would compile each annotation anew in each process.
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from neo_daemons.definitions import (
    NAME_PATTERN,
    AnyProbe,
    Bytes,
    Count,
    Deploy,
    Log,
    PortNumber,
    Restart,
    Seconds,
    SecondsOrZero,
    StartRule,
    Stop,
    Text,
)

PortSetting = PortNumber | Literal["auto"]
PortName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+\Z", description="use letters, digits, - and _")]
GroupName = Annotated[str, Meta(pattern=NAME_PATTERN, description="use a-z, 0-9, - and _, starting with a letter")]
VariableName = Annotated[str, Meta(pattern=r"^[^=\0\s]+\Z", description="use a name without = and spaces")]
Strings = Annotated[tuple[str, ...], Meta(min_length=1)]


class Requirement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A daemon that must be ready first. With `cascade`, its restarts restart the one that requires it."""

    name: Text
    cascade: bool = False


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a ``[daemons.NAME]`` table; `Definition` explains them."""

    command: Strings | None = None
    env: dict[VariableName, str] = {}
    cwd: Text | None = None
    host: Text = "127.0.0.1"
    port: PortSetting | None = None
    ports: dict[PortName, PortSetting] = {}
    data_dir: Text | None = None
    url: Text | None = None
    exports: dict[VariableName, str] = {}
    external: Text | None = None
    ready: AnyProbe | tuple[AnyProbe, ...] = ()
    live: AnyProbe | tuple[AnyProbe, ...] = ()
    restart: Literal["always", "on-failure", "never"] | Restart = Restart()
    stop: Stop = Stop()
    start_grace_s: Seconds = 60.0
    after: tuple[str, ...] = ()
    requires: tuple[str | Requirement, ...] = ()
    log: Log = Log()
    max_runtime_s: Seconds | None = None
    max_rss_bytes: Bytes | None = None
    enabled: bool = True
    start: StartRule = "always"
    idle_stop_s: SecondsOrZero | None = None
    watch: tuple[Text, ...] = ()
    user: Text | None = None
    oneshot: bool = False
    inputs: tuple[Text, ...] = ()
    share: bool = True
    groups: tuple[GroupName, ...] = ()
    deploy: Deploy | None = None


class File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of the whole file."""

    daemons: dict[str, dict[str, Any]] | UnsetType = UNSET
    state_dir: Text | None = None
    parallel: Count | None = None
