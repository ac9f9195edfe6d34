"""The addresses that listeners are bound to: which of several listeners on one port gets a connection."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def unmapped(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 one (RFC 4291, section 2.5.5.2) as what it is."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def rank(bound: Address, wanted: Address) -> int | None:
    """Which listener gets a connection to the address `wanted`, the lowest first; None: one that is bound to this
    address does not get it."""
    if bound == wanted:
        return 0
    if bound.is_unspecified and bound.version >= wanted.version:
        return 1 + bound.version - wanted.version  # one of both kinds comes last
    # Who wants all addresses meets whoever has one of them.
    return 10 if wanted.is_unspecified and bound.version <= wanted.version else None
