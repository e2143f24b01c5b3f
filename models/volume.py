"""Volume: a seasonal negative binomial per key, accumulated by a capped CUSUM.

The mean of a cell is learned per hour of the day, shrunk to the key's own level, times a
weekday or weekend factor. The evidence of a count is the log-likelihood ratio of "rho
times as much" against the key's own predictive distribution, for three values of rho.
Sources: Page (1954) for the CUSUM; the NB ratio is closed form. The tail of the model is
never trusted as a probability; the alert level comes from elsewhere.
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

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

HALF_LIFE_CELLS = 864.0  # 9 days: a level that moves for good is learned in about two weeks
DISPERSION_HALF_LIFE_CELLS = 2688.0  # 28 days
SHRINK_VISITS = 8.0  # two days of an hour count as much as the key's level
PHI_PRIOR, PHI_WEIGHT = 0.6, 20.0
SILENT_CELLS = CELLS_PER_DAY  # a key's first day says nothing about its level
CUSUM_KEEP = 0.98  # per cell
CUSUM_MAX = 60.0
RHO = (2.0, 6.0, 25.0)
STEP_MAX = (3.0, 5.0, 40.0)  # one cell's evidence at most: moderate benign spikes are short
STEP_MIN = -2.0
REBASE_CELLS = 16 * 864

VOLUME = np.dtype(
    [
        ("count", "u4"),  # requests in the open cell
        ("level", "f4"),  # sum of learned counts, in inflated units
        ("base_cell", "i4"),  # inflation is 2**((cell - base_cell) / half life)
        ("born_cell", "i4"),
        ("mean", "f4"),  # expected requests in the open cell
        ("size", "f4"),  # r = 1 / phi of the open cell
        ("phi_sum", "f4"),
        ("phi_weight", "f4"),
        ("weekend_sum", "f4", (2,)),  # learned counts relative to the hourly mean
        ("weekend_weight", "f4", (2,)),
        ("cusum", "f4", (3,)),
        ("evidence", "f4"),  # of the open cell, as last evaluated
        ("next_count", "u4"),  # evaluated again when the count reaches this
    ],
    align=True,
)


@kernel
def llr(count: float, mean: float, size: float, rho: float) -> float:
    """Nats: log P(count | rho x mean) - log P(count | mean), NB of size r.

    >>> llr(10.0, 10.0, 2.0, 2.0) < 0 < llr(60.0, 10.0, 2.0, 2.0)
    True
    """
    a, b = size + mean, size + rho * mean
    return count * log(rho * a / b) - size * log(b / a)


@kernel
def born(v: Any, cell: int) -> None:
    """Starts a key's volume at the cell of its first event."""
    v.born_cell = cell
    v.base_cell = cell
    v.weekend_weight[0] = 0.0


@kernel
def level_per_cell(v: Any, cell: int) -> float:
    """The key's mean requests per cell over all hours, recent days first."""
    inflation = 2.0 ** ((cell - v.base_cell) / HALF_LIFE_CELLS)
    cells = max(1, cell - v.born_cell)
    return v.level / inflation / decayed_count(cells, HALF_LIFE_CELLS)


@kernel
def weekend_factor(v: Any, weekend: int) -> float:
    """How weekdays (0) or weekends (1) differ from the hourly mean; 1 when unknown."""
    return (v.weekend_sum[weekend] + 48.0) / (v.weekend_weight[weekend] + 48.0)


@kernel
def open_cell(v: Any, season: Any, cell: int) -> None:
    """Sets the prediction for ``cell`` from what was committed before it."""
    inflation = 2.0 ** ((cell - v.base_cell) / HALF_LIFE_CELLS)
    level = level_per_cell(v, cell)
    hour = hour_of(cell)
    visits = hour_visits(v.born_cell, cell, hour)
    weight = decayed_count(visits, HALF_LIFE_CELLS / 24.0)
    mean = (season[hour] / inflation + SHRINK_VISITS * level) / (weight + SHRINK_VISITS)
    v.mean = max(1e-3, mean * weekend_factor(v, is_weekend(cell)))
    phi = (v.phi_sum + PHI_WEIGHT * PHI_PRIOR) / (v.phi_weight + PHI_WEIGHT)
    v.size = 1.0 / max(0.05, phi)
    v.count = 0
    v.next_count = 1
    v.evidence = max(v.cusum[0], v.cusum[1], v.cusum[2]) * CUSUM_KEEP


@kernel
def speaks(v: Any, cell: int) -> bool:
    """True when the open cell's count may mean anything: past the first day, above the mean."""
    return cell - v.born_cell >= SILENT_CELLS and v.count > v.mean


@kernel
def evaluate(v: Any, cell: int) -> float:
    """Evidence of the open cell so far, nats.

    The whole cell's mean is expected from the start, so an unfinished cell can only be
    too quiet, never too loud.
    """
    if v.count < v.next_count:
        return v.evidence
    v.next_count = v.count + 1 + v.count // 16
    if not speaks(v, cell):
        return v.evidence
    best = 0.0
    for j in range(3):
        step = llr(v.count, v.mean, v.size, RHO[j])
        best = max(best, CUSUM_KEEP * v.cusum[j] + min(max(step, 0.0), STEP_MAX[j]))
    v.evidence = min(best, CUSUM_MAX)
    return v.evidence


@kernel
def _learn_dispersion(v: Any, count: float, cells: float) -> None:
    keep = decay(cells, DISPERSION_HALF_LIFE_CELLS)
    mean = v.mean
    excess = ((count - mean) ** 2 - mean) / (mean * mean)
    weight = mean / (mean + 1.0)
    v.phi_sum = v.phi_sum * keep + weight * min(max(excess, -0.5), 30.0)
    v.phi_weight = v.phi_weight * keep + weight


@kernel
def _learn_level(v: Any, season: Any, cell: int, count: float) -> None:
    if cell - v.base_cell > REBASE_CELLS:
        shrink = decay(cell - v.base_cell, HALF_LIFE_CELLS)
        v.level *= shrink
        for h in range(24):
            season[h] *= shrink
        v.base_cell = cell
    inflation = 2.0 ** ((cell - v.base_cell) / HALF_LIFE_CELLS)
    weekend = is_weekend(cell)
    factor = weekend_factor(v, weekend)
    v.level += count * inflation
    season[hour_of(cell)] += count / factor * inflation
    keep = decay(1.0, DISPERSION_HALF_LIFE_CELLS / 4.0)
    v.weekend_sum[weekend] = v.weekend_sum[weekend] * keep + min(4.0, count / v.mean * factor)
    v.weekend_weight[weekend] = v.weekend_weight[weekend] * keep + 1.0


@kernel
def commit(v: Any, season: Any, cell: int, next_cell: int, held: bool) -> None:
    """Closes ``cell`` and the empty cells up to ``next_cell``; learns unless ``held``.

    A held cell counts as its own expectation: nothing is learned from it, and the
    exposure, which is a closed form of the calendar, stays right. Influence is bounded:
    one cell teaches at most ``20 x mean + 10``.
    """
    silent = cell - v.born_cell < SILENT_CELLS
    count = float(v.count)
    for j in range(3):
        if v.cusum[j] == 0.0 and (silent or count <= v.mean):
            continue  # stays 0: the ratio is negative below the mean
        step = 0.0 if silent else llr(count, v.mean, v.size, RHO[j])
        value = CUSUM_KEEP * v.cusum[j] + min(max(step, STEP_MIN), STEP_MAX[j])
        v.cusum[j] = min(max(value, 0.0), CUSUM_MAX)
    learned = min(count, v.mean) if held else min(count, 20.0 * v.mean + 10.0)
    if not (held or silent):
        _learn_dispersion(v, learned, 1.0)
    _learn_level(v, season, cell, learned)
    _pass_empty(v, next_cell - cell - 1)


@kernel
def _pass_empty(v: Any, cells: int) -> None:
    """Empty cells in closed form: the CUSUM falls by at most STEP_MIN a cell."""
    if cells <= 0:
        return
    mean = v.mean
    for j in range(3):
        if v.cusum[j] == 0.0:
            continue
        step = max(STEP_MIN, llr(0.0, mean, v.size, RHO[j]))
        value = v.cusum[j]
        for _ in range(min(cells, 64)):
            value = CUSUM_KEEP * value + step
            if value <= 0.0:
                break
        v.cusum[j] = max(0.0, value) if cells <= 64 else 0.0
    weight = mean / (mean + 1.0) * min(float(cells), CELLS_PER_DAY)
    keep = decay(cells, DISPERSION_HALF_LIFE_CELLS)
    v.phi_sum = v.phi_sum * keep + weight * max(-0.5, 1.0 - 1.0 / mean)
    v.phi_weight = v.phi_weight * keep + weight


class SeasonalVolume(AnomalyDetector):
    """Evidence that a key is used more than usual for this hour of its week.

    Parameters
    ----------
    time
        Name of the feature with the event time, seconds since 1970 UTC.

    Notes
    -----
    One call is one request. The evidence is in nats and grows while a burst lasts; one
    15-minute cell gives at most 3, 5 or 40 nats for about 2, 6 or 25 times the usual.

    Examples
    --------
    >>> model = SeasonalVolume()
    >>> for i in range(3 * 96):                      # three days, 4 requests a cell
    ...     for j in range(4):
    ...         model = model.learn_one({"t": i * 900 + j})
    >>> model.score_one({"t": 3 * 96 * 900})
    0.0
    >>> for j in range(400):                         # a hundred times the usual
    ...     model = model.learn_one({"t": 3 * 96 * 900 + j})
    >>> round(model.score_one({"t": 3 * 96 * 900 + 400}), 1)
    40.0
    """

    def __init__(self, time: str = "t") -> None:
        self.time = time
        self._state = np.zeros(1, VOLUME)
        self._season = np.zeros(24, np.float32)
        self._cell = -1

    def _advanced(self, state: Any, season: Any, cell: int) -> None:
        if self._cell < 0:
            born(state[0], cell)
            open_cell(state[0], season, cell)
        elif cell > self._cell:
            commit(state[0], season, self._cell, cell, False)
            open_cell(state[0], season, cell)

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x:
            return 0.0
        cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
        state, season = self._state.copy(), self._season.copy()
        self._advanced(state, season, cell)
        state[0]["count"] += 1
        return float(evaluate(state[0], cell))

    def learn_one(self, x: dict[str, Any]) -> SeasonalVolume:
        """Counts one request."""
        if self.time in x:
            cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
            self._advanced(self._state, self._season, cell)
            self._cell = cell
            self._state[0]["count"] += 1
            evaluate(self._state[0], cell)
        return self
