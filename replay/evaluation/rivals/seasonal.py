"""The rival that is nearest to a commercial product: usual volume of the hour, and rare values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models._jit import njit
from models.clock import CELLS_PER_DAY
from replay.evaluation.points import Series
from replay.evaluation.rivals.windows import WindowTable

HOURS_OF_WEEK, HOURS_OF_DAY = 168, 24
DECAY = 0.99  # per visit of a bin: a bin of the week is visited four times a week
WEEK_WEIGHT, DAY_WEIGHT = 4.0, 2.0  # visits that the coarser level counts for
PHI_PRIOR, PHI_WEIGHT = 0.5, 50.0
PHI_MAX, PHI_DECAY = 20.0, 0.999
CELLS_MIN = 2 * CELLS_PER_DAY
COUNT_TEMPER = 0.1
RARE_WINDOWS_MIN = 20
RARE_FEATURES = ("new_networks", "new_clients", "new_routes")
NATS_FLOOR = 4.0
FRACTION_STEPS, TINY = 400, 1e-300


def seasonal_and_rare(table: WindowTable) -> Series:
    """The larger of two surprises in nats: of the count for the hour, and of its new values.

    Modelled on Elastic's anomaly detection with ``high_count`` and ``rare`` detectors
    partitioned by key, buckets of 15 minutes, and the key as influencer. Count: upper tail of a
    negative binomial around the mean of the hour of the week, shrunk to the hour of the day and
    that to the key's own level; dispersion per key by moments; from two days on. Rare: a bucket
    with a network, client or route never seen before is as likely as such buckets of the key
    were so far, (seen + 1) / (buckets + 2), from 20 buckets on, the minimum Elastic asks;
    the three add up, as an influencer's do. Tuned: the count's nats times 0.1, for the
    model's tails are lighter than traffic's (Elastic renormalises each detector's scores by
    rank, which found less); forgetting 1 % a visit and the weights of the coarser levels.
    """
    w = table.windows
    score = np.zeros(len(w))
    count_nats(w["key"], w["cell"], w["count"], score)
    rare = sum((rare_nats(table, f) for f in RARE_FEATURES), np.zeros(len(w)))
    return table.series(np.maximum(COUNT_TEMPER * score, rare), NATS_FLOOR)


def rare_nats(table: WindowTable, feature: str) -> npt.NDArray[np.float64]:
    """Surprise of each window with a first-seen value, by how often its key had one; else 0."""
    w = table.windows
    is_new = np.asarray(w[feature] > 0)
    start = np.searchsorted(w["key"], w["key"])  # first window of the same key
    before: npt.NDArray[np.int64] = np.cumsum(is_new) - is_new
    seen, windows = before - before[start], np.arange(len(w)) - start
    return np.where(
        is_new & (windows >= RARE_WINDOWS_MIN), -np.log((seen + 1) / (windows + 2)), 0.0
    )


@njit
def count_nats(key: Any, cell: Any, count: Any, score: Any) -> None:
    """Fills ``score`` for windows sorted by (key, cell)."""
    week = np.zeros((HOURS_OF_WEEK, 2))  # decayed sum of counts, and of visits
    day = np.zeros((HOURS_OF_DAY, 2))
    level = np.zeros(2)
    spread = np.zeros(2)
    for i in range(len(key)):
        if i == 0 or key[i] != key[i - 1]:
            born, last = cell[i], cell[i] - 1
            for sums in (week, day):
                sums[:] = 0
            level[:], spread[:] = 0, 0
        for at in range(last + 1, cell[i] + 1):
            x = count[i] if at == cell[i] else 0
            hour = at // 4
            how, hod = week[hour % HOURS_OF_WEEK], day[hour % HOURS_OF_DAY]
            mean = expected(how, hod, level)
            phi = (spread[0] + PHI_PRIOR * PHI_WEIGHT) / (spread[1] + PHI_WEIGHT)
            if at - born >= CELLS_MIN and x > mean:
                score[i] = tail_nats(x, mean, phi)
            learn(how, x, DECAY)
            learn(hod, x, DECAY)
            learn(level, x, 1 - (1 - DECAY) / HOURS_OF_DAY)
            if mean > 0:
                weight = mean / (mean + 1)
                excess = ((x - mean) ** 2 - mean) / (mean * mean)
                spread *= PHI_DECAY
                spread[0] += weight * min(max(excess, -0.5), PHI_MAX)
                spread[1] += weight
        last = cell[i]


@njit
def expected(how: Any, hod: Any, level: Any) -> float:
    """Mean of a cell from the sums of its hour of the week, its hour of the day and all hours."""
    mean = level[0] / max(level[1], 1.0)
    mean = (hod[0] + DAY_WEIGHT * mean) / (hod[1] + DAY_WEIGHT)
    return float((how[0] + WEEK_WEIGHT * mean) / (how[1] + WEEK_WEIGHT))


@njit
def learn(sums: Any, x: float, decay: float) -> None:
    """One more visit of a bin."""
    sums *= decay
    sums[0] += x
    sums[1] += 1


@njit
def tail_nats(x: float, mean: float, phi: float) -> float:
    """-log P(X >= x) of a negative binomial with variance ``mean + phi mean^2``, for x > mean.

    The incomplete beta function I_q(x, 1/phi), q = phi mean / (1 + phi mean), by Lentz's
    continued fraction (Press et al., *Numerical Recipes*, 6.4).
    """
    mean, phi = max(mean, 1e-3), max(phi, 1e-3)
    a, b, q = float(x), 1 / phi, phi * mean / (1 + phi * mean)
    log_front = a * math.log(q) + b * math.log1p(-q) - math.log(a)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * q / (a + 1))
    fraction = d
    for m in range(1, FRACTION_STEPS):
        for k in range(2):
            if k == 0:
                step = m * (b - m) * q / ((a + 2 * m - 1) * (a + 2 * m))
            else:
                step = -(a + m) * (a + b + m) * q / ((a + 2 * m) * (a + 2 * m + 1))
            d, c = 1 / _nonzero(1 + step * d), _nonzero(1 + step / c)
            fraction *= d * c
        if abs(d * c - 1) < 1e-12:
            break
    return max(0.0, -(log_front + math.log(max(fraction, TINY))))


@njit
def _nonzero(value: float) -> float:
    return TINY if abs(value) < TINY else value
