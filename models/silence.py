"""Silence: a key that always speaks says nothing.

Evidence is -log of the negative binomial's probability of no request while so many were
expected: ``size log(1 + x / size)``. ``x`` is what the key's hours of the day and its weekends let
expect over the gap, less PAUSE times the longest pause it is known for, so that nights, weekends
and holidays like those it had are free, and half as long again. That is where the dispersion of
pauses goes: the size itself is the key's own, of its counts while it speaks. A steady key is
missed after some 16 requests that did not come, a bursty one after thousands.

While a key is silent its state does not change. So the cell at which the evidence is complete
follows from its last event alone, whoever asks and whenever.

Source: Johnson et al., *Univariate Discrete Distributions*, 5.1 (negative binomial).
"""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models import volume
from models._jit import kernel
from models.clock import (
    CELLS_PER_DAY,
    cell_of,
    decay,
    decayed_count,
    hour_of,
    hour_visits,
    is_weekend,
)

SPEAKS_NATS = 12.0  # from here on a silence is told
PAUSE = 1.5  # times the longest pause known are free
PAUSE_HALF_LIFE_CELLS = 56.0 * CELLS_PER_DAY
AGE_CELLS, ACTIVE_CELLS = 7 * CELLS_PER_DAY, CELLS_PER_DAY  # what a key must have shown
HORIZON_CELLS = 28 * CELLS_PER_DAY  # a silence that is not told by then never is
EXPONENT_MAX = 50.0
NEVER_CELL = 0

SILENCE = np.dtype(
    [
        ("pause", "f4"),  # the longest one, in cells' worth of the key's mean traffic; decayed
    ],
    align=True,
)


@kernel
def surprise(missing: float, size: float) -> float:
    """Nats of no request where ``missing`` were expected, negative binomial of this size.

    >>> surprise(0.0, 2.0), round(surprise(17.0, 20.0), 1), round(surprise(17.0, 1.5), 1)
    (0.0, 12.3, 3.8)
    """
    return size * log(1.0 + max(0.0, missing) / size)


@kernel
def missing_for(nats: float, size: float) -> float:
    """The inverse: how many must be missing for so many nats.

    >>> round(surprise(missing_for(12.0, 3.0), 3.0), 6)
    12.0
    """
    return size * (exp(min(nats / size, EXPONENT_MAX)) - 1.0)


@kernel
def hour_mean(v: Any, season: Any, cell: int, hour: int, weekend: int) -> float:
    """Requests expected in a cell of that hour and kind of day, as known at ``cell``."""
    level = volume.level_per_cell(v, cell)
    inflation = 2.0 ** ((cell - v.base_cell) / volume.HALF_LIFE_CELLS)
    visits = hour_visits(v.born_cell, cell, hour)
    weight = decayed_count(visits, volume.HALF_LIFE_CELLS / 24.0)
    shrink = volume.SHRINK_VISITS
    mean = (season[hour] / inflation + shrink * level) / (weight + shrink)
    return max(0.0, mean * volume.weekend_factor(v, weekend))


@kernel
def expected_until(v: Any, season: Any, cell: int, until_cell: int, enough: float) -> Any:
    """Requests expected after ``cell`` and before ``until_cell``; stops where they are enough.

    Also returns the first cell before which they are (``until_cell`` where they never are).
    """
    total, hour, mean = 0.0, -1, 0.0
    for at in range(cell + 1, until_cell):
        if hour_of(at) != hour:
            hour = hour_of(at)
            mean = hour_mean(v, season, cell, hour, is_weekend(at))
        total += mean
        if total >= enough:
            return total, at + 1
    return total, until_cell


@kernel
def due_cell(s: Any, v: Any, season: Any, cell: int, active_cells: int, until_cell: int) -> int:
    """The first cell before which the silence after ``cell`` is worth telling; 0 = not by then.

    ``active_cells``: committed ones of the key. Changes nothing.
    """
    if cell - v.born_cell < AGE_CELLS or active_cells < ACTIVE_CELLS:
        return NEVER_CELL
    until_cell = min(until_cell, cell + HORIZON_CELLS)
    free = PAUSE * s.pause * volume.level_per_cell(v, cell)
    enough = free + missing_for(SPEAKS_NATS, v.size)
    total, due = expected_until(v, season, cell, until_cell, enough)
    return due if total >= enough else NEVER_CELL


@kernel
def evidence(s: Any, v: Any, missing: float, cell: int) -> float:
    """Nats of a silence after ``cell`` in which ``missing`` requests were expected."""
    return surprise(missing - PAUSE * s.pause * volume.level_per_cell(v, cell), v.size)


@kernel
def wake(s: Any, v: Any, season: Any, cell: int, next_cell: int, held: bool) -> None:
    """The key speaks again: the pause is one it is known for from now on, unless held."""
    s.pause *= decay(next_cell - cell, PAUSE_HALF_LIFE_CELLS)
    if held or next_cell - cell < 2:
        return
    level = volume.level_per_cell(v, cell)
    if level > 0.0:
        until = min(next_cell, cell + HORIZON_CELLS)
        total, _ = expected_until(v, season, cell, until, np.inf)
        s.pause = max(s.pause, total / level)


class KeySilence(AnomalyDetector):
    """Evidence that a key which usually speaks has fallen silent.

    Parameters
    ----------
    time
        Feature with the event time, seconds since 1970 UTC.

    Notes
    -----
    ``learn_one`` takes a request, ``score_one`` asks how surprising it is that none came since
    the last one until that time. 0 in a key's first week.

    Examples
    --------
    >>> model = KeySilence()
    >>> for i in range(10 * 96):                     # ten days, two requests a cell
    ...     for j in range(2):
    ...         model = model.learn_one({"t": i * 900 + j})
    >>> last = (10 * 96 - 1) * 900
    >>> model.score_one({"t": last + 1800}) < 3.0 < 9.0 < model.score_one({"t": last + 6 * 3600})
    True
    """

    def __init__(self, time: str = "t") -> None:
        self.time = time
        self._state = np.zeros(1, SILENCE)
        self._volume = np.zeros(1, volume.VOLUME)
        self._season = np.zeros(24, np.float32)
        self._cell = -1
        self._cells = 0

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if nothing has come by now; changes nothing."""
        if self.time not in x or self._cell < 0:
            return 0.0
        v, cell = self._volume[0], self._cell
        if cell - int(v["born_cell"]) < AGE_CELLS or self._cells < ACTIVE_CELLS:
            return 0.0
        until = min(cell_of(int(float(x[self.time]) * 1_000_000)), cell + HORIZON_CELLS)
        missing, _ = expected_until(v, self._season, cell, until, np.inf)
        return float(evidence(self._state[0], v, missing, cell))

    def learn_one(self, x: dict[str, Any]) -> KeySilence:
        """Takes in one request: its cell, and the pause before it."""
        if self.time not in x:
            return self
        cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
        v = self._volume[0]
        if self._cell < 0:
            volume.born(v, cell)
            volume.open_cell(v, self._season, cell)
        elif cell > self._cell:
            wake(self._state[0], v, self._season, self._cell, cell, False)
            volume.commit(v, self._season, self._cell, cell, False)
            volume.open_cell(v, self._season, cell)
            self._cells += 1
        self._cell = cell
        self._volume["count"][0] += 1
        return self
