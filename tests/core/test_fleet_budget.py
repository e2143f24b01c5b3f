"""The promise itself: N false alerts a week, on attack-free streams with nasty habits."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from detector.core.fleet import FleetStage
from tests.core.fleet_candidates import MONDAY_US, PEAKS, SETTINGS, WEEK_US, in_any_week, stream

FAR_US = 1 << 60
BURN_IN, JUDGED = 4, 10  # weeks
KINDS = list(PEAKS)
CHANNELS = ("stolen", "abused")


@cache
def log_of(seed, kind, per_week):
    weeks = BURN_IN + JUDGED
    return [c for name in CHANNELS for c in stream(seed, kind, per_week, weeks, name)]


def realised(n, seed, kind, per_week):
    """Alerts of the judged weeks over N per week, of one fleet; no seven days exceed the cap."""
    fleet = FleetStage(n, settings=SETTINGS)
    fleet.start(MONDAY_US)
    fleet.offer(log_of(seed, kind, per_week))
    times = [a.alerted_us for a in fleet.release(FAR_US)]
    assert in_any_week(times) <= int(np.ceil(1.2 * n - 1e-9))
    judged_us = MONDAY_US + BURN_IN * WEEK_US
    end_us = judged_us + JUDGED * WEEK_US
    return sum(judged_us <= t < end_us for t in times) / (n * JUDGED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [10, 20, 40])
def test_ten_fleet_weeks_keep_to_the_budget(n, kind):
    """N = 10, 20, 40: realised over N within 0.7 to 1.25 over ten weeks of one fleet."""
    assert 0.7 <= realised(n, 1, kind, 100) <= 1.25


@pytest.mark.parametrize(("n", "fleets"), [(5, 4), (2, 10), (1, 10)])
def test_small_budgets_are_kept_over_many_fleets(n, fleets):
    """N = 5 over 40 fleet-weeks, N = 2 and 1 over 100: within 0.7 to 1.25 of the budget."""
    ratios = [realised(n, seed, KINDS[seed % 4], 50) for seed in range(fleets)]
    assert 0.7 <= np.mean(ratios) <= 1.25


def test_a_large_fleet_keeps_to_the_same_budget():
    """A thousand episodes a week instead of a hundred: N counts alerts, not keys."""
    assert 0.7 <= realised(10, 2, "lognormal", 500) <= 1.25


def test_the_first_weeks_keep_to_it_too():
    """From the eighth day of a fleet on: within 0.7 to 1.25 over six fleets, N = 10."""
    counts = []
    for seed in range(6):
        fleet = FleetStage(10.0, settings=SETTINGS)
        fleet.start(MONDAY_US)
        fleet.offer(log_of(seed, KINDS[seed % 4], 50))
        times = [a.alerted_us for a in fleet.release(MONDAY_US + 4 * WEEK_US)]
        counts.append(sum(t >= MONDAY_US + WEEK_US for t in times))
    assert 0.7 <= np.mean(counts) / 30 <= 1.25
