"""Source addresses that belong to nobody.

A report, a screenshot or a copied alert of a simulation must never point at a real
organisation, and a fleet needs thousands of /24s, which the three TEST-NETs do not have. So:

- data centres and clouds   241-247/8 of the reserved block 240/4, 198.18/15 (benchmarking)
- homes and offices         248-251/8 of 240/4, and the TEST-NETs
- mobile carriers           100.64/10 (shared address space) and 2001:db8::/32 (documentation)
- partners on a private link  10/8

Attackers draw from the same blocks as customers: no block gives them away.

An address is one int64: IPv4 as it is, IPv6 as ``1 << 32 | third group << 16 | host``
of ``2001:db8:<group>::<host>``.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from detector.core.events import I64

V6 = 1 << 32
_TEST_NETS = (0xC0000200, 0xC6336400, 0xCB007100)


def _v4(a: int, b: int, c: int) -> int:
    return a << 24 | b << 16 | c << 8


def hosting_network(rng: np.random.Generator) -> int:
    """The base address of a data centre's /24."""
    if rng.random() < 0.2:
        return _v4(198, 18 + int(rng.integers(2)), int(rng.integers(256)))
    return _v4(int(rng.integers(241, 248)), int(rng.integers(256)), int(rng.integers(256)))


def home_network(rng: np.random.Generator) -> int:
    """The base address of a /24 of a home or an office."""
    if rng.random() < 0.03:
        return int(rng.choice(_TEST_NETS))
    return _v4(int(rng.integers(248, 252)), int(rng.integers(256)), int(rng.integers(256)))


def private_network(rng: np.random.Generator) -> int:
    """The base address of a /24 of a partner on a private link."""
    return _v4(10, int(rng.integers(256)), int(rng.integers(256)))


def host_in(rng: np.random.Generator, network: int) -> int:
    """An address of the /24."""
    return network | int(rng.integers(2, 254))


def mobile_addresses(group: I64, host: I64, carrier: I64) -> I64:
    """Addresses of app users: ``carrier`` 0-1 IPv4 of a carrier, 2 IPv6, 3-4 a home.

    ``group`` picks the network, ``host`` the address in it.
    """
    v4 = (100 << 24 | 64 << 16) + (group % 1024 << 8)
    home = (248 << 24) + (group % (1 << 18) << 8)
    v6 = V6 | group % 256 << 16
    base = np.where(carrier < 2, v4, np.where(carrier == 2, v6, home))
    return base + 2 + host % 250


@cache
def high_texts() -> list[str]:
    """Text of the upper part of an address, by ``address >> 16``."""
    v4 = [f"{i >> 8}.{i & 255}." for i in range(1 << 16)]
    return v4 + [f"2001:db8:{i:x}::" for i in range(1 << 16)]


@cache
def low_texts() -> list[str]:
    """Text of the lower part, by ``(address >> 32) << 16 | address & 0xFFFF``."""
    v4 = [f"{i >> 8}.{i & 255}" for i in range(1 << 16)]
    return v4 + [f"{i:x}" for i in range(1 << 16)]


def text(address: int) -> str:
    """The address as logs write it.

    >>> text(0xCB007118), text(V6 | 0xA1 << 16 | 0x2F)
    ('203.0.113.24', '2001:db8:a1::2f')
    """
    return high_texts()[address >> 16] + low_texts()[address >> 32 << 16 | address & 0xFFFF]
