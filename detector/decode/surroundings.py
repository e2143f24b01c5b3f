"""Where networks lie: their block and place, looked up once per network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.errors import ConfigError
from detector.core.events import U32, U64
from detector.core.network import pack_block, pack_blocks
from detector.decode.databases import Databases
from detector.decode.intern import VALUES_MAX, Growing, Interner
from detector.decode.settings import DecodeSettings
from detector.decode.siphash import derive


@dataclass(frozen=True, slots=True)
class Around:
    """Blocks and places of a batch's networks, and texts of its autonomous systems."""

    block: U64
    place: U32
    names: dict[int, str]


class Surroundings:
    """Blocks and places of networks. Remembers at most ``VALUES_MAX`` networks.

    Raises ``ConfigError`` when a configured database cannot be read.
    """

    def __init__(self, settings: DecodeSettings) -> None:
        self._databases = Databases(settings.asn_database, settings.city_database)
        # Multiplying by a secret odd number keeps networks distinct and spreads them.
        self._spread = derive(settings.hash_seed, "block")[0] | np.uint64(1)
        self._interner = Interner(VALUES_MAX)
        self._blocks, self._places = Growing(), Growing()
        self._texts: dict[int, str] = {}

    def columns(self, network: U64) -> Around:
        """Block and place of every row; 0 for a network that is 0."""
        if not self._databases:
            return Around(pack_blocks(network), np.zeros(len(network), np.uint32), {})
        pairs = np.zeros((len(network), 2), np.uint64)
        pairs[:, 0] = (network * self._spread).byteswap()
        found = self._interner.intern(pairs)
        if found.is_fresh:
            self._forget()
        new = network[found.new_rows].tolist()
        try:
            blocks = [self._block_of(n) for n in new]
            places = [self._databases.place_of(n) for n in new]
        except ConfigError:
            self._interner.reset()
            self._forget()
            raise
        self._blocks.extend(blocks)
        self._places.extend(places)
        block = self._blocks.at(found.ids)
        seen = block[found.seen_rows].tolist()
        names = {b: self._texts[b] for b in seen if b in self._texts}
        return Around(block, self._places.at(found.ids).astype(np.uint32), names)

    def _forget(self) -> None:
        self._texts = {}
        self._blocks.reset()
        self._places.reset()

    def _block_of(self, network: int) -> int:
        block, text = self._databases.system_of(network)
        if not block:
            return pack_block(network)
        self._texts[block] = text
        return block
