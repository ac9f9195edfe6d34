"""URLs of daemons."""

from __future__ import annotations

import re
import urllib.parse

LONGEST = 2000
"""The longest URL, in characters."""


def is_url(text: str) -> bool:
    """Return whether `text` is the URL of an HTTP service."""
    try:
        parts = urllib.parse.urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port, or a bracket
        return False
    return valid and len(text) <= LONGEST and text.isprintable() and " " not in text


def host_and_port(url: str) -> tuple[str, int]:
    """Return the host and port of a URL; the default port is that of its scheme."""
    parts = urllib.parse.urlsplit(url)
    return str(parts.hostname), parts.port or {"http": 80, "https": 443}[parts.scheme]


def redacted(text: str) -> str:
    """Hide the credentials in a URL, or in text that was meant to be one."""
    head, at, tail = text.rpartition("@")
    return f"{head[: head.find('//') + 2] if '//' in head else ''}***@{tail}" if at else text


def redacted_within(text: str) -> str:
    """Hide the credentials in all URLs within a text. They end before the first slash, RFC 3986, section 3.2."""
    return re.sub(r"(?<=//)[^\s'\"/?#]*@", "***@", text)


def without_credentials(url: str) -> str:
    """Return the URL without user name and password."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def url_host(host: str) -> str:
    """Return a host as it is written in a URL: an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host else host
