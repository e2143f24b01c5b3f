"""A score with its correction: what is left of it without some signals, wherever that is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.core.episodes import CHANNELS, Reason
from detector.core.fleet_log import _SOURCE as SOURCE
from detector.core.fleet_log import LogChanges
from detector.core.fleet_storms import Storms
from detector.core.fleet_window import sight_of
from detector.core.settings import ShardSettings
from detector.core.shard import Shard
from detector.core.silence import score_left, score_without
from models import combination, fusion
from models.families import FAMILIES
from replay.simulate.world import World, WorldSettings

SETTINGS = ShardSettings()
CAMPAIGN = Reason("campaign", 6.0, 5, 0.1, "one network on five keys")


@pytest.fixture(scope="module")
def candidates():
    """Of a small world with attacks, those whose score was corrected."""
    world = World(WorldSettings(5, 120, 6, 4, 100_000, 2, ("A02", "A06", "A13", "A16")))
    shard = Shard(SETTINGS, world.registry())
    found = [c for batch, _ in world.batches() for c in shard.fold(batch)]
    made = [c for c in found if c.episode.grounds.signs and c.episode.combined_nats]
    assert len(made) > 50
    return made


def by_formula(episode, removed) -> float:
    """The fold's own sum and correction of the episode's evidence, some of it zero."""
    channel = CHANNELS.index(episode.channel)
    x = np.array(episode.grounds.signs)
    x[[FAMILIES.index(name) for name in removed]] = 0.0
    shares = np.array(episode.grounds.shares)
    shares[[FAMILIES.index(name) for name in removed]] = 0.0
    nested = min(shares[fusion.F_ROUTE], shares[fusion.F_AREA])
    total = max(0.0, round((shares.sum() - nested) * fusion.QUANTUM) / fusion.QUANTUM)
    drift = shares[fusion.F_SLOW]
    return float(combination.corrected(total, drift, x, combination.shipped(), channel))


def test_nothing_removed_is_the_score(candidates):
    """The explanation starts from the very score the fold gave."""
    for c in candidates:
        assert score_without(c.episode) == pytest.approx(c.episode.score, abs=2e-3)


def test_what_is_left_without_the_leading_signal_is_the_folds_score_without_it(candidates):
    """Of nested signals neither counts where one of them has another cause."""
    for c in candidates:
        lead = c.episode.reasons[0].signal
        nested = ("new_route", "new_area")
        gone = nested if lead in nested else (lead,)
        assert score_left(c.episode, (lead,)) == pytest.approx(
            by_formula(c.episode, gone), abs=2e-3
        )


def test_a_campaigns_nats_come_after_the_correction(candidates):
    """As the fleet adds them: neither the gate nor the bounds of a correction see them."""
    for c in candidates:
        episode = replace(c.episode, reasons=(*c.episode.reasons, CAMPAIGN))
        lead = c.episode.reasons[0].signal
        alone = score_without(c.episode, (lead,))
        assert score_without(episode, (lead,)) == pytest.approx(alone + CAMPAIGN.nats, abs=2e-3)
        assert score_without(episode, (lead, "campaign")) == pytest.approx(alone, abs=2e-3)


def test_a_storm_takes_what_its_signal_means_beside_others(candidates):
    """While one lasts, a candidate must reach its threshold without the signal, trees included."""
    strong = [c for c in candidates if c.episode.reasons[0].signal == "new_route"]
    more = 0
    for c in strong:
        score, storms = c.episode.score, Storms()
        for k in range(30):  # as many other keys with the same evidence: a storm
            other = replace(c, episode=replace(c.episode, key=f"k{k}"))
            storms.observe(sight_of(other, c.ts_us, score, 0.01), c.ts_us)
        sight = sight_of(c, c.ts_us, score, 0.01)
        found = storms.judge(sight, 1000, c.ts_us)
        if "new_route" not in storms.by_signal:
            continue  # the signal is too small a part of this one to be a storm
        left = c.episode.score + found.nats
        alone = score_left(c.episode, ("new_route",))
        assert left <= max(alone, combination.FROM_NATS) + 2e-3
        more += -found.nats > sight.nats["new_route"] + 0.01
    assert more > 0, "some corrections went with the signal"


def test_a_change_of_the_log_takes_what_trees_made_of_it(candidates):
    """In ABUSED a new client weighs nothing in the sum; while the log changes, nor in the trees."""
    new_client = FAMILIES.index("new_client")
    taken = 0
    for c in candidates:
        e = c.episode
        if e.channel != "abused" or e.actor is None or e.grounds.signs[new_client] <= 0.0:
            continue
        change, log = f"client/{e.actor.client}", LogChanges()
        for k in range(40):
            log.observe(change, f"k{k}", f"=o{k}", c.ts_us, c.ts_us - 1, 40)
        found = log.judge(sight_of(c, c.ts_us, e.score, 0.01))
        assert found is not None
        signals = (*SOURCE, "new_client")
        assert e.score + found.nats == pytest.approx(score_left(e, signals), abs=2e-3)
        taken += found.nats < -0.1
    assert taken > 0


def test_a_storm_is_measured_by_the_sum(candidates):
    """What trees add makes no signal a smaller part of the evidence."""
    c = max(candidates, key=lambda c: c.episode.combined_nats)
    sight = sight_of(c, c.ts_us, c.episode.score, 1.0)
    assert sight.total == pytest.approx(c.episode.score - c.episode.combined_nats, abs=2e-3)
    assert sight.total == pytest.approx(
        sum(c.episode.grounds.shares)
        - min(c.episode.grounds.shares[fusion.F_ROUTE], c.episode.grounds.shares[fusion.F_AREA]),
        abs=0.02,
    )
