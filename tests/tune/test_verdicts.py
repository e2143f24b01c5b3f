"""Weights that follow verdicts, within bounds."""

from __future__ import annotations

import pytest

from models.families import FAMILIES
from models.fusion import F_AREA, F_CLIENT, F_NETWORK, F_ROUTE, WEIGHTS
from models.verdicts import FACTOR_MAX, FACTOR_MIN, VerdictWeights
from tests.tune.helpers import BY_HAND, STOLEN

DEPLOY = {"new_network": 5.0, "new_client": 9.0}
THEFT = {"new_network": 9.0, "foreign_mix": 4.0, "new_area": 4.0}


def told(verdicts, **settings) -> VerdictWeights:
    model = VerdictWeights("stolen", STOLEN, **settings)
    for evidence, verdict in verdicts:
        model.learn_one(evidence, verdict)
    return model


def test_nothing_said_changes_nothing():
    """Without verdicts the weights are the shipped ones."""
    assert VerdictWeights("abused").weights() == WEIGHTS[1]


def test_a_share_without_a_factor_counts_as_it_is():
    """What signs mean together makes an alert as likely as a lower threshold would, for good."""
    one = VerdictWeights("stolen", STOLEN, threshold_nats=12.0)
    other = VerdictWeights("stolen", STOLEN, threshold_nats=6.0)
    for _ in range(60):
        one.learn_shares({"new_network": 4.0, "combination": 6.0}, False)
        other.learn_shares({"new_network": 4.0}, False)
    assert one.factors() == pytest.approx(other.factors())
    assert one.factors()[F_NETWORK] < 1.0


def test_expected_alerts_lower_what_raised_them():
    """A run of "expected" over new clients lowers that weight, and more with every verdict."""
    once, often = told([(DEPLOY, False)]), told([(DEPLOY, False)] * 8)
    assert often.weights()[F_CLIENT] < once.weights()[F_CLIENT] < STOLEN[F_CLIENT]
    assert often.predict_proba_one(DEPLOY)[True] < told([]).predict_proba_one(DEPLOY)[True]


def test_confirmed_alerts_raise_what_raised_them():
    """And an alert like it is held for true more readily."""
    model = told([(THEFT, True)] * 5)
    assert model.weights()[F_NETWORK] > STOLEN[F_NETWORK]
    assert model.predict_proba_one(THEFT)[True] > told([]).predict_proba_one(THEFT)[True]


def test_families_that_were_silent_keep_their_weight():
    """A verdict is about the evidence shown with it."""
    before, after = STOLEN, told([(DEPLOY, False)] * 5).weights()
    others = [j for j in range(len(FAMILIES)) if j not in (F_NETWORK, F_CLIENT)]
    assert [after[j] for j in others] == pytest.approx([before[j] for j in others])


@pytest.mark.parametrize("verdict", [False, True])
def test_no_run_of_verdicts_leaves_the_bounds(verdict):
    """A thousand equal verdicts, however fast they teach, move a weight by half at most."""
    evidence = dict.fromkeys(FAMILIES, 50.0) if not verdict else dict.fromkeys(FAMILIES, 0.4)
    model = told([(evidence, verdict)] * 1000, learning_rate=1.0)
    for before, after in zip(STOLEN, model.weights(), strict=True):
        assert FACTOR_MIN * before - 1e-12 <= after <= FACTOR_MAX * before + 1e-12
    moved = [a / b for a, b in zip(model.weights(), STOLEN, strict=True) if b]
    bound = FACTOR_MAX if verdict else FACTOR_MIN
    assert (max(moved) if verdict else min(moved)) == pytest.approx(bound)


def test_a_weight_at_its_bound_comes_back():
    """Verdicts of the other kind are heard at once: what lies beyond a bound is not kept."""
    model = told([(DEPLOY, False)] * 500)
    low = model.weights()[F_CLIENT]
    model.learn_one(DEPLOY, True)
    assert model.weights()[F_CLIENT] > low


def test_of_nested_families_the_larger_learns():
    """Only the one whose share was in the score has a part in the verdict."""
    after = told([({"new_route": 9.0, "new_area": 9.0}, False)] * 3).weights()
    assert after[F_AREA] < STOLEN[F_AREA]
    assert after[F_ROUTE] == STOLEN[F_ROUTE]


def test_the_score_less_the_threshold_is_the_log_odds():
    """Before any verdict, an alert at the threshold is as likely true as not."""
    score = sum(BY_HAND[family] * nats for family, nats in THEFT.items())
    model = told([], threshold_nats=score)
    assert model.predict_proba_one(THEFT)[True] == pytest.approx(0.5)


def test_equal_verdicts_give_equal_weights():
    """To the last bit, and in the order in which they came."""
    verdicts = [(DEPLOY, False), (THEFT, True), (DEPLOY, False)] * 4
    assert told(verdicts).weights() == told(verdicts).weights()


def test_it_starts_from_the_weights_in_use():
    """Fitted weights are kept near, not the shipped ones."""
    model = VerdictWeights("stolen", STOLEN)
    assert model.weights() == STOLEN
    assert model.clone().weights() == STOLEN
