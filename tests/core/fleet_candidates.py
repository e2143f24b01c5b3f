"""Candidates without a fold: made by hand, or streams with the nasty habits of real fleets."""

from __future__ import annotations

import numpy as np

from detector.core.episodes import Actor, Candidate, Episode, Reason, alert_id
from detector.core.settings import ChannelLimits, ShardSettings
from models.fusion import N_FAMILIES

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
WEEK_US = 7 * DAY_US
MONDAY_US = 1_767_571_200_000_000  # 2026-01-05 00:00 UTC
# Levels of these tests' own, so that no test hangs on the shipped ones.
NONE = (0.0,) * N_FAMILIES
SETTINGS = ShardSettings(
    stolen=ChannelLimits(floor=4.0, threshold=13.75, cold_extra=3.0, weights=NONE),
    abused=ChannelLimits(floor=4.0, threshold=10.9, cold_extra=3.0, weights=NONE),
    throttle=ChannelLimits(floor=4.0, threshold=9.0, cold_extra=3.0, weights=NONE),
)
BASE = {name: getattr(SETTINGS, name).threshold for name in ("stolen", "abused", "throttle")}


def candidate(
    ts_us: int,
    key: str,
    score: float,
    *,
    channel: str = "stolen",
    ordinal: int = 1,
    opened_us: int | None = None,
    nats: dict[str, float] | None = None,
    network: str = "",
    client: str = "",
    owner: str | None = None,
    extra: float = 0.0,
    number: int = 0,
) -> Candidate:
    """A candidate of the episode ``(key, channel, number)``; ``nats`` by signal are its reasons."""
    opened_us = ts_us if opened_us is None else opened_us
    signals = {"additive": score} if nats is None else nats
    reasons = [Reason(s, n, 1.0, 0.0, s) for s, n in signals.items()]
    threshold = BASE[channel] + extra
    episode = Episode(
        alert_id=alert_id(key, channel, number, 0),
        key=key,
        owner=owner,
        channel=channel,  # type: ignore[arg-type]
        severity="medium",
        state="open",
        opened_us=opened_us,
        first_suspicious_us=opened_us,
        peak_us=ts_us,
        last_seen_us=ts_us,
        closed_us=None,
        alerted_us=None,
        score=score,
        threshold=threshold,
        return_period_days=None,
        reasons=tuple(sorted(reasons, key=lambda r: -r.nats)),
        actor=Actor(network, client, ts_us, 3) if network or client else None,
        requests_leaked=3,
        bytes_leaked=3000,
        action="notify",
        simulated=True,
        curve=((ts_us, score, 3, 3000),),
    )
    return Candidate(ts_us, ordinal, False, score >= threshold, episode, channel == "throttle")


PEAKS = {
    "exponential": lambda rng, n: rng.exponential(1.6, n),
    "pareto": lambda rng, n: 4.0 * (rng.random(n) ** -0.25 - 1.0),
    "lognormal": lambda rng, n: rng.lognormal(0.0, 0.9, n),
    "saturating": lambda rng, n: np.minimum(rng.exponential(2.5, n), 14.0),
}
WEEKDAY = np.array([1.1, 1.2, 1.2, 1.1, 1.0, 0.4, 0.3]) * 7 / 6.3


def stream(
    seed: int, kind: str, per_week: float, weeks: int, channel: str, drift: float = 0.1
) -> list[Candidate]:
    """Attack-free episodes of one channel, over the floor, as they rise.

    Weekdays are four times as busy as Sundays; each day's rate is overdispersed (Gamma); peaks
    creep up with the log's age; in the third quarter twice as many come; and every other week
    5 to 40 keys rise within an hour for reasons no rule recognises.
    """
    rng = np.random.default_rng([seed, channel == "stolen"])
    found = []
    for day in range(7 * weeks):
        rate = per_week / 7 * WEEKDAY[day % 7] * rng.gamma(4, 0.25)
        n = int(rng.poisson(rate * (2 if 0.5 <= day / (7 * weeks) < 0.75 else 1)))
        at, peaks = day + rng.random(n), PEAKS[kind](rng, n)
        if rng.random() < 1 / 14:
            m = int(rng.integers(5, 41))
            at = np.concatenate([at, day + rng.random() + rng.random(m) / 24])
            peaks = np.concatenate([peaks, PEAKS[kind](rng, m) + rng.exponential(2.0)])
        peaks *= 1 + drift * np.log1p(day / 7)
        for i, (begin, over) in enumerate(zip(at, peaks, strict=True)):
            found += _rising(rng, begin, over, channel, day * 100_000 + i)
    return sorted(found, key=lambda c: c.order)


def _rising(
    rng: np.random.Generator, begin_days: float, over: float, channel: str, number: int
) -> list[Candidate]:
    steps = int(rng.integers(1, 5))
    lower = rng.uniform(0.0, over, steps - 1)
    at = begin_days + np.cumsum([0.0, *rng.exponential(0.2, steps - 1)])
    opened_us = MONDAY_US + int(at[0] * DAY_US)
    key = f"k{int(rng.integers(2000))}"
    return [
        candidate(
            MONDAY_US + int(t * DAY_US),
            key,
            round(4.0 + float(x), 3),
            channel=channel,
            ordinal=j + 1,
            opened_us=opened_us,
            number=number,
        )
        for j, (t, x) in enumerate(zip(at, [*np.sort(lower), over], strict=True))
    ]


def in_any_week(times_us: list[int]) -> int:
    """The largest number of times within any seven days."""
    times = np.sort(np.array(times_us))
    return int((np.arange(len(times)) - np.searchsorted(times, times - WEEK_US, "right")).max() + 1)
