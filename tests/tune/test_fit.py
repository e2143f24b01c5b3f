"""Fitting weights to bags of evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models import fusion
from models.families import FAMILIES
from replay.tune.fit import (
    CHANGE_LEAST,
    CHANGE_MOST,
    LEVEL_BAGS,
    STRENGTH,
    fit,
    fitted_families,
    levelled,
    limits_of,
    scores,
)
from tests.tune.helpers import STOLEN as BY_HAND
from tests.tune.helpers import THROTTLE, bags_of

STOLEN = np.array(BY_HAND)
NETWORK, CLIENT, AREA, TRAVEL = (
    FAMILIES.index(f) for f in ("new_network", "new_client", "new_area", "travel")
)


@pytest.fixture(scope="module")
def bags():
    """Thieves bring new areas; the owners' own changes bring new clients; both new networks."""
    rng = np.random.default_rng(1)
    attacks = bags_of(
        np.arange(150),
        new_network=rng.uniform(4, 9, 150),
        new_client=rng.uniform(0, 3, 150),
        new_area=rng.uniform(4, 9, 150),
    )
    clean = bags_of(
        np.arange(2000),
        new_network=rng.exponential(1.5, 2000),
        new_client=rng.exponential(3.0, 2000),
        new_area=rng.exponential(0.5, 2000),
    )
    return attacks, clean


@pytest.fixture(scope="module")
def fitted(bags):
    free = fitted_families(bags[0], STOLEN, only_weighted=False)
    return fit(STOLEN, free, STRENGTH, *bags)


def test_what_tells_attacks_apart_gains_weight(fitted):
    """New areas are the thieves', new clients mostly the owners'."""
    assert fitted[AREA] > STOLEN[AREA]
    assert fitted[CLIENT] < STOLEN[CLIENT]


def test_more_attacks_are_found_at_the_same_false_alerts(bags, fitted):
    """At one clean bag in a thousand above the level."""
    attacks, clean = bags

    def found(weights):
        level = np.sort(scores(clean, weights))[-3]
        return (scores(attacks, weights) > level).mean()

    assert found(fitted) > found(STOLEN) + 0.1


def test_families_that_no_attack_shows_keep_their_weight(fitted):
    """Nothing can be learned about them, so nothing is."""
    shown = [NETWORK, CLIENT, AREA]
    others = np.setdiff1d(np.arange(fusion.N_FAMILIES), shown)
    assert (fitted[others] == STOLEN[others]).all()


def test_only_families_with_a_weight_where_so_asked(bags):
    """A throttle answers load; new networks are none of its business."""
    throttle = np.array(THROTTLE)
    assert not fitted_families(bags[0], throttle, only_weighted=True).any()


def test_the_highest_clean_scores_stay_where_they_were(bags, fitted):
    """So a threshold in nats means as many false alerts as before."""

    def level(weights):
        return np.sort(scores(bags[1], weights))[-LEVEL_BAGS:].mean()

    assert level(fitted) == pytest.approx(level(STOLEN), abs=0.05)


def test_a_log_with_hardly_any_evidence_does_not_raise_the_weights(bags):
    """Clean scores far below any threshold do not say what a nat is worth there."""
    halved, limits = STOLEN / 2, limits_of(STOLEN)
    calm = replace(bags[1], extra=bags[1].extra + 8.0)
    assert levelled(halved, bags[1], STOLEN, limits) == pytest.approx(STOLEN, rel=0.01)
    assert (levelled(halved, calm, STOLEN, limits) == halved).all()
    assert levelled(2 * STOLEN, calm, STOLEN, limits) == pytest.approx(STOLEN, rel=0.01)


def test_one_log_does_not_decide_everything(bags):
    """No weight is less than a quarter or more than four times what it was, or negative."""
    low, high = limits_of(STOLEN)
    free = np.ones(fusion.N_FAMILIES, bool)
    weights = fit(STOLEN, free, 0.0, *bags)
    assert ((weights >= low - 1e-12) & (weights <= high + 1e-12)).all()
    assert low[NETWORK] == CHANGE_LEAST * STOLEN[NETWORK]
    assert high[NETWORK] == CHANGE_MOST * STOLEN[NETWORK]
    assert (weights >= 0).all()


def test_a_strong_pull_keeps_the_weights(bags):
    """With a pull of a million bags the shipped weights stay, whatever the log says."""
    free = fitted_families(bags[0], STOLEN, only_weighted=False)
    assert fit(STOLEN, free, 1e6, *bags) == pytest.approx(STOLEN, abs=0.01)


def test_the_same_bags_give_the_same_weights(bags, fitted):
    """To the last bit: nothing in a fit is random."""
    free = fitted_families(bags[0], STOLEN, only_weighted=False)
    assert (fit(STOLEN, free, STRENGTH, *bags) == fitted).all()


def test_negative_evidence_counts_against():
    """An owner that fell silent lowers the score, as in the fold."""
    bags = bags_of([1, 2], new_network=[5.0, 5.0], additive=[2.0, -2.0])
    high, low = scores(bags, STOLEN)
    assert high - low == pytest.approx(4.0 * STOLEN[FAMILIES.index("additive")])


def test_a_young_keys_score_is_less_its_handicap():
    """It must be higher by as much to be an alert."""
    old, young = bags_of([1], new_network=[5.0]), bags_of([1], extra=3.0, new_network=[5.0])
    assert scores(old, STOLEN)[0] - scores(young, STOLEN)[0] == pytest.approx(3.0)


def test_the_row_that_counts_depends_on_the_weights():
    """A bag's score is that of its highest row under the weights asked about."""
    bags = bags_of([7, 7], new_network=[6.0, 0.0], new_area=[0.0, 6.0])
    flipped = STOLEN.copy()
    flipped[[NETWORK, AREA]] = 0.1, 1.0
    assert scores(bags, STOLEN)[0] == pytest.approx(6.0 * STOLEN[NETWORK])
    assert scores(bags, flipped)[0] == pytest.approx(6.0)
