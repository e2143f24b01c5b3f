"""The result of one method on one world: what is stored, and everything a table shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.clock import DAY_US
from replay.evaluation.judge import (
    FALSE,
    GRACE_US,
    Budget,
    Judged,
    judge,
    leaked,
    precision_at,
    thresholds,
    throttle_thresholds,
)
from replay.evaluation.points import (
    ABUSED,
    CHANNEL_NAMES,
    F64,
    NO_KEY,
    THROTTLE,
    Alerts,
    Note,
    Scored,
)
from replay.evaluation.truth import Truth
from replay.simulate.world_settings import Attack

FORMAT = 1
BUDGETS = (2.0, 10.0, 40.0)
THROTTLE_PER_WEEK = 100.0
PRECISION_AT = (10, 50)
TOP_REASONS = 2
HAPPENING_AFTER_US = DAY_US


@dataclass(frozen=True, slots=True)
class AttackRow:
    """One attack, whoever was to find it."""

    scenario: str
    keys: int
    start_us: int
    end_us: int
    rate_ratio: float
    requests: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attack. ``caught_us`` is ``None`` for a missed one.

    ``cause``: one of the top reasons names a cause of the attack. ``network``: the named
    actor's network is the attacker's, ``None`` where no actor is named.
    """

    caught_us: int | None
    channel: str | None
    requests: int
    size_bytes: int
    cause: bool | None
    network: bool | None


@dataclass(frozen=True, slots=True)
class FalseAlert:
    """An alert without an attack; ``happenings`` are the benign scenarios it falls on."""

    ts_us: int
    key: str
    key_class: str
    channel: str
    happenings: list[str]
    signals: list[str]


@dataclass(frozen=True, slots=True)
class AtBudget:
    """Outcomes, in the order of ``Result.attacks``, and false alerts under one rule.

    ``thresholds`` by channel, ``None`` = the channel is silent (or, for facts, always speaks).
    """

    per_week: float
    thresholds: list[float | None]
    outcomes: list[Outcome]
    false_alerts: list[FalseAlert]


@dataclass(frozen=True, slots=True)
class Result:
    """One method on one world.

    ``code`` is a hash of the sources that made it, ``start_us`` the start of the test period of
    ``weeks``. ``throttle`` is the third channel under a budget of its own; ``online`` are the
    alerts really raised, by stated budget. ``best_scores`` are those of ``best_scores``, in the
    order of ``attacks``.
    """

    method: str
    seed: int
    world: dict[str, Any]
    code: str
    weeks: float
    start_us: int
    events: int
    elapsed_s: float
    classes: dict[str, int]
    happenings: dict[str, int]
    attacks: list[AttackRow]
    budgets: list[AtBudget]
    throttle: AtBudget | None = None
    online: list[AtBudget] = field(default_factory=list)
    precision: dict[str, float | None] = field(default_factory=dict)
    best_scores: list[float | None] = field(default_factory=list)
    format: int = FORMAT
    feedback_days: float = 0.0  # after which ``online`` alerts were answered; 0 = never


@dataclass(frozen=True, slots=True)
class Answer:
    """All a method has to say about a world; ``online`` by its stated budget per week."""

    scored: Scored
    notes: Sequence[Note] = ()
    online: Mapping[float, tuple[Alerts, Sequence[Note]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rules:
    """How budgets become thresholds; see ``judge.Budget``."""

    budgets: tuple[float, ...] = BUDGETS
    share_stolen: float | None = None
    offset: tuple[float, float] = (0.0, 0.0)
    throttle_per_week: float = THROTTLE_PER_WEEK


@dataclass(frozen=True, slots=True)
class About:
    """Whose answer it is and to what."""

    method: str
    seed: int
    world: dict[str, Any]
    code: str
    events: int
    elapsed_s: float
    feedback_days: float = 0.0


def result_of(about: About, answer: Answer, truth: Truth, rules: Rules) -> Result:
    """Judges one answer under every budget."""
    scored, notes = answer.scored, answer.notes
    at_budgets = []
    for per_week in rules.budgets:
        budget = Budget(per_week, rules.share_stolen, rules.offset)
        at = thresholds(scored, truth, budget, notes)
        at_budgets.append(_at_budget(per_week, at, scored.alerts(at), truth, notes))
    throttle = None
    if np.any(scored.rows()[1] == THROTTLE):
        at = throttle_thresholds(scored, truth, rules.throttle_per_week, notes)
        throttle = _at_budget(rules.throttle_per_week, at, scored.alerts(at), truth, notes)
    silent = np.full(len(CHANNEL_NAMES), np.inf)
    return Result(
        method=about.method,
        seed=about.seed,
        world=about.world,
        code=about.code,
        weeks=truth.weeks,
        start_us=truth.test_us[0],
        events=about.events,
        elapsed_s=about.elapsed_s,
        feedback_days=about.feedback_days,
        classes=_counts(truth.class_of),
        happenings=_counts(h.scenario for h in truth.happenings if h.end_us >= truth.test_us[0]),
        attacks=_attack_rows(truth),
        budgets=at_budgets,
        throttle=throttle,
        online=[
            _at_budget(n, silent, alerts, truth, said)
            for n, (alerts, said) in answer.online.items()
        ],
        precision={
            str(k): precision_at(scored, truth, k, rules.offset, notes) for k in PRECISION_AT
        },
        best_scores=best_scores(scored, truth, rules.offset),
    )


def best_scores(scored: Scored, truth: Truth, offset: tuple[float, float]) -> list[float | None]:
    """The highest ``score - offset`` of STOLEN and ABUSED in each attack's time, if any."""
    key, channel, ts_us, score = scored.rows()
    kept = np.flatnonzero(channel <= ABUSED)
    rows, at = truth.spans.match(key[kept], ts_us[kept], GRACE_US)
    rows = kept[rows]
    best = np.full(len(truth.attacks), -np.inf)
    np.maximum.at(best, truth.spans.which[at], score[rows] - np.array(offset)[channel[rows]])
    return [None if b == -np.inf else round(b, 3) for b in best.tolist()]


def _at_budget(
    per_week: float, at: F64, alerts: Alerts, truth: Truth, notes: Sequence[Note]
) -> AtBudget:
    judged = judge(alerts, truth, notes)
    return AtBudget(
        per_week=per_week,
        thresholds=[round(x, 6) if np.isfinite(x) else None for x in at.tolist()],
        outcomes=_outcomes(judged, truth, notes),
        false_alerts=_false_alerts(judged, truth, notes),
    )


def _outcomes(judged: Judged, truth: Truth, notes: Sequence[Note]) -> list[Outcome]:
    requests, size_bytes = leaked(judged, truth)
    leaks = zip(judged.caught.tolist(), requests.tolist(), size_bytes.tolist(), strict=True)
    outcomes = []
    for attack, (row, n, size) in zip(truth.attacks, leaks, strict=True):
        if row < 0:
            outcomes.append(Outcome(None, None, n, size, None, None))
            continue
        alerts = judged.alerts
        cause, network = _explained(_note(notes, int(alerts.unit[row])), attack)
        outcomes.append(
            Outcome(
                caught_us=int(alerts.ts_us[row]),
                channel=CHANNEL_NAMES[int(alerts.channel[row])],
                requests=n,
                size_bytes=size,
                cause=cause,
                network=network,
            )
        )
    return outcomes


def _explained(note: Note | None, attack: Attack) -> tuple[bool | None, bool | None]:
    if note is None:
        return None, None
    cause = any(signal in attack.causes for signal in note.signals[:TOP_REASONS])
    return cause, note.network in attack.networks if note.network is not None else None


def _false_alerts(judged: Judged, truth: Truth, notes: Sequence[Note]) -> list[FalseAlert]:
    """All of them; those of the channel ``hard`` are outside the budget."""
    rows, alerts = np.flatnonzero(judged.verdict == FALSE), judged.alerts
    spans = truth.happening_spans
    of, at = spans.match(alerts.key[rows], alerts.ts_us[rows], HAPPENING_AFTER_US)
    on: list[set[str]] = [set() for _ in rows]
    for i, span in zip(of.tolist(), at.tolist(), strict=True):
        on[i].add(truth.happenings[int(spans.which[span])].scenario)
    return [
        _false_alert(
            alerts, int(row), truth, sorted(scenarios), _note(notes, int(alerts.unit[row]))
        )
        for row, scenarios in zip(rows, on, strict=True)
    ]


def _false_alert(
    alerts: Alerts, row: int, truth: Truth, scenarios: list[str], note: Note | None
) -> FalseAlert:
    key = int(alerts.key[row])
    return FalseAlert(
        ts_us=int(alerts.ts_us[row]),
        key="*" if key == NO_KEY else truth.keys[key],
        key_class="*" if key == NO_KEY else truth.class_of[key],
        channel=CHANNEL_NAMES[int(alerts.channel[row])],
        happenings=scenarios,
        signals=list(note.signals[:TOP_REASONS]) if note else [],
    )


def _note(notes: Sequence[Note], unit: int) -> Note | None:
    return notes[unit] if unit < len(notes) else None


def _attack_rows(truth: Truth) -> list[AttackRow]:
    n, r = len(truth.attacks), truth.requests
    count = np.bincount(r.attack, minlength=n).tolist()
    size = np.bincount(r.attack, weights=r.size_bytes, minlength=n).tolist()
    return [
        AttackRow(
            scenario=a.scenario,
            keys=len(a.keys),
            start_us=a.start_us,
            end_us=a.end_us,
            rate_ratio=a.rate_ratio,
            requests=count[i],
            size_bytes=int(size[i]),
        )
        for i, a in enumerate(truth.attacks)
    ]


def _counts(names: Iterable[str]) -> dict[str, int]:
    counted = Counter(names)
    return {name: counted[name] for name in sorted(counted)}
