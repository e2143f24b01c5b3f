"""Gradient boosting of oblivious trees on top of a given score, in NumPy.

Sources: Friedman 2001; leaf values and gains with second derivatives as in XGBoost (Chen and
Guestrin 2016); one question for all nodes of a level as in CatBoost (Prokhorenkova 2018).
Libraries for it exist, but neither writes trees over a fixed offset that are small enough to
be read, and this is a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.combination import DEPTH, FEATURES

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CUTS, TOP_CUTS = 23, 11  # questions tried of a feature: its quantiles, and those of what is not 0
CUT_DIGITS = 3  # significant digits of a question

Tree = tuple[list[tuple[int, float]], list[float]]  # (feature, above) by level; nats by answers


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the boosting. ``pull`` shrinks a leaf as so many rows of weight 4 that say nothing."""

    trees: int = 150
    rate: float = 0.15
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

    def gains(self, leaf: Ints, leaves: int, slope: F64, curve: F64, pull: float) -> F64:
        """What each question would bring, asked of all leaves at once."""
        width = len(self.cuts) + 1
        cell = leaf * width + self.bin
        shape = leaves, width
        g = np.bincount(cell, slope, leaves * width).reshape(shape)
        h = np.bincount(cell, curve, leaves * width).reshape(shape)
        g_no, h_no = g.cumsum(axis=1)[:, :-1], h.cumsum(axis=1)[:, :-1]
        g_yes, h_yes = g.sum(axis=1)[:, None] - g_no, h.sum(axis=1)[:, None] - h_no
        gain: F64 = (g_no**2 / (h_no + pull) + g_yes**2 / (h_yes + pull)).sum(axis=0)
        return gain


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
        g = np.bincount(leaf, slope, 1 << DEPTH)
        h = np.bincount(leaf, curve, 1 << DEPTH)
        leaves = settings.rate * g / (h + settings.pull)
        log_odds += leaves[leaf]
        trees.append((asked, leaves.tolist()))
    return trees


def _questions(
    features: list[_Feature], tried: list[int], slope: F64, curve: F64, pull: float
) -> tuple[list[tuple[int, float]], Ints]:
    """The best question for each level, the ones before it given; and each row's leaf."""
    leaf = np.zeros(len(slope), np.int64)
    asked = []
    for level in range(DEPTH):
        best = (-1.0, 0, 0)
        for j in tried:
            if len(features[j].cuts):
                gains = features[j].gains(leaf, 1 << level, slope, curve, pull)
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
