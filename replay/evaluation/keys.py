"""Which of a world's keys an event belongs to."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from detector.core.events import EventBatch
from replay.evaluation.points import NO_KEY


class KeyIndex:
    """Maps the key hashes of batches to positions in a list of key texts.

    Parameters
    ----------
    texts
        The world's keys, in the order that defines their numbers.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)
        self.number_of = {text: i for i, text in enumerate(self.texts)}
        self._hashes = np.empty(0, np.uint64)
        self._numbers = np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self.texts)

    def of(self, batch: EventBatch) -> npt.NDArray[np.int32]:
        """``int32[n]``: the key's number of every event, ``NO_KEY`` where it is not in the list.

        The lower 64 bits of the hash decide: they differ for all keys of any world.
        """
        numbers = self._look_up(batch)
        if np.any(numbers == NO_KEY):
            self._learn(batch)
            numbers = self._look_up(batch)
        return numbers

    def _look_up(self, batch: EventBatch) -> npt.NDArray[np.int32]:
        if not len(self._hashes):
            return np.full(len(batch), NO_KEY, np.int32)
        at = np.minimum(np.searchsorted(self._hashes, batch.key_lo), len(self._hashes) - 1)
        found = self._hashes[at] == batch.key_lo
        return np.where(found, self._numbers[at], NO_KEY).astype(np.int32)

    def _learn(self, batch: EventBatch) -> None:
        known = dict(zip(self._hashes.tolist(), self._numbers.tolist(), strict=True))
        for wide, name in batch.names.keys.items():
            if name.text in self.number_of:
                known[wide & 0xFFFF_FFFF_FFFF_FFFF] = self.number_of[name.text]
        low = sorted(known)
        self._hashes = np.array(low, np.uint64)
        self._numbers = np.array([known[h] for h in low], np.int32)
