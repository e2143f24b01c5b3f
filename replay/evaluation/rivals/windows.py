"""What all rivals see of a log: one table of windows, and the event-level scores beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.core.events import EventBatch
from models.clock import CELL_US, CELLS_PER_HOUR
from replay.evaluation.points import Series
from replay.evaluation.rivals import fold


class WindowTable:
    """Aggregates of a whole log per key and 15-minute cell, filled batch by batch.

    ``keys`` are the texts of the keys in order of first appearance; all numbers of keys here
    and in what rivals return are positions in it. How the log is cut into batches does not
    matter. Requests without a key or whose authentication failed are left out.
    """

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._state = fold.State(
            np.zeros(1, fold.TOTALS),
            np.zeros(1 << 10, np.int32),
            np.zeros(1 << 9, fold.KEY),
            np.zeros(1 << 14, fold.VALUE),
            np.zeros(1 << 12, fold.WINDOW),
            *(np.zeros(1 << 12, fold.NOTE) for _ in range(3)),
        )

    def observe(self, batch: EventBatch) -> None:
        """Takes in the next batch of the log."""
        self.__dict__.pop("windows", None)
        columns = fold.Columns(*(getattr(batch, c) for c in fold.Columns._fields))
        done = fold.fold(self._state, columns, 0)
        while done < len(batch):
            self._enlarge(fold.room(self._state))
            done = fold.fold(self._state, columns, done)
        for key in self._state.keys[len(self.keys) : self._state.totals[0]["keys"]]:
            name = batch.names.keys[int(key["hi"]) << 64 | int(key["lo"])]
            self.keys.append(name.text)

    def _enlarge(self, position: int) -> None:
        old = self._state
        name = fold.State._fields[position]
        new = old._replace(**{name: np.zeros(2 * len(old[position]), old[position].dtype)})
        if name == "index":
            fold.reindex(new)
        elif name == "values":
            fold.rehash(old.values, new.values)
        else:
            new[position][: len(old[position])] = old[position]
        self._state = new

    @cached_property
    def windows(self) -> npt.NDArray[Any]:
        """``WINDOW[n]``, see ``fold``: every window with a request, sorted by (key, cell)."""
        rows = self._state.windows[: self._state.totals[0]["windows"]]
        return np.asarray(rows[np.lexsort((rows["cell"], rows["key"]))])

    def ends_us(self) -> npt.NDArray[np.int64]:
        """``int64[n]``: when each of ``windows`` is over, and what is in it known."""
        return (self.windows["cell"].astype(np.int64) + 1) * CELL_US

    def hours(self, columns: Sequence[str]) -> Iterator[tuple[int, int, npt.NDArray[np.int64]]]:
        """Per key: its number, its first hour since 1970 UTC, and ``columns`` of the windows.

        Summed by the hour, ``int64[hours, columns]``, from the first hour with a request to the
        last one.
        """
        w = self.windows
        starts = np.searchsorted(w["key"], np.arange(len(self.keys) + 1))
        for number in range(len(self.keys)):
            own = w[starts[number] : starts[number + 1]]
            hour = own["cell"] // CELLS_PER_HOUR - own["cell"][0] // CELLS_PER_HOUR
            sums = [np.bincount(hour, own[c]).astype(np.int64) for c in columns]
            yield number, int(own["cell"][0]) // CELLS_PER_HOUR, np.stack(sums, axis=1)

    def series(self, score: npt.NDArray[np.floating[Any]], above: float) -> Series:
        """A score per window as a series; windows with ``score <= above`` are left out."""
        kept = np.flatnonzero(score > above)
        keys = self.windows["key"][kept].astype(np.int32)
        return Series(keys, self.ends_us()[kept], score[kept].astype(np.float64))

    def notes(self, kind: str, above: float) -> Series:
        """``network_notes``, ``source_notes`` or ``risk_notes`` of ``fold.State`` as a series."""
        notes = getattr(self._state, kind)[: self._state.totals[0][kind]]
        notes = notes[notes["score"] > above]
        notes = notes[np.lexsort((notes["ts_us"], notes["key"]))]
        return Series(
            np.ascontiguousarray(notes["key"]),
            np.ascontiguousarray(notes["ts_us"]),
            np.ascontiguousarray(notes["score"]),
        )
