"""Weights from a configuration."""

from __future__ import annotations

import pytest

from models.families import FAMILIES
from models.fusion import WEIGHTS
from models.weights import checked_weights, weights_from_config


def test_nothing_given_is_as_shipped():
    """An empty section changes nothing."""
    assert weights_from_config({}) == tuple(tuple(map(float, row)) for row in WEIGHTS)


def test_given_weights_replace_the_shipped_ones_in_order():
    """Only the named family of the named channel changes."""
    weights = weights_from_config({"abused": {"volume": 0.5, "new_network": 1}})
    assert weights[0] == WEIGHTS[0]
    assert weights[1][FAMILIES.index("volume")] == 0.5
    assert weights[1][0] == 1.0
    assert weights[1][FAMILIES.index("probing")] == WEIGHTS[1][FAMILIES.index("probing")]


@pytest.mark.parametrize(
    ("section", "what"),
    [
        ({"stollen": {}}, "stollen: no such channel"),
        ({"stolen": {"new_netwrok": 1.0}}, "stolen.new_netwrok: no such signal"),
        ({"stolen": {"volume": -0.1}}, "stolen.volume: a weight"),
        ({"stolen": {"volume": float("nan")}}, "stolen.volume: a weight"),
        ({"stolen": {"volume": float("inf")}}, "stolen.volume: a weight"),
        ({"stolen": {"volume": 101.0}}, "stolen.volume: a weight"),
    ],
)
def test_a_wrong_entry_is_named(section, what):
    """One sentence says which entry cannot be, before anything is scored with it."""
    with pytest.raises(ValueError, match=what):
        checked_weights(section)
    with pytest.raises(ValueError, match=what):
        weights_from_config(section)
