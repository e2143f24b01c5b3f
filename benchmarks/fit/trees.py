"""From rows of evidence to trees, and what the trees are worth on worlds they never saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.fit.boosting import F64, Ints, Settings, boosted, table_of
from benchmarks.fit.rows import CHANNELS, Rows
from models import combination
from models.combination import FROM_NATS, Trees, trees_of

ROUNDS = 3  # rows are chosen anew with the trees of the round before (hard negatives)
KEPT = 2  # rows of a unit and channel, the highest
NATS_PER_LOG_ODDS = 2.2  # a nat of a sum is worth less than one: its parts are not independent
OFFSET = -3.6  # log odds of a sum of 0
CLEAN_WEIGHT = 0.5  # of a clean unit; an attack weighs 1
LOG_WEIGHTS = {"": 1.0, "quiet": 1.0}  # of a labelled log's units ...
THEFT_WEIGHT = 4.0  # ... and of its other thefts: real logs are few, and young
BUDGETS = (2, 10, 40)
HARD_FACT = "A17"  # found by its first request, whatever the score


def corrections(rows: Rows, trees: Trees) -> F64:
    """Of each row, nats; the same as ``combination.together``, for many rows at once."""
    total = np.zeros(len(rows.total))
    for channel in range(CHANNELS):
        at = np.flatnonzero((rows.channel == channel) & (rows.total >= FROM_NATS))
        x, made = rows.x[at], np.zeros(len(at))
        for feature, above, nats in zip(*(part[channel] for part in trees), strict=True):
            made += nats[(x[:, feature] > above) @ np.array([4, 2, 1])]
        total[at] = made.clip(combination.CORRECTION_MIN, combination.CORRECTION_MAX)
    return total


def _chosen(rows: Rows, score: F64) -> tuple[Ints, F64]:
    """The highest rows of each unit and channel, and the share of the unit each stands for."""
    group = rows.unit * CHANNELS + rows.channel
    order = np.lexsort((-score, group))
    rank = np.arange(len(order)) - np.searchsorted(group[order], group[order])
    at = order[(rank < KEPT) & (rows.total[order] >= FROM_NATS)]
    _, inverse, count = np.unique(rows.unit[at], return_inverse=True, return_counts=True)
    return at, 1.0 / count[inverse]


def _weights(rows: Rows, at: Ints) -> F64:
    if rows.weeks:
        return np.where(rows.kind[at] == "", CLEAN_WEIGHT, 1.0)
    return np.array([LOG_WEIGHTS.get(str(kind), THEFT_WEIGHT) for kind in rows.kind[at]])


def fitted(worlds: Sequence[Rows], settings: Settings) -> dict[str, list[Any]]:
    """The table of ``combination.json``."""
    table: dict[str, list[Any]] = {}
    trees = combination.NONE
    for _ in range(ROUNDS):
        picked = [(w, *_chosen(w, w.total + corrections(w, trees))) for w in worlds]
        x = np.concatenate([w.x[at] for w, at, _ in picked])
        is_attack = np.concatenate([w.kind[at] != "" for w, at, _ in picked])
        weight = np.concatenate([share * _weights(w, at) for w, at, share in picked])
        total = np.concatenate([w.total[at] for w, at, _ in picked])
        channel = np.concatenate([w.channel[at] for w, at, _ in picked])
        log_odds = total / NATS_PER_LOG_ODDS + OFFSET
        for number, name in enumerate(combination.CHANNELS):
            of = channel == number
            made = boosted(x[of], is_attack[of], weight[of], log_odds[of], settings)
            table[name] = table_of(made, NATS_PER_LOG_ODDS)
        trees = trees_of(table)
    return table


def recall(world: Rows, score: F64) -> list[tuple[float, float]]:
    """Macro recall and mean share leaked, at each of ``BUDGETS`` false alerts a week.

    A unit counts by its highest row: what a key-day or an attack would have alerted at. What
    leaked is the share of requests by the first row that would; of a missed attack all.
    """
    first = np.flatnonzero(np.diff(world.unit, prepend=-1))
    best, kind = np.maximum.reduceat(score, first), world.kind[first]
    clean = np.sort(best[kind == ""])[::-1]
    scenarios = sorted(set(kind.tolist()) - {""})
    unit = np.repeat(np.arange(len(first)), np.diff(first, append=len(score)))
    is_attack, is_counted = world.kind != "", (kind != "") & (kind != HARD_FACT)
    rows_leaked = world.leaked
    found = []
    for budget in BUDGETS:
        limit = clean[min(len(clean) - 1, max(1, int(budget * world.weeks)))]
        shares = [
            1.0 if s == HARD_FACT else float((best[kind == s] > limit).mean()) for s in scenarios
        ]
        leaked = np.ones(int(unit[-1]) + 1)
        alerts = np.flatnonzero((score > limit) & is_attack)
        np.minimum.at(leaked, unit[alerts], rows_leaked[alerts])
        found.append((float(np.mean(shares)), float(leaked[is_counted].mean())))
    return found


def ranked(log: Rows, score: F64) -> dict[tuple[str, float], int]:
    """Thefts of a labelled log by kind with at most 5 % and 2 % of the clean keys above them."""
    first = np.flatnonzero(np.diff(log.unit, prepend=-1))
    best, kind = np.maximum.reduceat(score, first), log.kind[first]
    clean = np.sort(best[kind == ""])[::-1]
    thefts = sorted(set(kind.tolist()) - {""})
    above = {q: clean[int(q * len(clean))] for q in (0.05, 0.02)}
    return {(k, q): int((best[kind == k] > above[q]).sum()) for k in thefts for q in above}
