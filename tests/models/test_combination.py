"""The trees' correction: bounded, the same for one row as for many, and shipped whole."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fit.boosting import Settings, boosted, table_of
from benchmarks.fit.rows import Rows
from benchmarks.fit.trees import corrections
from models.combination import (
    CHANNELS,
    CORRECTION_MAX,
    CORRECTION_MIN,
    DEPTH,
    FEATURES,
    FROM_NATS,
    N_FEATURES,
    NONE,
    corrected,
    shipped,
    together,
    trees_of,
)
from models.fusion import N_FAMILIES

RNG = np.random.default_rng(5)
X = (RNG.exponential(4.0, (400, N_FEATURES)) * (RNG.random((400, N_FEATURES)) < 0.5)).astype("f4")


def rows_of(x, total, channel) -> Rows:
    units = np.arange(len(x))
    none = np.zeros(len(x), np.float32)
    return Rows(x, total, channel, units, np.full(len(x), ""), none, 1.0)


def test_many_rows_at_once_get_what_the_fold_gives_each():
    """The fit's corrections are the fold's, to the last bit of a nat that counts."""
    total, channel = RNG.uniform(FROM_NATS, 20.0, len(X)), RNG.integers(0, 2, len(X))
    found = corrections(rows_of(X, total, channel), shipped())
    expected = [together(x, shipped(), c) for x, c in zip(X, channel, strict=True)]
    assert found == pytest.approx(expected, abs=1e-9)
    assert len(set(np.round(found, 6))) > 100


def test_a_low_sum_stays_as_it_is():
    """Trees were made from higher ones, and say nothing of what is not suspicious at all."""
    low = np.nextafter(FROM_NATS, 0.0)
    assert [corrected(low, 0.0, x, shipped(), 0) for x in X] == [low] * len(X)
    assert any(corrected(FROM_NATS, 0.0, x, shipped(), 0) != FROM_NATS for x in X)


def test_a_correction_is_bounded_and_a_score_never_negative():
    """However many trees agree."""
    shape = 2, 50, DEPTH
    heavy = trees_of({c: [[[["known", 0.5]] * DEPTH, [-9.0] * 7 + [9.0]]] * 50 for c in CHANNELS})
    assert heavy.feature.shape == shape
    yes, no = np.ones(N_FEATURES), np.zeros(N_FEATURES)
    assert (together(yes, heavy, 0), together(no, heavy, 1)) == (CORRECTION_MAX, CORRECTION_MIN)
    assert (corrected(3.0, 0.0, no, heavy, 0), corrected(3.0, 0.0, yes, NONE, 0)) == (0.0, 3.0)
    assert corrected(3.0, 2.5, no, heavy, 0) == 2.5, "a drift of weeks stays"


def test_the_shipped_trees_ask_about_what_the_fold_knows():
    """As many for both channels, each feature known, no single answer worth more than 3 nats."""
    trees = shipped()
    assert trees.feature.shape[0] == len(CHANNELS)
    assert trees.feature.shape[1] >= 50
    assert 0 <= trees.feature.min() <= trees.feature.max() < len(FEATURES)
    assert np.isfinite(trees.above).all()
    assert np.abs(trees.nats).max() < 3.0


@pytest.mark.parametrize(
    "trees",
    [
        [[[["new_netwrok", 1.0]] * DEPTH, [0.0] * 8]],
        [[[["known", 1.0]] * 2, [0.0] * 8]],
        [[[["known", 1.0]] * DEPTH, [0.0] * 7]],
    ],
)
def test_a_damaged_table_is_refused(trees):
    """A name that is none, a question or an answer too few."""
    with pytest.raises((KeyError, ValueError)):
        trees_of(dict.fromkeys(CHANNELS, trees))


@pytest.mark.parametrize("channel", range(2))
def test_more_evidence_never_scores_less(channel):
    """Raise any family's evidence in any row, and the correction does not fall."""
    before = np.array([together(x, shipped(), channel) for x in X[:100]])
    for family in range(N_FAMILIES):
        more = X[:100].copy()
        more[:, family] += RNG.exponential(4.0, 100).astype("f4")
        after = np.array([together(x, shipped(), channel) for x in more])
        assert (after >= before - 1e-9).all(), FEATURES[family]


def test_a_sign_that_seems_to_soothe_is_not_believed():
    """Evidence taught by rows in which it is the rarer the worse: no tree answers less for it."""
    x = RNG.random((2000, N_FEATURES)).astype(np.float32)
    worse = (x[:, 0] < 0.5) & (x[:, N_FAMILIES] > 0.5)
    trees = boosted(x, worse, np.ones(len(x)), np.zeros(len(x)), Settings(trees=30))
    table = trees_of({channel: table_of(trees, 1.0) for channel in CHANNELS})
    total, channel = np.full(len(x), 5.0), np.zeros(len(x), np.int64)
    found = corrections(rows_of(x, total, channel), table)
    more = x.copy()
    more[:, 0] += 1.0
    assert (corrections(rows_of(more, total, channel), table) >= found - 1e-9).all()
    assert np.corrcoef(found, x[:, N_FAMILIES])[0, 1] > 0.5, "what is around it still counts"


def test_boosting_finds_what_a_sum_cannot_say():
    """A sign that means something only in one kind of key, on rows it has not seen."""

    def made(n: int, seed: int):
        rng = np.random.default_rng(seed)
        x = rng.random((n, N_FEATURES)).astype(np.float32)
        return x, (x[:, 0] > 0.5) & (x[:, N_FAMILIES] < 0.5)

    x, truth = made(4000, 1)
    trees = boosted(x, truth, np.ones(len(x)), np.zeros(len(x)), Settings(trees=30, rate=0.3))
    table = {channel: table_of(trees, 1.0) for channel in CHANNELS}
    x, truth = made(1000, 2)
    found = corrections(
        rows_of(x, np.full(len(x), 5.0), np.zeros(len(x), np.int64)), trees_of(table)
    )
    assert ((found > 0) == truth).mean() > 0.95
