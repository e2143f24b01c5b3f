"""Gradient boosting of oblivious trees on top of a given score, in NumPy.

Sources: Friedman 2001; leaf values and gains with second derivatives as in XGBoost (Chen and
Guestrin 2016); one question for all nodes of a level as in CatBoost (Prokhorenkova 2018).
More evidence of a family never lowers a tree's answer: of two leaves that differ only in such a
question, the pair that is out of order is pooled, as in isotonic regression. Libraries for it
exist, but none writes monotone oblivious trees over a fixed offset, and this is a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.combination import DEPTH, FEATURES
from models.fusion import N_FAMILIES

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CUTS, TOP_CUTS = 23, 11  # questions tried of a feature: its quantiles, and those of what is not 0
CUT_DIGITS = 3  # significant digits of a question
POOLINGS = 12  # passes over a tree's rising levels; two or three are enough for eight leaves

Tree = tuple[list[tuple[int, float]], list[float]]  # (feature, above) by level; nats by answers


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the boosting. ``pull`` shrinks a leaf as so many rows of weight 4 that say nothing."""

    trees: int = 300
    rate: float = 0.3
    pull: float = 10.0
    features: float = 0.5  # share tried for each tree
    rows: float = 0.8  # share that teaches each tree


def cuts_of(values: npt.NDArray[np.float32]) -> F64:
    """Questions worth asking of a feature, ascending."""
    shares = np.linspace(0.0, 1.0, CUTS + 2)[1:-1]
    cuts = [np.quantile(values, shares)]
    raised = values[values > values.min()]
    if len(raised):
        cuts.append(np.quantile(raised, np.linspace(0.0, 1.0, TOP_CUTS + 2)[1:-1]))
    rounded = [float(f"{cut:.{CUT_DIGITS}g}") for cut in np.concatenate(cuts)]
    return np.unique(np.array(rounded, np.float32)).astype(np.float64)


class _Feature:
    """A feature's questions, and between which of them each row lies."""

    def __init__(self, values: npt.NDArray[np.float32]) -> None:
        self.cuts = cuts_of(values)
        self.bin = np.searchsorted(self.cuts, values.astype(np.float64), side="left")

    def gains(
        self, leaf: Ints, leaves: int, slope: F64, curve: F64, pull: float, rising: list[int]
    ) -> F64:
        """What each question would bring, asked of all leaves at once."""
        width = len(self.cuts) + 1
        cell = leaf * width + self.bin
        shape = leaves, width
        g = np.bincount(cell, slope, leaves * width).reshape(shape)
        h = np.bincount(cell, curve, leaves * width).reshape(shape)
        g_no, h_no = g.cumsum(axis=1)[:, :-1], h.cumsum(axis=1)[:, :-1]
        g = np.stack([g_no, g.sum(axis=1)[:, None] - g_no], axis=1).reshape(2 * leaves, -1).T
        h = np.stack([h_no, h.sum(axis=1)[:, None] - h_no], axis=1).reshape(2 * leaves, -1).T
        value = pooled(g / (h + pull), h + pull, rising)
        gain: F64 = (2.0 * g * value - (h + pull) * value**2).sum(axis=1)
        return gain


def pooled(value: F64, weight: F64, rising: list[int]) -> F64:
    """Leaves of which none falls where the answer at a rising level becomes yes.

    ``value``, ``weight``: float64[..., 2 ** levels], the first level's answer as the highest bit.

    >>> pooled(np.array([3.0, 1.0, 0.0, 5.0]), np.ones(4), [0])
    array([1.5, 1. , 1.5, 5. ])
    """
    levels = value.shape[-1].bit_length() - 1
    for _ in range(POOLINGS):
        before = value
        for level in rising:
            shape = *value.shape[:-1], 1 << level, 2, 1 << (levels - level - 1)
            v, w = value.reshape(shape), weight.reshape(shape)
            mean = (v * w).sum(axis=-2, keepdims=True) / w.sum(axis=-2, keepdims=True)
            falls = v[..., :1, :] > v[..., 1:, :]
            value = np.where(falls, mean, v).reshape(value.shape)
        if (value == before).all():
            break
    return value


def boosted(
    x: npt.NDArray[np.float32], is_attack: Any, weight: F64, log_odds: F64, settings: Settings
) -> list[Tree]:
    """Trees that correct the log odds a row is given; their leaves are log odds too."""
    rng = np.random.default_rng(0)
    features = [_Feature(x[:, j]) for j in range(x.shape[1])]
    log_odds, trees = log_odds.copy(), []
    for _ in range(settings.trees):
        taught = weight * (rng.random(len(x)) < settings.rows)
        p = 1.0 / (1.0 + np.exp(-log_odds))
        slope, curve = taught * (is_attack - p), taught * p * (1.0 - p)
        n = max(1, round(settings.features * len(features)))
        tried = rng.choice(len(features), n, replace=False).tolist()
        asked, leaf = _questions(features, tried, slope, curve, settings.pull)
        h = np.bincount(leaf, curve, 1 << DEPTH) + settings.pull
        value = np.bincount(leaf, slope, 1 << DEPTH) / h
        rising = [level for level, (j, _) in enumerate(asked) if j < N_FAMILIES]
        leaves = settings.rate * pooled(value, h, rising)
        log_odds += leaves[leaf]
        trees.append((asked, leaves.tolist()))
    return trees


def _questions(
    features: list[_Feature], tried: list[int], slope: F64, curve: F64, pull: float
) -> tuple[list[tuple[int, float]], Ints]:
    """The best question for each level, the ones before it given; and each row's leaf."""
    leaf = np.zeros(len(slope), np.int64)
    asked: list[tuple[int, float]] = []
    for level in range(DEPTH):
        rising = [at for at, (j, _) in enumerate(asked) if j < N_FAMILIES]
        best = (-1.0, 0, 0)
        for j in tried:
            if len(features[j].cuts):
                more = [level] if j < N_FAMILIES else []
                gains = features[j].gains(leaf, 1 << level, slope, curve, pull, rising + more)
                at = int(gains.argmax())
                best = max(best, (float(gains[at]), j, at))
        _, j, at = best
        asked.append((j, float(features[j].cuts[at])))
        leaf = 2 * leaf + (features[j].bin > at)
    return asked, leaf


def table_of(trees: list[Tree], nats_per_log_odds: float) -> list[Any]:
    """Trees as ``models.combination`` reads them."""
    return [
        [
            [[FEATURES[j], float(f"{above:.{CUT_DIGITS}g}")] for j, above in asked],
            [round(nats_per_log_odds * leaf, 3) for leaf in leaves],
        ]
        for asked, leaves in trees
    ]
