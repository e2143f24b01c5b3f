"""A simulated world: reproducible, in order, of the asked size, truthfully labelled."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest

from detector.core.errors import UsageError
from detector.core.events import EventBatch
from replay.simulate.world import ALL_ATTACKS, ALL_BENIGN, World, WorldSettings
from tests.simulate.worlds import DAY_US, SMALL, START_US, small

DIGEST = """
import hashlib
from replay.simulate.world import World, WorldSettings
world = World(WorldSettings(9, keys=40, days=3, quiet_days=1, attacks_per_scenario=1,
                            attacks=("A01", "A08", "A12", "A20")))
digest = hashlib.sha256()
for chunk in world.lines():
    digest.update(chunk.block())
digest.update(repr((world.attacks, world.happenings, world.registry_records())).encode())
print(digest.hexdigest())
"""


def _digest(batches) -> str:
    h = hashlib.sha256()
    batches = list(batches)
    whole = EventBatch.concat([b for b, _ in batches])
    for column in EventBatch.COLUMNS:
        h.update(getattr(whole, column).tobytes())
    h.update(np.concatenate([attack for _, attack in batches]).tobytes())
    return h.hexdigest()


def test_same_seed_same_bytes_in_processes_with_other_hash_seeds():
    """Lines, ground truth and registry do not depend on PYTHONHASHSEED or on the process."""

    def digest(hash_seed: str) -> bytes:
        env = os.environ | {"PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            [sys.executable, "-c", DIGEST], env=env, capture_output=True, check=True
        ).stdout

    assert digest("1") == digest("77") != b""


def test_batches_of_any_size_hold_the_same_events():
    """Cutting differently, or streaming again, changes no event and no label."""
    world, _ = small()
    first = _digest(world.batches())
    assert first == _digest(world.batches(rows_max=7777))
    assert first == _digest(World(world.settings).batches())
    assert first != _digest(World(WorldSettings(6, **SMALL)).batches())


def test_events_are_in_time_order_within_the_span():
    """Without a late shipment, times never go back, over all chunks."""
    _, rows = small()
    assert (np.diff(rows.ts_us) >= 0).all()
    assert rows.ts_us[0] >= START_US
    assert rows.ts_us[-1] < START_US + SMALL["days"] * DAY_US


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_fleet_makes_as_many_requests_as_asked(seed):
    """Benign requests a day are the settings' mean, scaled by the number of keys."""
    settings = WorldSettings(seed, keys=200, days=5, quiet_days=3, attacks_per_scenario=0)
    world = World(settings)
    per_day = sum(len(c) for c in world.chunks()) / 5
    assert not world.attacks
    assert 0.75 < per_day / settings.per_day < 1.35
    assert settings.per_day == 100_000


def test_keys_differ_as_in_life():
    """Classes have their shares, rates are spread over decades, no key owns the fleet."""
    world = World(WorldSettings(4, attacks_per_scenario=0, days=3, quiet_days=1))
    told = world.describe()
    counts = [told["classes"][c]["keys"] for c in told["classes"]]
    assert np.allclose(np.array(counts) / 2000, [0.5, 0.17, 0.05, 0.18, 0.10], atol=0.01)
    rates = told["requests_per_key_and_day"]
    assert rates["p75"] / rates["p25"] > 10
    assert rates["p99"] > 100 * rates["p50"]
    assert rates["p100"] < 0.085 * told["expected_requests_per_day"]
    assert 400 < told["owners"] < 900
    assert set(world.key_class) == set(world.owner)


def test_every_scenario_is_there_once_and_labelled():
    """One attack of each kind, one label a key of it, with the times and counts of its rows."""
    world, rows = small()
    assert sorted(a.scenario for a in world.attacks) == list(ALL_ATTACKS)
    labels = {(label.kind, label.key): label for label in world.labels()}
    for at, attack in enumerate(world.attacks):
        assert attack.number == at
        mine = rows.take(np.flatnonzero(rows.attack == at))
        assert attack.requests == len(mine) > 1
        assert (attack.start_us, attack.end_us) == (mine.ts_us[0], mine.ts_us[-1])
        assert attack.start_us >= START_US + DAY_US
        names = [mine.vocabulary.keys[k] for k in np.unique(mine.key)]
        assert sorted(names) == sorted(attack.keys)
        counted = sum(labels[attack.scenario, key].requests for key in attack.keys)
        assert counted == attack.requests
        assert attack.causes
        assert 1 <= len(attack.networks) <= 16


def test_nobody_is_attacked_twice_within_three_days():
    """Between two attacks on a key lie three days, so that an alert can be credited."""
    world = World(WorldSettings(2, keys=300, days=14, quiet_days=4, attacks_per_scenario=2))
    spans: dict[str, list[tuple[int, int]]] = {}
    for attack in world.attacks:
        for key in attack.keys:
            spans.setdefault(key, []).append((attack.start_us, attack.end_us))
    for many in spans.values():
        many.sort()
        assert all(b[0] - a[1] >= 3 * DAY_US for a, b in pairwise(many))
    assert max(len(many) for many in spans.values()) > 1


def test_every_benign_scenario_happens_in_the_test_period():
    """Each named scenario is recorded, with keys of the world, after the quiet days."""
    world, _ = small()
    assert {h.scenario for h in world.happenings} == set(ALL_BENIGN)
    for happening in world.happenings:
        assert set(happening.keys) <= set(world.key_class)
        assert happening.keys
        assert happening.start_us >= START_US + DAY_US - DAY_US // 2
        assert happening.start_us <= happening.end_us


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": 3},
        {"keys": 10**6},
        {"days": 1},
        {"quiet_days": 35},
        {"requests_per_day": 0},
        {"attacks": ("A99",)},
        {"benign": ("B21",)},
        {"attacks_per_scenario": -1},
        {"keys": 40, "days": 4, "quiet_days": 1, "attacks_per_scenario": 20},
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_sentence(wrong):
    """Impossible sizes, unknown scenarios and too many attacks are usage errors."""
    with pytest.raises(UsageError) as refused:
        World(WorldSettings(1, **wrong))
    assert "\n" not in str(refused.value)


def test_streams_fast_enough():
    """Half a million events a second of one core even on a loaded machine (two million idle)."""
    world = World(WorldSettings(1, keys=400, days=4, quiet_days=1, attacks_per_scenario=0))
    batches = world.batches()
    n = len(next(batches)[0])
    begun = time.process_time()
    n = sum(len(batch) for batch, _ in batches)
    assert n / (time.process_time() - begun) > 500_000
