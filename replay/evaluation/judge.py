"""The judge: which alerts are false, which attacks they caught, where a budget puts thresholds.

Rules, the same for every method (an alert is what ``Points.alerts`` or ``Series.alerts`` says):

- An alert on an attacked key between the attack's first request and GRACE_US after its last
  catches it; the first such alert is the one that counts. An alert raised before is not moved
  into the attack: its unit has spoken. Of a campaign one caught key is enough.
- Any other alert on an attacked key up to AFTERMATH_US after the attack is neutral: it is
  neither a success nor a reason to complain.
- A notice about no single key catches an attack in whose time it falls if it names one of the
  attack's networks; else it is one false alert.
- All other alerts of the test period are false. Facts (the channel HARD) are outside budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.clock import DAY_US
from replay.evaluation.points import (
    ABUSED,
    F64,
    HARD,
    I8,
    I64,
    N_CHANNELS,
    NO_KEY,
    STOLEN,
    THROTTLE,
    Alerts,
    Note,
    Scored,
)
from replay.evaluation.truth import Rows, Truth

GRACE_US = 3_600_000_000
AFTERMATH_US = DAY_US
NEVER_US = (1 << 63) - 1

FALSE, TRUE, NEUTRAL, OUTSIDE = range(4)


@dataclass(frozen=True, slots=True)
class Budget:
    """False alerts per week over the whole fleet, and how the channels share them.

    With ``share_stolen`` STOLEN and ABUSED have budgets of their own; without it one threshold
    is laid on ``score - offset[channel]`` of both.
    """

    per_week: float
    share_stolen: float | None = None
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Judged:
    """``verdict[n]`` of every alert; ``caught[attack]`` the row of its alert, -1 = missed.

    ``stopped_us[span]`` is when a key's attack came to light, ``NEVER_US`` where it did not.
    """

    alerts: Alerts
    verdict: I8
    caught: I64
    stopped_us: I64

    def false_rows(self) -> Rows:
        """Rows of the false alerts that count against a budget."""
        return np.flatnonzero((self.verdict == FALSE) & (self.alerts.channel != HARD))


def judge(alerts: Alerts, truth: Truth, notes: Sequence[Note] = ()) -> Judged:
    """Judges alerts by the rules above; ``notes[unit]`` is what each unit says."""
    n, spans = len(alerts), truth.spans
    rows, at = spans.match(alerts.key, alerts.ts_us, AFTERMATH_US)
    more_rows, more_at = _match_notices(alerts, truth, notes)
    rows, at = np.concatenate([rows, more_rows]), np.concatenate([at, more_at])
    in_test = (truth.test_us[0] <= alerts.ts_us) & (alerts.ts_us < truth.test_us[1])
    verdict = np.where(in_test, FALSE, OUTSIDE).astype(np.int8)
    verdict[rows] = NEUTRAL
    timely = alerts.ts_us[rows] <= spans.end_us[at] + GRACE_US
    rows, at = rows[timely], at[timely]
    first = np.full(len(truth.attacks), n, np.int64)
    np.minimum.at(first, spans.which[at], rows)
    verdict[first[first < n]] = TRUE
    stopped_us = np.full(len(spans.key), NEVER_US, np.int64)
    np.minimum.at(stopped_us, at, alerts.ts_us[rows])
    return Judged(alerts, verdict, np.where(first < n, first, -1), stopped_us)


def _match_notices(alerts: Alerts, truth: Truth, notes: Sequence[Note]) -> tuple[Rows, Rows]:
    rows, at = [], []
    for row in np.flatnonzero(alerts.key == NO_KEY).tolist():
        unit, ts_us = int(alerts.unit[row]), int(alerts.ts_us[row])
        network = notes[unit].network if unit < len(notes) else None
        for i, attack in enumerate(truth.attacks):
            fits = attack.start_us <= ts_us <= attack.end_us + AFTERMATH_US
            if fits and network in attack.networks:
                its = np.flatnonzero(truth.spans.which == i)
                rows += [row] * len(its)
                at += its.tolist()
    return np.array(rows, np.intp), np.array(at, np.intp)


def leaked(judged: Judged, truth: Truth) -> tuple[I64, I64]:
    """Requests and bytes per attack up to and including its key's first timely alert.

    A missed attack leaks all of them, and so do the keys of a campaign that no alert named.
    """
    r, spans = truth.requests, truth.spans
    width = len(truth.keys) + 1
    place = spans.which.astype(np.int64) * width + spans.key
    order = np.argsort(place)
    at = np.searchsorted(place[order], r.attack.astype(np.int64) * width + r.key)
    before = r.ts_us <= judged.stopped_us[order[at]]
    n = len(truth.attacks)
    requests = np.bincount(r.attack[before], minlength=n)
    size = np.bincount(r.attack[before], weights=r.size_bytes[before], minlength=n)
    return requests.astype(np.int64), size.astype(np.int64)


def thresholds(scored: Scored, truth: Truth, budget: Budget, notes: Sequence[Note] = ()) -> F64:
    """``float64[N_CHANNELS]``: the lowest thresholds at which false alerts keep to the budget.

    THROTTLE is silent and HARD always speaks.
    """
    out = np.array([np.inf, np.inf, np.inf, -np.inf])
    allowed = budget.per_week * truth.weeks
    parts: list[tuple[tuple[int, ...], float]] = [((STOLEN, ABUSED), allowed)]
    if budget.share_stolen is not None:
        share = budget.share_stolen
        parts = [((STOLEN,), share * allowed), ((ABUSED,), (1 - share) * allowed)]
    for channels, part in parts:
        offset = np.array([budget.offset[c] for c in channels])
        tau = lowest(scored, truth, channels, offset, _false_alerts, part, notes)
        out[list(channels)] = tau + offset
    return out


def throttle_thresholds(
    scored: Scored, truth: Truth, per_week: float, notes: Sequence[Note] = ()
) -> F64:
    """The same for THROTTLE alone, under its own budget; all other channels are silent."""
    allowed = per_week * truth.weeks
    out = np.full(N_CHANNELS, np.inf)
    out[THROTTLE] = lowest(scored, truth, (THROTTLE,), np.zeros(1), _false_alerts, allowed, notes)
    return out


def precision_at(
    scored: Scored, truth: Truth, k: int, offset: tuple[float, float], notes: Sequence[Note] = ()
) -> float | None:
    """Share of attacks' alerts among the k best of the test period, neutral ones left out.

    At the lowest common threshold with at most k of them; ``None`` if there is not one.
    """
    channels, both = (STOLEN, ABUSED), np.array(offset)
    tau = lowest(scored, truth, channels, both, _true_or_false, float(k), notes)
    at = np.full(N_CHANNELS, np.inf)
    at[list(channels)] = tau + both
    verdict = judge(scored.alerts(at), truth, notes).verdict
    true, false = int(np.sum(verdict == TRUE)), int(np.sum(verdict == FALSE))
    return true / (true + false) if true + false else None


def _false_alerts(judged: Judged) -> int:
    return len(judged.false_rows())


def _true_or_false(judged: Judged) -> int:
    return int(np.sum((judged.verdict == TRUE) | (judged.verdict == FALSE)))


def lowest(
    scored: Scored,
    truth: Truth,
    channels: Sequence[int],
    offset: F64,
    count: Callable[[Judged], int],
    allowed: float,
    notes: Sequence[Note] = (),
) -> float:
    """The lowest tau on ``score - offset`` for which ``count`` keeps to ``allowed``; else inf.

    Searched from the top down, in doubling steps and then by halves: where ``count`` is not
    monotone (a falling threshold may join two alerts of a ``Series`` into one), it is the end
    of the first stretch of thresholds from the top that keeps to it, at that resolution.
    """
    _, channel, _, score = scored.rows()
    parts = [score[channel == c] - o for c, o in zip(channels, offset, strict=True)]
    candidates = np.unique(np.concatenate(parts))

    def fits(n_kept: int) -> bool:
        at = np.full(N_CHANNELS, np.inf)
        at[list(channels)] = candidates[len(candidates) - n_kept] + offset
        return count(judge(scored.alerts(at), truth, notes)) <= allowed

    good, bad, step = 0, len(candidates) + 1, 1
    while good < len(candidates) and bad > len(candidates):
        n_kept = min(good + step, len(candidates))
        if fits(n_kept):
            good, step = n_kept, 2 * step
        else:
            bad = n_kept
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return float(candidates[len(candidates) - good]) if good else float("inf")
