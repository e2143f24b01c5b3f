"""Judging episodes and alerts against labels: pure functions over the output files' records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay.labels import Label, time_us

# These kinds take a donor's own later requests away, so the donor falls silent: judged neither way.
SILENT_DONOR_KINDS = frozenset({"same", "quiet"})
CLEAN_ABOVE_SHARE, CLEAN_ABOVE_STRICT = 0.05, 0.02
GRACE_S = 3600.0

Records = Iterable[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well peak scores put victims above clean keys.

    ``found`` and ``victims`` count by kind. ``clean_keys`` are those compared with, at most
    ``clean_above_max`` of which may rank above a victim that counts as found; ``found_strict``
    counts those with at most 2 % of the clean keys above. ``ranks`` has,
    per victim and kind, how many clean keys rank at or above it.
    """

    found: dict[str, int]
    victims: dict[str, int]
    clean_keys: int
    clean_above_max: int
    found_strict: dict[str, int]
    ranks: dict[tuple[str, str], int]


def peak_scores(episodes: Records, channel: str | None = None) -> dict[str, float]:
    """The highest score of each key, over all channels or of one.

    >>> peak_scores([{"key": "a", "channel": "stolen", "score": 2.0},
    ...              {"key": "a", "channel": "abused", "score": 5.0}])
    {'a': 5.0}
    """
    peaks: dict[str, float] = {}
    for episode in episodes:
        if channel is None or episode["channel"] == channel:
            key = episode["key"]
            peaks[key] = max(peaks.get(key, 0.0), float(episode["score"]))
    return peaks


def rank_keys(
    episodes: Records,
    requests_per_key: Mapping[str, int],
    labels: Sequence[Label],
    min_requests: int = 60,
    channel: str | None = None,
) -> Ranking:
    """Victims found by kind with at most 5 % of the clean keys at or above them.

    A clean key has no label, is no silenced donor, and made at least ``min_requests`` requests;
    a key without an episode scores 0. A victim without an episode is not found; one that
    ties with a clean key ranks below it.

    >>> episodes = [{"key": k, "channel": "stolen", "score": s} for k, s in
    ...             (("victim", 9.0), ("c1", 10.0), ("c2", 3.0), ("hidden", 2.0))]
    >>> requests = {f"c{i}": 100 for i in range(20)} | {"victim": 80, "hidden": 80, "few": 3}
    >>> labels = [Label("victim", "cross", 0, 1, 5), Label("hidden", "cross", 0, 1, 5)]
    >>> ranking = rank_keys(episodes, requests, labels)
    >>> ranking.found, ranking.victims, ranking.clean_keys, ranking.clean_above_max
    ({'cross': 1}, {'cross': 2}, 20, 1)
    """
    peaks = peak_scores(episodes, channel)
    attacked = {label.key for label in labels}
    silent = {label.donor for label in labels if label.kind in SILENT_DONOR_KINDS}
    busy = (k for k, n in requests_per_key.items() if n >= min_requests)
    clean = [k for k in busy if k not in attacked and k not in silent]
    scores = np.sort(np.array([peaks.get(k, 0.0) for k in clean]))
    above_max = int(CLEAN_ABOVE_SHARE * len(clean) + 1e-9)
    strict_max = int(CLEAN_ABOVE_STRICT * len(clean) + 1e-9)
    found: dict[str, int] = {}
    strict: dict[str, int] = {}
    victims: dict[str, int] = {}
    ranks: dict[tuple[str, str], int] = {}
    for label in labels:
        score = peaks.get(label.key, 0.0)
        rank = len(scores) - int(np.searchsorted(scores, score, side="left"))
        victims[label.kind] = victims.get(label.kind, 0) + 1
        ranks[label.key, label.kind] = rank
        hit = score > 0 and rank <= above_max
        found[label.kind] = found.get(label.kind, 0) + int(hit)
        strict[label.kind] = strict.get(label.kind, 0) + int(hit and rank <= strict_max)
    return Ranking(found, victims, len(clean), above_max, strict, ranks)


@dataclass(frozen=True, slots=True)
class AttackResult:
    """One labelled attack and the first alert that names its key in time.

    ``leaked`` is the number of its requests up to and including the alerting one; all of them
    when it was missed.
    """

    label: Label
    alert: Mapping[str, Any] | None
    leaked: int

    @property
    def caught(self) -> bool:
        """True when an alert came in time."""
        return self.alert is not None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All attacks, and the alerts that belong to none."""

    attacks: list[AttackResult]
    false_alerts: list[Mapping[str, Any]]

    @property
    def caught(self) -> int:
        """Number of attacks caught."""
        return sum(a.caught for a in self.attacks)


def judge_alerts(alerts: Records, labels: Sequence[Label], grace_s: float = GRACE_S) -> Evaluation:
    """Attacks caught, requests leaked before the alert, false alerts.

    An alert belongs to an attack on its key when it fires between the attack's first request
    and ``grace_s`` seconds after its last. Where a label has no request times, ``leaked`` is
    what the alert itself says, within the label's number.

    >>> label = Label("a", "scraper", 0, 60_000_000, 100, times_us=np.arange(100) * 600_000)
    >>> alert = {"key": "a", "alerted_at": "1970-01-01T00:00:30Z", "requests_leaked": 7}
    >>> result = judge_alerts([alert, alert | {"key": "b"}], [label])
    >>> result.caught, result.attacks[0].leaked, [a["key"] for a in result.false_alerts]
    (1, 51, ['b'])
    """
    timed = sorted(((time_us(str(a["alerted_at"])), a) for a in alerts), key=lambda p: p[0])
    used: set[int] = set()
    results = []
    for label in labels:
        last_us = label.end_us + int(grace_s * 1e6)
        mine = [
            (i, at_us)
            for i, (at_us, alert) in enumerate(timed)
            if alert["key"] == label.key and label.start_us <= at_us <= last_us
        ]
        used.update(i for i, _ in mine)
        if not mine:
            results.append(AttackResult(label, None, label.requests))
            continue
        i, at_us = mine[0]
        results.append(AttackResult(label, timed[i][1], _leaked(label, timed[i][1], at_us)))
    return Evaluation(results, [a for i, (_, a) in enumerate(timed) if i not in used])


def _leaked(label: Label, alert: Mapping[str, Any], at_us: int) -> int:
    if label.times_us is not None:
        return int(np.searchsorted(label.times_us, at_us, side="right"))
    return min(int(alert.get("requests_leaked", 0)), label.requests)
