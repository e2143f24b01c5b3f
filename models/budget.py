"""The alert budget: a threshold that lets a stated number of episodes a week through.

Two parts. The *tail* says how often a week this fleet shows a peak of at least ``s``, from
the peaks of the last whole weeks; its inverse is the threshold for any rate. The
*correction* (adaptive conformal inference) compares each day's alerts with the day's share
of the budget and shifts the rate asked of the tail, so that the long-run average is kept
whatever the peaks do: drift, bursts and shifts of level included. A day's error is charged
in full, so while the correction is inside its range the alerts of T days differ from the
budget by a constant, not by a share of T.

Sources: Gibbs & Candes, *Adaptive Conformal Inference Under Distribution Shift* (NeurIPS
2021), equation 2; Siffer et al., *Anomaly Detection in Streams with Extreme Value Theory*
(KDD 2017) for the tail above a high quantile; Hosking & Wallis (Technometrics 1987) for
probability-weighted moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

EMPIRICAL_MIN = 8.0  # episodes over the threshold from which counting beats a fitted tail
TAIL_MIN, TAIL_MAX = 20, 60  # largest peaks a tail is fitted to
TAIL_SHRINK = 40.0  # peaks' worth of trust in an exponential tail
SHAPE_RANGE = (-0.4, 0.3)
PEAKS_MIN = 20  # fewer say too little to set a threshold by
GAIN = 0.15  # of a day's relative error
DAY_SHARE_MIN = 0.3  # alerts a day; smaller budgets are corrected as slowly as this one
THETA_RANGE = (-2.5, 1.5)


def tail_threshold(peaks: F64, wanted: float) -> float:
    """The level that ``wanted`` of these peaks reach, extrapolated where they are few.

    ``peaks`` [n], nats, any order, n >= 2; ``wanted`` > 0 may be a fraction. Counted where at
    least ``EMPIRICAL_MIN`` are wanted; otherwise a generalised Pareto tail is fitted to the
    largest. Minus infinity when all of them are wanted.

    >>> tail_threshold(np.arange(100.0), 10)
    90.0
    >>> round(tail_threshold(-np.log(np.arange(1, 1001) / 1000), 2), 1)  # exponential
    6.0
    """
    n = len(peaks)
    if wanted >= n:
        return float("-inf")
    ordered = np.sort(peaks)[::-1]
    k = min(max(TAIL_MIN, n // 4), TAIL_MAX, n - 1)
    if wanted >= min(EMPIRICAL_MIN, k):
        j = max(1, int(wanted))
        return float(ordered[j - 1] - (wanted - j) * (ordered[j - 1] - ordered[j]))
    shape, scale = _pareto(ordered[:k][::-1] - ordered[k])
    ratio = log(k / wanted)
    grown = ratio if abs(shape) < 1e-6 else (exp(shape * ratio) - 1.0) / shape
    return float(ordered[k] + scale * grown)


def _pareto(excess: F64) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto tail; ``excess`` ascending, not negative."""
    k = len(excess)
    mean = float(excess.mean())
    lower = float((np.arange(k)[::-1] / (k - 1) * excess).mean()) if k > 1 else mean / 4
    shape = 2.0 - mean / (mean - 2.0 * lower) if mean > 2.0 * lower else SHAPE_RANGE[0]
    shape = min(max(shape * k / (k + TAIL_SHRINK), SHAPE_RANGE[0]), SHAPE_RANGE[1])
    return shape, mean * (1.0 - shape)


@dataclass(slots=True)
class BudgetController:
    """Sets one stream's threshold once a day so that ``per_week`` alerts a week come out.

    Parameters
    ----------
    per_week
        Alerts a week, on average; a fraction is fine.
    least
        The threshold never falls below it, nats.
    theta
        The correction: the tail is asked for ``per_week * exp(theta)``.
    threshold
        In force, nats; ``None`` until ``PEAKS_MIN`` peaks are known.

    Examples
    --------
    Five weeks of 40 peaks a day whose level creeps up, and five alerts a week wanted:

    >>> rng = np.random.default_rng(1)
    >>> budget, days, alerts = BudgetController(5.0), [], []
    >>> for day in range(35):
    ...     peaks = rng.exponential(2.0, 40) + day / 20
    ...     bar = budget.threshold
    ...     alerts.append(None if bar is None else int((peaks >= bar).sum()))
    ...     days.append(peaks)
    ...     if day >= 6:
    ...         weeks = min(4, len(days) // 7)
    ...         budget.end_day(np.concatenate(days[-7 * weeks :]), weeks, alerts[-1])
    >>> sum(a for a in alerts if a is not None) / 4
    5.5
    """

    per_week: float
    least: float = 0.0
    theta: float = 0.0
    threshold: float | None = None

    def end_day(self, peaks: F64, weeks: int, alerts: int | None) -> None:
        """Ends a day: corrects by its alerts, then sets the threshold of the next day.

        ``peaks`` [n], nats: one for each episode of the last ``weeks`` whole weeks, so that
        every day of the week counts alike. ``alerts`` is the day's number, ``None`` for a
        day that says nothing: no data, or no threshold of this controller in force.
        """
        if alerts is not None:
            self._shift(self.per_week / 7.0 - alerts)
        if len(peaks) < PEAKS_MIN:
            return
        wanted = self.per_week * exp(self.theta) * weeks
        level = tail_threshold(peaks, wanted) if wanted > 0.0 else float("inf")
        self.threshold = max(self.least, level)

    def refund(self) -> None:
        """One alert of an earlier day does not count: it was confirmed as a true one."""
        self._shift(1.0)

    def _shift(self, alerts_short: float) -> None:
        step = GAIN * alerts_short / max(self.per_week / 7.0, DAY_SHARE_MIN)
        self.theta = min(max(self.theta + step, THETA_RANGE[0]), THETA_RANGE[1])
