"""IP addresses, and which of several listeners gets a connection."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse(text: str) -> Address:
    """Parse an address. An IPv4 address mapped into IPv6 becomes the IPv4 address.

    Raises:
        ValueError: `text` is not an address.
    """
    return unmapped(ipaddress.ip_address(text))


def unmapped(address: Address) -> Address:
    """Return `address`, or the IPv4 address that is mapped into it."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_loopback(text: str) -> bool:
    """Return whether `text` is a loopback address; host names are not."""
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def rank(bound: Address, wanted: Address) -> int | None:
    """Rank a listener at `bound` for a connection to `wanted`: the lowest rank gets it, None never does."""
    if bound == wanted:
        return 0
    if bound.is_unspecified and bound.version >= wanted.version:
        return 1 + bound.version - wanted.version  # a dual-stack listener comes last
    # All addresses are wanted: a listener at any one of them is in the way.
    return 10 if wanted.is_unspecified and bound.version <= wanted.version else None
