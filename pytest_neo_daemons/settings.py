"""Reads the options and ini settings of a run with daemons, once, into a frozen object."""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec import Struct

from neo_daemons.urls import redacted

from .config_files import ini_directory
from .options import flag, place_of

LONGEST_S = 7 * 86400.0
ENGINES = ("kubernetes", "compose")
NAMESPACE = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""A name as Kubernetes allows it: RFC 1123, section 2.1."""


class Options(Struct, frozen=True):
    """The options that the user passed or configured."""

    keep_s: float
    attach: str | None
    """State directory of a running supervisor; "" means the project's; None: start our own session."""
    urls: tuple[tuple[str, str], ...]
    export_env: bool
    skip_missing: bool
    """Skip tests whose daemon is not installed, instead of failing them."""
    seeds: tuple[int, float] = (0, 0.0)
    """How many bytes of sealed seeds are kept, and for how many seconds after their last use."""
    attach_place: str = "--neo-daemons-attach"
    """Where `attach` is stated, for messages."""
    urls_place: str = "--neo-daemons-url"
    """Where `urls` are stated, for messages."""
    engine: str | None = None
    """What runs the daemons, one of `ENGINES`; None: the run has daemons of its own."""
    namespace: str | None = None
    """That of Kubernetes; None: the one that is used by default."""


def resolve(config: pytest.Config) -> Options:
    """Read the options.

    Raises:
        pytest.UsageError: an option is invalid.
    """
    attach = config.getoption("--neo-daemons-attach")
    attach_place = "--neo-daemons-attach"
    if attach is None and config.getini("neo_daemons_attach"):
        attach = str(ini_directory(config) / config.getini("neo_daemons_attach"))
        attach_place = place_of(config, "neo_daemons_attach")
    urls, urls_place = _stated(config, "url")
    keep, keep_place = _stated(config, "keep")
    if attach is not None and urls:
        raise pytest.UsageError(
            f"{urls_place} and {attach_place} are mutually exclusive; define the external daemon in the "
            "configuration of the attached supervisor"
        )
    if attach is not None and config.getoption("--neo-daemons-keep") is not None:
        raise pytest.UsageError(
            f"{keep_place} and {attach_place} are mutually exclusive; an attached supervisor keeps its daemons anyway"
        )
    engine, namespace, engine_place = _engine(config)
    if engine is not None and attach is not None:
        raise pytest.UsageError(
            f"{engine_place} and {attach_place} are mutually exclusive; an attached supervisor has its own daemons"
        )
    if engine is not None and config.getoption("--neo-daemons-keep") is not None:
        raise pytest.UsageError(f"{keep_place} and {engine_place} are mutually exclusive; there is nothing to keep")
    named = [_url(text, urls_place) for text in urls]
    for name, _ in named:
        if len({url for other, url in named if other == name}) > 1:
            raise pytest.UsageError(f"{urls_place} {name}: given with different URLs; pass one URL per daemon")
    flag(config, "neo_daemons_required")
    return Options(
        keep_s=_duration_s(keep, keep_place) if keep and engine is None else 0.0,
        attach=attach,
        urls=tuple(named),
        export_env=flag(config, "neo_daemons_export_env"),
        seeds=(int(_number(config, "max_bytes", "kMGT")), _number(config, "max_days") * 86_400.0),
        skip_missing=_word(config, "neo_daemons_unavailable", "fail", "skip") == "skip",
        attach_place=attach_place,
        urls_place=urls_place,
        engine=engine,
        namespace=namespace,
    )


def _engine(config: pytest.Config) -> tuple[str | None, str | None, str]:
    """Return the engine whose daemons the run uses, its namespace, and how messages name its place."""
    stated, place = _stated(config, "engine")
    if not stated:
        return None, None, place
    name, separator, namespace = str(stated).strip().partition("=")
    if name not in ENGINES:
        raise pytest.UsageError(
            f"{place} {stated!r:.80}: unknown engine; use kubernetes, kubernetes=NAMESPACE or compose"
        )
    if separator and name != "kubernetes":
        raise pytest.UsageError(f"{place} {stated!r:.80}: only kubernetes has namespaces; use {name}")
    if separator and re.fullmatch(NAMESPACE, namespace) is None:
        raise pytest.UsageError(
            f"{place} {stated!r:.80}: not the name of a namespace; use lower case letters, digits and dashes"
        )
    return name, namespace or None, place


def _word(config: pytest.Config, setting: str, *words: str) -> str:
    """Return the value of an ini setting that is one of these words."""
    value = str(config.getini(setting))
    if value not in words:
        raise pytest.UsageError(f"{place_of(config, setting)} {value!r:.80}: unknown value; use {' or '.join(words)}")
    return value


def _stated(config: pytest.Config, name: str) -> tuple[Any, str]:
    """Return the value of an option, or else that of its ini setting, and how messages name its place."""
    option, setting = f"--neo-daemons-{name}", f"neo_daemons_{name}"
    value = config.getoption(option)
    if value == "":
        raise pytest.UsageError(f"{option}: empty value")
    return (value, option) if value is not None else (config.getini(setting), place_of(config, setting))


def _number(config: pytest.Config, name: str, units: str = "") -> float:
    setting = f"neo_daemons_seeds_{name}"
    text = str(config.getini(setting)).strip()
    match = re.fullmatch(rf"(\d{{1,15}})([{units}]?)" if units else r"(\d{1,15})()", text)
    if match is None:
        unit = ", or with k, M, G or T, e.g. 500M" if units else ""
        raise pytest.UsageError(f"{place_of(config, setting)} {text:.80}: use a whole number{unit}")
    return int(match[1]) * 1000.0 ** (units.index(match[2]) + 1 if match[2] else 0)


def _duration_s(text: str, place: str) -> float:
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip())
    if match is None or not any(match.groups()):
        raise pytest.UsageError(
            f"{place} {text:.80}: invalid duration; use seconds, or h, m and s, e.g. 90s, 10m or 1h30m"
        )
    hours, minutes, seconds = (float(group or 0) for group in match.groups())
    duration_s = 3600.0 * hours + 60.0 * minutes + seconds
    if duration_s > LONGEST_S:
        raise pytest.UsageError(f"{place} {text:.80}: longer than a week; use neo-daemons up and --neo-daemons-attach")
    return duration_s


def _url(text: str, place: str) -> tuple[str, str]:
    name, separator, url = text.partition("=")
    if not separator or not name or not url:
        raise pytest.UsageError(f"{place} {redacted(text)}: expected NAME=URL, e.g. chroma=http://host:8000")
    return name.strip(), url.strip()
