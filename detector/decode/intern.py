"""Known values by keyed hash: text work is done once per value, not once per event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.events import I64, U64
from detector.decode import kernels
from detector.decode.kernels import I32

VALUES_MAX = 200_000


@dataclass(frozen=True, slots=True)
class Interned:
    """One batch's values: dense numbers per row (-1 = none), first rows of new and of all."""

    ids: I32
    new_rows: I64
    seen_rows: I64
    is_fresh: bool


class Interner:
    """Dense numbers for 128-bit hashes, bounded.

    When more than ``values_max`` values are known, all are forgotten before the next batch.
    Numbers are a private matter of one decoder: no result depends on them.
    """

    def __init__(self, values_max: int) -> None:
        self._values_max = values_max
        self.reset()

    def reset(self) -> None:
        """Forgets all values."""
        self.count = 0
        self._stamp = 0
        self._slots = np.full(1024, -1, np.int32)
        self._known = np.zeros((512, 2), np.uint64)
        self._stamps = np.zeros(512, np.int32)

    def intern(self, hashes: U64) -> Interned:
        """Numbers the values of a batch. ``is_fresh``: older numbers are void."""
        is_fresh = self.count > self._values_max
        if is_fresh:
            self.reset()
        n = len(hashes)
        self._make_room(self.count + n)
        self._stamp += 1
        ids = np.empty(n, np.int32)
        new_rows, seen_rows = np.empty(n, np.int64), np.empty(n, np.int64)
        n_new, n_seen = kernels.intern(
            hashes,
            self._slots,
            self._known,
            self._stamps,
            self.count,
            self._stamp,
            ids,
            new_rows,
            seen_rows,
        )
        self.count += n_new
        return Interned(ids, new_rows[:n_new], seen_rows[:n_seen], is_fresh)

    def _make_room(self, wanted: int) -> None:
        if wanted > len(self._known):
            extra = max(wanted, 2 * len(self._known)) - len(self._known)
            self._known = np.concatenate([self._known, np.zeros((extra, 2), np.uint64)])
            self._stamps = np.concatenate([self._stamps, np.zeros(extra, np.int32)])
        if 2 * wanted > len(self._slots):
            self._slots = np.full(1 << (2 * wanted).bit_length(), -1, np.int32)
            kernels.refill(self._slots, self._known, self.count)


class Growing:
    """A column that grows by rows in step with an interner."""

    def __init__(self) -> None:
        self._data = np.zeros(512, np.uint64)
        self._count = 0

    def extend(self, values: list[int] | U64) -> None:
        """Appends values."""
        wanted = self._count + len(values)
        if wanted > len(self._data):
            extra = max(wanted, 2 * len(self._data)) - len(self._data)
            self._data = np.concatenate([self._data, np.zeros(extra, np.uint64)])
        self._data[self._count : wanted] = np.array(values, np.uint64)
        self._count = wanted

    def __setitem__(self, at: int, value: int) -> None:
        self._data[at] = value

    def at(self, ids: I32) -> U64:
        """The values of these numbers; 0 for -1."""
        # -1 reads the last cell, which is overwritten by where(): no second index array
        return np.where(ids >= 0, self._data[ids], np.uint64(0)).astype(np.uint64, copy=False)

    def reset(self) -> None:
        """Forgets all values."""
        self._count = 0
