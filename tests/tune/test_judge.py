"""Judging fitted weights on attacks they were not fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from detector.core.episodes import STOLEN
from replay.tune.collect import Collected
from replay.tune.fit import STRENGTH
from replay.tune.injection import Injection
from replay.tune.judge import NOT_BETTER, Trial, judge
from tests.core.logs import batch_of
from tests.tune.helpers import STOLEN as SHIPPED
from tests.tune.helpers import bags_of, row

NOTHING = bags_of([])


def world(rng, n_attacks=100, n_clean=1500, *, telling):
    """Attacks on keys 0 to 99, clean days of keys 0 to 299."""
    some = batch_of([row(0, "a")])
    injections = [Injection("elsewhere", i, some) for i in range(n_attacks)]
    area = rng.uniform(4, 9, n_attacks) if telling else rng.exponential(0.5, n_attacks)
    attacks = bags_of(
        np.arange(n_attacks), new_network=rng.exponential(2.0, n_attacks), new_area=area
    )
    unit = np.sort(rng.integers(0, 300, n_clean) << 32 | np.arange(n_clean))
    clean = bags_of(
        unit, new_network=rng.exponential(2.0, n_clean), new_area=rng.exponential(0.5, n_clean)
    )
    return injections, Collected((clean, NOTHING, NOTHING), (attacks, NOTHING, NOTHING))


def judged(injections, collected):
    rng = np.random.default_rng(5)
    return judge(STOLEN, collected, injections, SHIPPED, 3000, STRENGTH, rng)


def test_weights_that_find_more_are_used():
    """The gain is more than twice its standard error; found before and after are told."""
    result = judged(*world(np.random.default_rng(1), telling=True))
    assert result.reason == ""
    assert result.gain > 2 * result.error > 0
    (found,) = result.found
    assert (found.kind, found.attacks) == ("elsewhere", 100)
    assert sum(found.after) > sum(found.before)


def test_attacks_that_look_like_anything_else_teach_nothing():
    """What was fitted to noise is no better on the rest of it, and the weights in use stay."""
    result = judged(*world(np.random.default_rng(2), telling=False))
    assert result.reason == NOT_BETTER


def test_too_few_attacks_are_not_fitted_to():
    """Ten thefts are an anecdote."""
    result = judged(*world(np.random.default_rng(3), n_attacks=10, telling=True))
    assert result.weights == SHIPPED
    assert "only 10 attacks" in result.reason


def test_a_clean_log_without_evidence_is_not_fitted_to():
    """Without clean scores there are no false alerts to compare at."""
    result = judged(*world(np.random.default_rng(4), n_clean=50, telling=True))
    assert result.weights == SHIPPED
    assert "too little evidence" in result.reason


def test_an_attack_without_a_row_is_never_found():
    """It counts among those made, also where no clean bag is above it."""
    injections, collected = world(np.random.default_rng(6), telling=True)
    some = injections[0].events
    more = [*injections, *(Injection("elsewhere", 250, some) for _ in range(100))]
    (found,) = judged(more, collected).found
    assert found.attacks == 200
    assert max(found.after) <= 0.5


def trial(before, after, clean, allowed):
    n, m = len(before), len(clean)
    return Trial(
        attack=np.array([before, after], float),
        victim=np.arange(n),
        clean=np.array([clean, clean], float),
        owner=np.arange(m),
        allowed=allowed,
    )


def test_an_attack_is_found_above_all_but_the_allowed_clean_bags():
    """With one clean bag allowed above, the second highest is the level to beat."""
    t = trial([5.0, 6.0], [9.0, 6.5], [1.0, 6.0, 8.0], (0, 1))
    before, after = t.hits()
    assert before.tolist() == [[0, 0], [0, 0]]
    assert after.tolist() == [[1, 0], [1, 1]]
    assert t.gain() == pytest.approx(0.75)


def test_the_error_knows_that_few_clean_bags_set_the_level():
    """The same gain over the same attacks is less certain where few clean keys were seen."""
    rng = np.random.default_rng(7)
    attack = rng.normal(3.0, 1.0, 200)
    many, few = rng.exponential(1.0, 4000), rng.exponential(1.0, 40)
    errors = [
        trial(attack, attack + 0.5, clean, (len(clean) // 40,)).error(np.random.default_rng(1))
        for clean in (many, few)
    ]
    assert errors[0] < errors[1]
