"""Rivals: the ways of watching keys that a user would otherwise choose, on identical events.

Each takes the same ``WindowTable`` and answers with a ``Series`` of scores, larger is worse.
Parameters are those their sources name, or those that found most on the worlds of
``seeds.TUNING``, never on a reported one; each docstring says which, and in what range.
"""

from __future__ import annotations

from collections.abc import Callable

from replay.evaluation.points import Series
from replay.evaluation.rivals.learners import (
    gaussian_scorer,
    half_space_trees,
    random_cut_forest,
)
from replay.evaluation.rivals.rules import access_risk, first_seen_network, first_seen_source
from replay.evaluation.rivals.seasonal import seasonal_and_rare
from replay.evaluation.rivals.volume import count_threshold, ewma
from replay.evaluation.rivals.windows import WindowTable

ALL: dict[str, Callable[[WindowTable], Series]] = {
    "count threshold": count_threshold,
    "first-seen network": first_seen_network,
    "first-seen block + client": first_seen_source,
    "EWMA 3 sigma": ewma,
    "River GaussianScorer": gaussian_scorer,
    "River HalfSpaceTrees": half_space_trees,
    "random cut forest": random_cut_forest,
    "access risk (Freeman)": access_risk,
    "seasonal + rare": seasonal_and_rare,
}

__all__ = ["ALL", "WindowTable"]
