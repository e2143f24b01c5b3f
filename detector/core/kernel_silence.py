"""Silences of a shard's keys: found when a key comes back, or by a sweep while it is away.

Both use the key's state as of its last event, which stays what it is while the key is silent. So
a silence has one time, whoever finds it first: a fold that runs far ahead, or a sweep at any
moment. The fleet stage takes each in order of that time, on the grid of cells of its own clock,
and drops what it has had.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detector.core.rows import SILENT
from detector.core.tables import State
from models import silence
from models._jit import kernel
from models.clock import CELL_US


@kernel
def note_return(s: Any, slot: int, cell: int, since_us: int, rows: Any, n_rows: int) -> int:
    """The key's next event is in ``cell``: a row where its silence was worth telling."""
    key, v = s.keys[slot], s.volume[slot]
    if cell - key.cell < 2:
        return n_rows
    due = silence.due_cell(s.silence[slot], v, s.season[slot], key.cell, key.cells, cell)
    if due == silence.NEVER_CELL:
        return n_rows
    _fill(s, rows[n_rows], slot, due, since_us)
    return n_rows + 1


@kernel
def _fill(s: Any, row: Any, slot: int, due: int, since_us: int) -> None:
    key, v = s.keys[slot], s.volume[slot]
    missing, _ = silence.expected_until(v, s.season[slot], key.cell, due, np.inf)
    row.kind, row.slot = SILENT, slot
    row.ts_us, row.opened_us = np.int64(due) * CELL_US, since_us
    row.mean = missing
    row.score = silence.evidence(s.silence[slot], v, missing, key.cell)


@kernel
def _sweep(
    s: Any, asked: Any, due: Any, after_cell: int, until_cell: int, start: int, rows: Any
) -> tuple[int, int]:
    n_rows = 0
    for slot in range(start, s.shard[0].keys):
        key = s.keys[slot]
        if key.cell < 0 or until_cell - key.cell < 2:
            continue
        if asked[slot] != key.cell:
            asked[slot] = key.cell
            due[slot] = silence.due_cell(
                s.silence[slot],
                s.volume[slot],
                s.season[slot],
                key.cell,
                key.cells,
                key.cell + silence.HORIZON_CELLS,
            )
        if due[slot] != silence.NEVER_CELL and after_cell < due[slot] <= until_cell:
            if n_rows == len(rows):
                return slot, n_rows
            _fill(s, rows[n_rows], slot, due[slot], key.last_us)
            n_rows += 1
    return s.shard[0].keys, n_rows


class Sweeper:
    """Looks over all keys for silences whose time has come. Two comparisons a key.

    What it remembers is a cache: a key is worked out once per silence, and again after a restart.
    """

    def __init__(self) -> None:
        self._asked = np.full(0, -1, np.int32)
        self._due = np.zeros(0, np.int32)

    def sweep(
        self, state: State, after_cell: int, until_cell: int, rows: npt.NDArray[Any]
    ) -> npt.NDArray[Any]:
        """Rows of silences with a time in ``(after_cell, until_cell]``; ``rows`` is scratch."""
        if len(self._asked) < len(state.keys):
            more = len(state.keys) - len(self._asked)
            self._asked = np.append(self._asked, np.full(more, -1, np.int32))
            self._due = np.append(self._due, np.zeros(more, np.int32))
        found, start = [], 0
        while start < int(state.shard["keys"][0]):
            start, n = _sweep(state, self._asked, self._due, after_cell, until_cell, start, rows)
            found.append(rows[:n].copy())
        return np.concatenate([rows[:0], *found])
