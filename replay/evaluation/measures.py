"""Numbers from results: recall, leak, time, explanation, false alerts, and how sure they are.

Everything here takes the results of one method, one per seed, and pools their attacks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.clock import DAY_US
from replay.evaluation.record import AtBudget, AttackRow, FalseAlert, Outcome, Result

F64 = npt.NDArray[np.float64]
Pick = Callable[[Result], AtBudget | None]

SIZES = (0.0, 0.1, 1.0, 10.0, np.inf)
SIZE_NAMES = ("< 0.1x", "0.1-1x", "1-10x", "> 10x")
DRAWS = 2000
ALONE = "none"  # a false alert that falls on no happening


def at_budget(per_week: float) -> Pick:
    """Picks what a result says under a budget."""
    return lambda result: next((b for b in result.budgets if b.per_week == per_week), None)


def online_at(per_week: float) -> Pick:
    """Picks the alerts really raised under a stated budget."""
    return lambda result: next((b for b in result.online if b.per_week == per_week), None)


def throttled(result: Result) -> AtBudget | None:
    """Picks the throttle channel under its own budget."""
    return result.throttle


def with_throttle(per_week: float) -> Pick:
    """Picks alerts under a budget and the throttle channel together, the earlier one of each."""

    def pick(result: Result) -> AtBudget | None:
        alerts, slow = at_budget(per_week)(result), result.throttle
        if alerts is None or slow is None:
            return None
        both = zip(alerts.outcomes, slow.outcomes, strict=True)
        outcomes = [min(pair, key=_caught_first) for pair in both]
        false_alerts = alerts.false_alerts + slow.false_alerts
        return AtBudget(alerts.per_week + slow.per_week, [], outcomes, false_alerts)

    return pick


def _caught_first(outcome: Outcome) -> float:
    return np.inf if outcome.caught_us is None else outcome.caught_us


@dataclass(frozen=True, slots=True)
class Measures:
    """What one method achieved under one rule; ``None`` where there is nothing to count.

    - ``recall``             share of attacks caught; ``low`` and ``high`` its 95 % interval
    - ``macro``              mean of the scenarios' recalls
    - ``leaked_share``       mean over attacks of the share of requests leaked, 1 for a miss
    - ``leaked_of_all``      leaked requests of all attack requests
    - ``bytes_share``        mean over attacks of the share of bytes leaked, 1 for a miss
    - ``leaked_median, leaked_p90``  requests leaked by caught attacks
    - ``delay_median_s``     attack's start to alert, caught attacks
    - ``cause, network``     share of caught attacks whose reasons name a cause; of those with a
      named actor, the share whose network is the attacker's
    - ``false_per_week``     mean over weeks; ``worst_week`` the most in seven days of one world
    """

    attacks: int
    caught: int
    recall: float | None
    low: float | None
    high: float | None
    macro: float | None
    leaked_share: float | None
    leaked_of_all: float | None
    bytes_share: float | None
    leaked_median: float | None
    leaked_p90: float | None
    delay_median_s: float | None
    cause: float | None
    network: float | None
    false_per_week: float
    worst_week: int


def measure(results: Sequence[Result], pick: Pick) -> Measures:
    """All measures of one method; results for which ``pick`` finds nothing are left out."""
    rows = list(_outcomes(results, pick))
    caught = [(a, o) for a, o in rows if o.caught_us is not None]
    interval = bootstrap(hits_by_seed(results, pick)) if rows else (None, None)
    leaks = [float(o.requests) for _, o in caught]
    weekly = [n for r in results if (b := pick(r)) for n in weekly_false(r, b)]
    weeks = sum(r.weeks for r in results if pick(r))
    scenarios = recall_by(results, pick, lambda a: a.scenario)
    return Measures(
        attacks=len(rows),
        caught=len(caught),
        recall=_mean(o.caught_us is not None for _, o in rows),
        low=interval[0],
        high=interval[1],
        macro=_mean(hit / n for hit, n in scenarios.values()),
        leaked_share=_mean(_share(o.requests, a.requests, o) for a, o in rows),
        leaked_of_all=_ratio(sum(o.requests for _, o in rows), sum(a.requests for a, _ in rows)),
        bytes_share=_mean(_share(o.size_bytes, a.size_bytes, o) for a, o in rows),
        leaked_median=_quantile(leaks, 0.5),
        leaked_p90=_quantile(leaks, 0.9),
        delay_median_s=_quantile([((o.caught_us or 0) - a.start_us) / 1e6 for a, o in caught], 0.5),
        cause=_mean(o.cause for _, o in caught if o.cause is not None),
        network=_mean(o.network for _, o in caught if o.network is not None),
        false_per_week=len(_false(results, pick)) / weeks if weeks else 0.0,
        worst_week=max(weekly, default=0),
    )


def recall_by(
    results: Sequence[Result], pick: Pick, group: Callable[[AttackRow], str]
) -> dict[str, tuple[int, int]]:
    """(caught, attacks) of each group of attacks, groups in order of name."""
    hit: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for attack, outcome in _outcomes(results, pick):
        total[group(attack)] += 1
        hit[group(attack)] += outcome.caught_us is not None
    return {name: (hit[name], total[name]) for name in sorted(total)}


def size_of(attack: AttackRow) -> str:
    """The class of a thief's rate against the key's own."""
    for (low, high), name in zip(pairwise(SIZES), SIZE_NAMES, strict=True):
        if low <= attack.rate_ratio < high:
            return name
    return SIZE_NAMES[-1]


def false_by_class(results: Sequence[Result], pick: Pick) -> dict[str, tuple[int, float]]:
    """(false alerts, per 1,000 key-weeks) of each class of keys."""
    counted = Counter(f.key_class for f in _false(results, pick))
    key_weeks: dict[str, float] = {}
    for result in results:
        for name, n in result.classes.items():
            key_weeks[name] = key_weeks.get(name, 0.0) + n * result.weeks
    rates = {c: 1000 * counted[c] / key_weeks[c] if c in key_weeks else 0.0 for c in counted}
    return {c: (counted[c], rates.get(c, 0.0)) for c in sorted({*counted, *key_weeks})}


def false_by_happening(results: Sequence[Result], pick: Pick) -> dict[str, tuple[int, int]]:
    """(false alerts, happenings) of each benign scenario; ``ALONE`` for alerts on none."""
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.happenings)
    counted = Counter(s for f in _false(results, pick) for s in f.happenings or [ALONE])
    return {name: (counted[name], total[name]) for name in sorted({*counted, *total})}


def false_by_reason(results: Sequence[Result], pick: Pick) -> dict[str, int]:
    """False alerts by the strongest reason they give, most frequent first."""
    counted = Counter(f.signals[0] for f in _false(results, pick) if f.signals)
    return {s: counted[s] for s in sorted(counted, key=lambda s: (-counted[s], s))}


def weekly_false(result: Result, at: AtBudget) -> list[int]:
    """False alerts in each whole week of the test period."""
    weeks = [(f.ts_us - result.start_us) // (7 * DAY_US) for f in counted_false(at)]
    return [weeks.count(i) for i in range(int(result.weeks))]


def counted_false(at: AtBudget) -> list[FalseAlert]:
    """The false alerts that a budget counts."""
    return [f for f in at.false_alerts if f.channel != "hard"]


def hits_by_seed(results: Sequence[Result], pick: Pick) -> list[F64]:
    """1 for a caught attack, 0 for a missed one, an array per world."""
    found = [b for r in results if (b := pick(r)) is not None]
    return [np.array([float(o.caught_us is not None) for o in b.outcomes]) for b in found]


def bootstrap(values: Sequence[F64]) -> tuple[float | None, float | None]:
    """95 % percentile interval of the mean: worlds are drawn anew, then attacks in each.

    For two methods on the same worlds give the differences of their hits: then each draw
    compares them on the same attacks (a paired bootstrap).

    >>> bootstrap([np.ones(50)])
    (1.0, 1.0)
    """
    values = [v for v in values if len(v)]
    if not values:
        return None, None
    rng = np.random.default_rng(0)
    means = np.empty(DRAWS)
    for i in range(DRAWS):
        worlds = rng.integers(len(values), size=len(values)) if len(values) > 1 else (0,)
        drawn = [rng.choice(values[w], len(values[w])) for w in worlds]
        means[i] = np.concatenate(drawn).mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def difference(
    ours: Sequence[Result], other: Sequence[Result], pick: Pick
) -> tuple[float, float, float] | None:
    """Recall of ``ours`` minus that of ``other`` on the seeds both have, and its interval."""
    theirs = {r.seed: r for r in other}
    pairs = [(r, theirs[r.seed]) for r in ours if r.seed in theirs]
    a = hits_by_seed([p[0] for p in pairs], pick)
    b = hits_by_seed([p[1] for p in pairs], pick)
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    low, high = bootstrap(gaps)
    if low is None or high is None:
        return None
    return float(np.concatenate(gaps).mean()), low, high


def precision(results: Sequence[Result], k: int) -> float | None:
    """Mean over worlds of the precision among the k best alerts."""
    return _mean(p for r in results if (p := r.precision.get(str(k))) is not None)


def _outcomes(results: Sequence[Result], pick: Pick) -> Iterator[tuple[AttackRow, Outcome]]:
    for result in results:
        at = pick(result)
        if at is not None:
            yield from zip(result.attacks, at.outcomes, strict=True)


def _false(results: Sequence[Result], pick: Pick) -> list[FalseAlert]:
    return [f for r in results if (b := pick(r)) is not None for f in counted_false(b)]


def _share(part: int, whole: int, outcome: Outcome) -> float:
    return part / whole if whole and outcome.caught_us is not None else 1.0


def _mean(values: Iterable[float | bool | None]) -> float | None:
    known = [float(v) for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _quantile(values: Sequence[float], q: float) -> float | None:
    return float(np.quantile(values, q)) if values else None
