"""Our detector as a method: nothing is lost between the engine and the judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.core.errors import UsageError
from detector.core.fleet import LOWEST, FleetStage
from detector.core.settings import ShardSettings
from detector.core.shard import Shard
from replay.evaluation.keys import KeyIndex
from replay.evaluation.ours import Ours, offset, without
from replay.evaluation.points import points_of_episodes
from replay.run import Engine
from tests.core.logs import START_US, batch_of, fleet_log

PLAIN = ShardSettings()
# What a young key must add is 0 as shipped; here it is not.
SETTINGS = replace(
    PLAIN,
    stolen=replace(PLAIN.stolen, cold_extra=3.0),
    abused=replace(PLAIN.abused, cold_extra=3.0),
)


@pytest.fixture(scope="module")
def log():
    return fleet_log(1)


@pytest.fixture(scope="module")
def keys(log):
    return KeyIndex(sorted({name.text for name in log.names.keys.values()}))


def replayed(log, n):
    engine = Engine([Shard(SETTINGS)], FleetStage(n, settings=SETTINGS, lowest=LOWEST))
    for part in (slice(0, 500), slice(500, None)):
        engine.fold(log.take(part))
    episodes = engine.finish()
    return episodes + engine.surges, engine.alerts


def observed(log, keys, stated, settings=SETTINGS):
    ours = Ours(settings, keys, None, stated)
    for part in (slice(0, 500), slice(500, None)):
        ours.observe(log.take(part))
    return ours.answer()


def test_events_are_told_apart_by_key(log, keys):
    """Each event gets its key's number, events without a key none."""
    number = keys.of(log)
    texts = [keys.texts[i] if i >= 0 else "" for i in number.tolist()]
    pairs = zip(log.key_hi.tolist(), log.key_lo.tolist(), strict=True)
    expected = [log.names.keys[h << 64 | k].text if h else "" for h, k in pairs]
    assert texts == expected
    assert "" in texts
    assert KeyIndex(()).of(log).tolist() == [-1] * len(log)


def test_keys_that_come_later_are_learned(keys):
    """Each batch may bring names the index has not met."""
    index = KeyIndex(["x", "y"])
    for text, number in (("x", 0), ("z", -1), ("y", 1), ("x", 0)):
        row = (START_US, text, "10.0.0", "sdk/1", "GET /v1/a/b", 200)
        assert index.of(batch_of([row])).tolist() == [number]


def test_episodes_and_alerts_are_those_of_a_replay(log, keys):
    """The same fold gives the same episodes and, for each stated budget, the same alerts."""
    answer = observed(log, keys, (5.0, 40.0))
    episodes, alerts = replayed(log, 5.0)
    assert len(episodes) > 1
    plain = points_of_episodes(episodes, keys.number_of)
    assert answer.scored.ts_us.tolist() == plain.ts_us.tolist()
    assert [n.signals for n in answer.notes] == [
        tuple(r.signal for r in e.reasons) for e in episodes
    ]
    assert sorted(answer.online[5.0][0].ts_us.tolist()) == sorted(a.alerted_us for a in alerts)
    more = [a.alerted_us for a in replayed(log, 40.0)[1]]
    assert sorted(answer.online[40.0][0].ts_us.tolist()) == sorted(more)


def test_a_young_keys_scores_are_less_by_what_its_threshold_is_more(log, keys):
    """Crossing the plain threshold with the lower score is crossing the raised one."""
    answer = observed(log, keys, (5.0,))
    episodes, _ = replayed(log, 5.0)
    plain = points_of_episodes(episodes, keys.number_of)
    lower = plain.score - answer.scored.score
    age_days = (plain.ts_us - START_US) / 86_400e6
    expected = 3.0 * np.clip(1 - age_days / 3, 0, 1)
    assert np.abs(lower - expected).max() < 0.2, "keys of this log appear within hours"
    assert lower.min() > 0.1


def test_a_signal_can_be_left_out(log, keys):
    """Its weight is 0 in every channel and no episode names it; others keep theirs."""
    cut = without(SETTINGS, "new_network")
    for before, after in zip(SETTINGS.channels, cut.channels, strict=True):
        assert after.weights == (0.0, *before.weights[1:])
        assert after.threshold == before.threshold
    named = {s for n in observed(log, keys, (5.0,), cut).notes for s in n.signals}
    assert "new_network" not in named
    assert "new_network" in {s for n in observed(log, keys, (5.0,)).notes for s in n.signals}
    both = without(SETTINGS, "new_network+new_client").stolen.weights
    assert both == (0.0, 0.0, *SETTINGS.stolen.weights[2:])
    with pytest.raises(UsageError, match="new_networks"):
        without(SETTINGS, "new_networks")


def test_a_common_threshold_is_measured_from_the_shipped_ones():
    """0 on the common scale is what ships."""
    assert offset(SETTINGS) == (SETTINGS.stolen.threshold, SETTINGS.abused.threshold)
