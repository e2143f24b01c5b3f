"""Networks, blocks and places as numbers that can be turned back into text.

A network or block is ``tag << 60 | value``: an IPv4 /24 keeps its 24 leading bits, an IPv6
/48 its 48; anything else in the address field (a host name, a service name) is a keyed hash
named in ``Names``. A block is what a network lies in: an IPv4 /16, an IPv6 /32 or, where a
database names it, an autonomous system. Tags tell all of these apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import asin, cos, radians, sin, sqrt

import numpy as np
import numpy.typing as npt

from models._jit import kernel

TAG_V4, TAG_V6, TAG_OTHER, TAG_V4_BLOCK, TAG_V6_BLOCK, TAG_ASN = range(1, 7)
_VALUE_MASK = (1 << 60) - 1
EARTH_RADIUS_KM = 6371.0088  # mean radius R1 (IUGG)

# By tag: the block's tag and how many bits of the network it drops.
_BLOCK_TAG = np.arange(16, dtype=np.uint64)
_BLOCK_TAG[[TAG_V4, TAG_V6]] = TAG_V4_BLOCK, TAG_V6_BLOCK
_BLOCK_SHIFT = np.zeros(16, np.uint64)
_BLOCK_SHIFT[[TAG_V4, TAG_V6]] = 8, 16


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


def pack_asn(number: int) -> int:
    """Packs the number of an autonomous system as a block.

    >>> network_text(pack_asn(64500))
    'AS64500'
    """
    return TAG_ASN << 60 | number


def pack_block(network: int) -> int:
    """The /16 or /32 a packed network lies in; what is no address is its own block.

    >>> network_text(pack_block(pack_v4(0xCB007118)))
    '203.0.0.0/16'
    >>> network_text(pack_block(pack_v6(0x20010DB8000100020000000000000001)))
    '2001:db8::/32'
    >>> pack_block(pack_other(7)) == pack_other(7), pack_block(0)
    (True, 0)
    """
    return int(pack_blocks(np.array([network], np.uint64))[0])


def pack_blocks(networks: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """``pack_block`` of every network, uint64 of the same shape."""
    tag = (networks >> np.uint64(60)).astype(np.intp)
    value = networks & np.uint64(_VALUE_MASK)
    return _BLOCK_TAG[tag] << np.uint64(60) | value >> _BLOCK_SHIFT[tag]


def network_text(network: int, names: Mapping[int, str] | None = None) -> str:
    """The network or block as people write it; ``unknown`` for 0.

    ``names`` holds the texts of what is no address, and of autonomous systems.
    """
    tag, value = network >> 60, network & _VALUE_MASK
    if tag == TAG_V4:
        return f"{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}.0/24"
    if tag == TAG_V6:
        return ":".join(f"{value >> s & 0xFFFF:x}" for s in (32, 16, 0)) + "::/48"
    if tag == TAG_OTHER:
        return (names or {}).get(network, f"other#{value:015x}")
    if tag == TAG_V4_BLOCK:
        return f"{value >> 8 & 255}.{value & 255}.0.0/16"
    if tag == TAG_V6_BLOCK:
        return f"{value >> 16 & 0xFFFF:x}:{value & 0xFFFF:x}::/32"
    if tag == TAG_ASN:
        return (names or {}).get(network, f"AS{value}")
    return "unknown"


def pack_place(latitude: float, longitude: float) -> int:
    """Packs a position in degrees to 0.1 degree (11 km) as a uint32; never 0.

    >>> unpack_place(pack_place(48.137, 11.575)), pack_place(-90, -180)
    ((48.1, 11.6), 1)
    """
    return round((latitude + 90) * 10) << 16 | round((longitude + 180) * 10) + 1


def unpack_place(place: int) -> tuple[float, float]:
    """Latitude and longitude in degrees of a packed place; not for 0, which is unknown."""
    return ((place >> 16) - 900) / 10, ((place & 0xFFFF) - 1801) / 10


@kernel
def distance_km(one: int, other: int) -> float:
    """Great-circle distance of two packed places (haversine); -1 if either is unknown.

    Compiled, for kernels too. Rounding of the places alone may make it wrong by 16 km.

    >>> round(distance_km(pack_place(48.1, 11.6), pack_place(40.7, -74.0)))  # Munich, New York
    6492
    >>> distance_km(pack_place(0, 0), 0)
    -1.0
    """
    if one == 0 or other == 0:
        return -1.0
    north, south = radians(((one >> 16) - 900) / 10), radians(((other >> 16) - 900) / 10)
    east = radians(((one & 0xFFFF) - (other & 0xFFFF)) / 10)
    h = sin((north - south) / 2) ** 2 + cos(north) * cos(south) * sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(h)))
