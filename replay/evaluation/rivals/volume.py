"""Rivals that know only counts: a static threshold, and a control chart on the log count."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models._jit import njit
from models.clock import CELLS_PER_DAY
from replay.evaluation.points import Series
from replay.evaluation.rivals.windows import WindowTable

COUNT_FLOOR = 20.0  # requests per 15 min; no budget ever comes near it
EWMA_WEIGHT = 1 - 0.5 ** (1 / (3 * CELLS_PER_DAY))  # half-life of three days
EWMA_SIGMA_MIN = 0.05  # of log(1 + count)
EWMA_CELLS_MIN = CELLS_PER_DAY
EWMA_FLOOR = 3.0  # sigma


def count_threshold(table: WindowTable) -> Series:
    """Requests of a key in 15 minutes: one limit for the whole fleet, as a gateway's rate limit."""
    return table.series(table.windows["count"].astype(np.float64), COUNT_FLOOR)


def ewma(table: WindowTable) -> Series:
    """Sigmas of log(1 + count) above its exponentially weighted mean, from 3 sigma on.

    Per key, every 15 minutes from its first request on, silent ones as 0; mean and variance of
    what came before; no score in a key's first day. Roberts, *Control chart tests based on
    geometric moving averages* (1959); the variance by the same recursion (Finch, 2009). Tuned:
    half-life 3 days (of 6 hours to 14 days), sigma at least 0.05 (of 0.01 to 1.2), else any
    request of a key that rests would be infinitely unusual.
    """
    return table.series(sigmas(table, "count", EWMA_SIGMA_MIN), EWMA_FLOOR)


def sigmas(table: WindowTable, column: str, sigma_min: float) -> npt.NDArray[np.float64]:
    """``ewma``'s sigmas for any column of the windows, float64 of their number."""
    w = table.windows
    score = np.zeros(len(w))
    fill_sigmas(w["key"], w["cell"], w[column], sigma_min, score)
    return score


@njit
def fill_sigmas(key: Any, cell: Any, value: Any, sigma_min: float, score: Any) -> None:
    """Fills ``score`` for windows sorted by (key, cell)."""
    mean, variance = 0.0, 0.0
    for i in range(len(key)):
        if i == 0 or key[i] != key[i - 1]:
            born, mean, variance = cell[i], math.log1p(value[i]), 0.0
            continue
        for _ in range(cell[i - 1] + 1, cell[i]):
            off = -mean
            mean += EWMA_WEIGHT * off
            variance = (1 - EWMA_WEIGHT) * (variance + EWMA_WEIGHT * off * off)
        off = math.log1p(value[i]) - mean
        if cell[i] - born >= EWMA_CELLS_MIN:
            score[i] = off / max(math.sqrt(variance), sigma_min)
        mean += EWMA_WEIGHT * off
        variance = (1 - EWMA_WEIGHT) * (variance + EWMA_WEIGHT * off * off)
