"""Rivals from the shelf: River's anomaly detectors and the robust random cut forest."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from river import anomaly

from models.clock import CELL_US, CELLS_PER_HOUR
from replay.evaluation.points import F64, Series
from replay.evaluation.rivals.forest import displacements, make_tree
from replay.evaluation.rivals.volume import sigmas
from replay.evaluation.rivals.windows import WindowTable

HOUR_US = CELLS_PER_HOUR * CELL_US

GAUSSIAN_WINDOW_HOURS, GAUSSIAN_GRACE_HOURS = 336, 100
GAUSSIAN_SIGMA_MIN = 0.3  # requests
GAUSSIAN_FLOOR = 3.0  # sigma

HST_TREES, HST_HEIGHT, HST_WINDOW = 25, 12, 20_000
HST_LEARN_EVERY = 4
HST_SEED = 7
HST_FEATURES = ("count", "errors", "new_networks", "new_clients", "new_routes")
HST_SIGMA_MIN, HST_RANGE = 0.3, 3.5  # the latter is log(1 + 32 sigma)
HST_SIGMA_FLOOR = 1.0

RRCF_TREES, RRCF_SIZE, RRCF_SHINGLE = 40, 1024, 4
RRCF_FEATURES = ("count", "new_networks", "new_clients", "new_routes")
RRCF_SEED = 7
RRCF_HOURS_MIN = 96
RRCF_FLOOR = 3.0  # deviations


def gaussian_scorer(table: WindowTable) -> Series:
    """Sigmas above the mean by River's ``anomaly.GaussianScorer``, one per key, hourly counts.

    Silent hours are zeros. ``score_one`` is 2 Phi(|z|) - 1, which is exactly 1 beyond some 8
    sigma; z itself, from the scorer's own ``gaussian``, ranks likewise and goes on. Only hours
    above the mean, from 3 sigma on. Where rounding makes the variance of a window negative,
    sigma is complex and ``score_one`` fails (river#732): it counts as 0 here. Tuned: a window
    of 14 days (of 7, 14 and all), counts rather than their logs, sigma at least 0.3 requests
    (a key that made the same number every hour scores 1 in River whatever it does next). River's
    default grace period of 100.
    """
    rows: list[tuple[int, int, float]] = []
    for number, first_hour, counts in table.hours(("count",)):
        scorer = anomaly.GaussianScorer(GAUSSIAN_WINDOW_HOURS, GAUSSIAN_GRACE_HOURS)
        usual = scorer.gaussian
        for hour, count in enumerate(counts[:, 0].tolist(), first_hour + 1):
            if count and usual.n_samples >= scorer.grace_period:
                sigma = usual.sigma
                sigma = 0.0 if isinstance(sigma, complex) else sigma
                z = (count - usual.mu) / max(sigma, GAUSSIAN_SIGMA_MIN)
                if z > GAUSSIAN_FLOOR:
                    rows.append((number, hour * HOUR_US, z))
            scorer.learn_one(None, count)
    return _series(rows)


def half_space_trees(table: WindowTable) -> Series:
    """River's ``anomaly.HalfSpaceTrees``, one model of the fleet, windows of 15 minutes.

    Features are residuals, for raw counts only tell busy keys from others: ``volume.sigmas`` of
    the numbers of requests, 4xx answers, and first-seen networks, clients and routes; negative
    ones as 0, log(1 + sigma), scaled to [0, 1]. In order of time, first scored, then learned.
    A sample, because a window costs some 30 microseconds each way: scored is every window with
    some sigma above 1 (a third of them; the others score 0), learned every fourth. Learning all
    of them took three times as long and found no more. Tuned: 25 trees as in Tan, Ting and Liu
    (IJCAI 2011), height 12 (theirs is 15; of 8 to 15), 20,000 learned windows at a time (theirs
    of 250 would be minutes of a fleet's life; of 5,000 to 50,000), sigma at least 0.3.
    """
    z = np.stack([sigmas(table, f, HST_SIGMA_MIN) for f in HST_FEATURES], axis=1)
    x = np.minimum(np.log1p(np.maximum(z, 0)) / HST_RANGE, 1)
    told = np.any(z > HST_SIGMA_FLOOR, axis=1)
    model = anomaly.HalfSpaceTrees(HST_TREES, HST_HEIGHT, HST_WINDOW, seed=HST_SEED)
    score = np.zeros(len(x))
    in_time = np.lexsort((table.windows["key"], table.windows["cell"]))
    for n, i in enumerate(in_time.tolist()):
        learns = n % HST_LEARN_EVERY == 0
        if told[i] or learns:
            features = dict(zip(HST_FEATURES, x[i].tolist(), strict=True))
            score[i] = model.score_one(features) if told[i] else 0.0
            if learns:
                model.learn_one(features)
    return table.series(score, 0)


def random_cut_forest(table: WindowTable) -> Series:
    """Collusive displacement in a robust random cut forest per key, in its usual deviations.

    Hourly log(1 + number) of requests and of first-seen networks, clients and routes, shingles
    of 4 hours, silent hours too; 40 trees, as in the examples of ``rrcf``. All keys. The score
    of an hour, the mean of its trees' collusive displacements, is taken relative to mean and
    deviation of the key's earlier scores, as OpenSearch's thresholder does, from the fifth day
    on, in hours with more requests than the key's mean so far, from 3 deviations on. Tuned:
    trees of 1024 points (of 256, 512, 1024), shingles of 4 hours (of 1, 2, 4), these features
    (of 1, 3, 4, 5), and the relative score.
    """
    streams = list(table.hours(RRCF_FEATURES))
    points = [_shingles(np.log1p(numbers)) for _, _, numbers in streams]
    start = np.cumsum([0, *(len(p) for p in points)])
    score = np.zeros(start[-1])
    room = make_tree(RRCF_SIZE, RRCF_SHINGLE * len(RRCF_FEATURES))
    displacements(room, np.concatenate(points), start, RRCF_TREES, RRCF_SEED, score)
    rows: list[tuple[int, int, float]] = []
    for (number, first_hour, numbers), at in zip(streams, start.tolist(), strict=False):
        counts = numbers[:, 0].astype(np.float64)
        off = _deviations(score[at : at + len(counts)])
        told = (off > RRCF_FLOOR) & (counts > _mean_so_far(counts))
        told[:RRCF_HOURS_MIN] = False
        rows += [
            (number, (first_hour + i + 1) * HOUR_US, float(off[i]))
            for i in np.flatnonzero(told).tolist()
        ]
    return _series(rows)


def _deviations(score: F64) -> F64:
    """How far each score is above the mean of all earlier ones, in their deviations (>= 1)."""
    mean, square = _mean_so_far(score), _mean_so_far(score * score)
    deviation = np.sqrt(np.maximum(square - mean * mean, 1.0))
    off = np.zeros(len(score))
    off[1:] = (score[1:] - mean[:-1]) / deviation[:-1]
    return off


def _mean_so_far(values: F64) -> F64:
    return np.cumsum(values) / np.arange(1, len(values) + 1)


def _shingles(values: F64) -> F64:
    """Each row with those just before it, 0 before the first; ``float64[n, shingle x d]``."""
    padded = np.concatenate([np.zeros((RRCF_SHINGLE - 1, values.shape[1])), values])
    return sliding_window_view(padded, RRCF_SHINGLE, axis=0).reshape(len(values), -1)


def _series(rows: list[tuple[int, int, float]]) -> Series:
    key, ts_us, score = zip(*rows, strict=True) if rows else ((), (), ())
    return Series(np.array(key, np.int32), np.array(ts_us, np.int64), np.array(score, np.float64))
