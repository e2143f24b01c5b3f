"""The budget controller by itself: streams of episode peaks in, a stated number a week out."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from models.budget import THETA_RANGE, BudgetController, tail_threshold

WEEKDAY = np.array([1.1, 1.2, 1.2, 1.1, 1.0, 0.4, 0.3]) * 7 / 6.3
PEAKS = {
    "exponential": lambda rng, n: rng.exponential(1.6, n),
    "pareto": lambda rng, n: rng.random(n) ** -0.25,
    "lognormal": lambda rng, n: rng.lognormal(0.0, 1.0, n),
    "bounded": lambda rng, n: rng.beta(1.0, 4.0, n),
}


def run(per_week, peaks_of, days, seed, rate=20.0, change=lambda day: (1.0, 1.0)):
    """Alerts of each day a threshold was in force; ``change(day)`` scales rate and level."""
    rng = np.random.default_rng(seed)
    budget, past, alerts = BudgetController(per_week), [], []
    for day in range(days):
        more, higher = change(day)
        n = rng.poisson(rate * more * WEEKDAY[day % 7] * rng.gamma(4, 0.25))
        peaks = peaks_of(rng, n) * higher
        bar = budget.threshold
        alerts.append(None if bar is None else int((peaks >= bar).sum()))
        past.append(peaks)
        weeks = min(4, (day + 1) // 7)
        if weeks:
            budget.end_day(np.concatenate(past[-7 * weeks :]), weeks, alerts[-1])
    return [a for a in alerts if a is not None], budget


@pytest.mark.parametrize("kind", PEAKS)
@pytest.mark.parametrize("per_week", [0.5, 2.5, 20.0])
def test_the_rate_is_kept_whatever_the_tail(kind, per_week):
    """Over years of days, 0.5 to 20 a week come out within a tenth, without any cap."""
    alerts, _ = run(per_week, PEAKS[kind], 7 * 200, seed=3)
    assert sum(alerts) / (len(alerts) / 7) == pytest.approx(per_week, rel=0.1)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda day: (2.0 if day >= 70 else 1.0, 1.0), id="twice as many"),
        pytest.param(lambda day: (1.0, 1.5 if day >= 70 else 1.0), id="half as high again"),
        pytest.param(lambda day: (1.0, 1.0 + day / 280), id="creeping up"),
    ],
)
def test_the_rate_is_kept_through_change(change):
    """A shift of rate or level in week 10, or a drift: 20 weeks differ by less than a sixth."""
    totals = [sum(run(5.0, PEAKS["exponential"], 147, s, change=change)[0]) for s in range(6)]
    assert np.mean(totals) / (5.0 * 20) == pytest.approx(1.0, abs=1 / 6)


def test_a_frozen_threshold_does_not_keep_it():
    """What the correction is for: the same creeping peaks flood a threshold of week three."""
    rng = np.random.default_rng(5)
    weeks = [rng.exponential(1.6, 140) * (1 + w / 40) for w in range(21)]
    frozen = tail_threshold(np.concatenate(weeks[:3]), 15)
    assert np.mean([(w >= frozen).sum() for w in weeks[11:]]) > 2 * 5


@pytest.mark.parametrize("wanted", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("kind", PEAKS)
def test_a_fitted_tail_is_unbiased_enough(kind, wanted):
    """Fewer than eight wanted of 1,000: the level is exceeded 0.45 to 2.2 times as often."""
    rng = np.random.default_rng(7)
    future = np.sort(PEAKS[kind](rng, 2_000_000))
    seen = []
    for _ in range(300):
        level = tail_threshold(PEAKS[kind](rng, 1000), wanted)
        seen.append((len(future) - np.searchsorted(future, level)) / 2000)
    assert 0.45 * wanted < np.median(seen) < 2.2 * wanted


def test_counted_levels_are_exact():
    """With enough episodes the threshold splits them where it says, ties and ends included."""
    peaks = np.random.default_rng(1).permutation(np.arange(100.0))
    assert (peaks >= tail_threshold(peaks, 8)).sum() == 8
    assert tail_threshold(peaks, 8.5) == 91.5
    assert tail_threshold(peaks, 100) == -np.inf
    assert tail_threshold(np.full(50, 7.0), 3) == 7.0
    assert np.isfinite(tail_threshold(np.array([1.0, 2.0]), 0.1))


def test_fewer_peaks_than_twenty_set_no_threshold():
    """Nothing is claimed of a fleet that showed 19 episodes."""
    budget = BudgetController(5.0)
    budget.end_day(np.arange(19.0), 1, None)
    assert budget.threshold is None
    budget.end_day(np.arange(20.0), 1, None)
    assert budget.threshold == pytest.approx(15.0, abs=1.0)


def test_it_never_falls_below_the_least():
    """However few episodes there are, what is below the floor stays below."""
    budget = BudgetController(1000.0, least=4.0)
    budget.end_day(np.arange(50.0), 1, None)
    assert budget.threshold == 4.0


def test_a_budget_of_nothing_lets_nothing_through():
    """A channel without a share has no threshold that anything reaches."""
    budget = BudgetController(0.0)
    budget.end_day(np.arange(50.0), 1, None)
    assert budget.threshold == np.inf


def test_the_correction_is_the_published_rule():
    """Shifts by 0.15 of the relative error, within its range; a silent day shifts nothing."""
    budget = BudgetController(7.0)
    budget.end_day(np.arange(50.0), 1, 3)
    assert budget.theta == pytest.approx(0.15 * (1 - 3))
    budget.end_day(np.arange(50.0), 1, None)
    assert budget.theta == pytest.approx(-0.3)
    budget.end_day(np.arange(50.0), 1, 1000)
    assert budget.theta == THETA_RANGE[0]
    for _ in range(60):
        budget.end_day(np.arange(50.0), 1, 0)
    assert budget.theta == THETA_RANGE[1]
    assert budget.threshold == tail_threshold(np.arange(50.0), 7 * exp(1.5))


def test_a_confirmed_alert_gives_back_what_it_cost():
    """An alert that was no false one leaves the correction as if it had not been."""
    budget = BudgetController(5.0)
    budget.end_day(np.arange(50.0), 1, 1)
    spoiled = budget.theta
    budget.refund()
    other = BudgetController(5.0)
    other.end_day(np.arange(50.0), 1, 0)
    assert spoiled < budget.theta == pytest.approx(other.theta)
