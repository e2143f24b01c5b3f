"""Networks as 64-bit numbers that can be turned back into text.

``tag << 60 | value``: an IPv4 /24 keeps its 24 leading bits, an IPv6 /48 its 48; anything
else in the address field (a host name, a service name) is a keyed hash named in ``Names``.
"""

from __future__ import annotations

from collections.abc import Mapping

TAG_V4, TAG_V6, TAG_OTHER = 1, 2, 3
_VALUE_MASK = (1 << 60) - 1


def pack_v4(address: int) -> int:
    """Packs a 32-bit IPv4 address as its /24.

    >>> network_text(pack_v4(0xCB007118))
    '203.0.113.0/24'
    """
    return TAG_V4 << 60 | address >> 8


def pack_v6(address: int) -> int:
    """Packs a 128-bit IPv6 address as its /48.

    >>> network_text(pack_v6(0x20010DB8000100020000000000000001))
    '2001:db8:1::/48'
    """
    return TAG_V6 << 60 | address >> 80


def pack_other(hash64: int) -> int:
    """Packs the keyed hash of a text that is not an address."""
    return TAG_OTHER << 60 | hash64 & _VALUE_MASK


def network_text(network: int, names: Mapping[int, str] | None = None) -> str:
    """The network as people write it; ``unknown`` for 0."""
    tag, value = network >> 60, network & _VALUE_MASK
    if tag == TAG_V4:
        return f"{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}.0/24"
    if tag == TAG_V6:
        return ":".join(f"{value >> s & 0xFFFF:x}" for s in (32, 16, 0)) + "::/48"
    if tag == TAG_OTHER:
        return (names or {}).get(network, f"other#{value:015x}")
    return "unknown"
