"""Where simulated traffic comes from: providers with their /16 blocks, some far more popular.

A /16 stands for an autonomous system. Providers have 8 of them; what is popular with customers
is popular with attackers, too: both draw from here.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from detector.core.events import I64
from replay.simulate import addresses

BLOCKS_PER_PROVIDER = 8
_TRIES = 200


class Places:
    """Blocks of hosting providers and of access providers, in order of popularity.

    Addresses are as in ``replay.simulate.addresses``; a block is an address shifted by 16.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        hosting = [a << 8 | b for a in range(241, 248) for b in range(256)]
        hosting += [198 << 8 | 18, 198 << 8 | 19]
        home = [a << 8 | b for a in range(248, 252) for b in range(256)]
        self._hosting, self._home = _shuffled(rng, hosting), _shuffled(rng, home)
        self._hosting_ends, self._home_ends = _popularity(hosting, 0.8), _popularity(home, 0.5)

    def hosting(self, rng: np.random.Generator, avoid: Collection[int] = ()) -> int:
        """A data centre's /24, in none of the blocks to avoid."""
        return _network(rng, self._hosting, self._hosting_ends, avoid)

    def home(self, rng: np.random.Generator, avoid: Collection[int] = ()) -> int:
        """A /24 of a home or an office, in none of the blocks to avoid."""
        return _network(rng, self._home, self._home_ends, avoid)

    def homes(self, rng: np.random.Generator, n: int) -> I64:
        """N home /24s at once, as a pool of residential proxies has them."""
        found = np.searchsorted(self._home_ends, rng.random(n), side="right")
        return self._home[found] << 16 | rng.integers(256, size=n) << 8

    def region(self, rng: np.random.Generator, avoid: Collection[int] = ()) -> list[int]:
        """One to three blocks of one hosting provider: a cloud region's NAT gateways."""
        first = self.hosting(rng, avoid) >> 16
        rank = int(np.flatnonzero(self._hosting == first)[0])
        group = self._hosting[rank - rank % BLOCKS_PER_PROVIDER :][:BLOCKS_PER_PROVIDER]
        rest = [int(b) for b in rng.permutation(group) if b != first and b not in avoid]
        return [first, *rest[: int(rng.integers(0, 3))]]


def network_in(rng: np.random.Generator, block: int) -> int:
    """The base address of a /24 of a block."""
    return block << 16 | int(rng.integers(256)) << 8


def host_in(rng: np.random.Generator, network: int) -> int:
    """An address of a /24."""
    return addresses.host_in(rng, network)


def _shuffled(rng: np.random.Generator, blocks: list[int]) -> I64:
    return np.asarray(rng.permutation(blocks), np.int64)


def _popularity(blocks: list[int], exponent: float) -> npt.NDArray[np.float64]:
    provider = np.arange(len(blocks)) // BLOCKS_PER_PROVIDER
    ends = np.cumsum((1.0 + provider) ** -exponent)
    ends /= ends[-1]
    ends[-1] = 1.0
    return ends


def _network(
    rng: np.random.Generator,
    blocks: I64,
    ends: npt.NDArray[np.float64],
    avoid: Collection[int],
) -> int:
    for _ in range(_TRIES):
        block = int(blocks[np.searchsorted(ends, rng.random(), side="right")])
        if block not in avoid:
            break
    return network_in(rng, block)
