"""IP addresses, and which of several listeners answers at one."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse(text: str) -> Address:
    """An address as it is written. One of IPv4 that is mapped into IPv6 is that of IPv4.

    Raises:
        ValueError: it is none.
    """
    return unmapped(ipaddress.ip_address(text))


def unmapped(address: Address) -> Address:
    """`address`, or that of IPv4 which it stands for."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_loopback(text: str) -> bool:
    """Whether `text` is an address of this machine alone. A name is none."""
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def rank(bound: Address, wanted: Address) -> int | None:
    """Which of several listeners gets a connection to `wanted`, lowest first; None: one at `bound` does not."""
    if bound == wanted:
        return 0
    if bound.is_unspecified and bound.version >= wanted.version:
        return 1 + bound.version - wanted.version  # one of both kinds comes last
    # Whoever wants all addresses meets whoever has one of them.
    return 10 if wanted.is_unspecified and bound.version <= wanted.version else None
