"""Rotation: a key that replaces another one begins with its baseline."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from detector.config import Config
from detector.core import key_state, tables
from detector.core.control import Expected, Reset
from detector.core.events import EventBatch
from detector.core.fleet import LOWEST, FleetStage
from detector.core.kernel_identifiers import is_new
from detector.core.registry import KeyRegistry, RegistryEntry
from detector.core.settings import ShardSettings
from detector.core.shard import Shard, state_digest
from models.clock import DAY_US
from replay.engine import Engine
from replay.run import replay_files
from tests.core.logs import MINUTE_US, START_US, batch_of
from tests.core.test_control import THEFT_US, log_of, owner_rows, thief_rows

SETTINGS = ShardSettings()
HEIR = RegistryEntry("new", rotated_from="k", created_us=THEFT_US)
REGISTRY = KeyRegistry([HEIR])
HISTORY = log_of(owner_rows(START_US, 8), owner_rows(START_US, 8, "other", 2))
FIRST = log_of(owner_rows(THEFT_US, 0.5, "new", 5))


def rotated(first=FIRST, history=HISTORY, registry=REGISTRY):
    shard = Shard(SETTINGS, registry)
    return shard, shard.fold(history) + shard.fold(first)


grabbing = partial(thief_rows, n=200, routes=60, step_us=5_000_000)


def slot(shard, key):
    found = shard._slot_of(key)
    assert found is not None
    return found


def values(shard, key):
    at = slot(shard, key)
    known = key_state.known_values(shard._state, at)
    pairs = shard._state.pairs[known.places]
    return sorted(
        (k, v, int(p["first_cell"]), int(p["entry"]))
        for k, v, p in zip(known.kinds.tolist(), known.values.tolist(), pairs, strict=True)
    )


def test_an_heir_knows_what_its_predecessor_knew():
    """Networks, clients, routes, areas and blocks, since when, and the levels behind them."""
    one = batch_of([(THEFT_US, "new", "10.0.0", "sdk/2", "GET /v1/things/1", 200)])
    shard, _ = rotated(one)
    assert shard.counters["heirs"] == 1
    assert values(shard, "new") == values(shard, "k")
    old, new = slot(shard, "k"), slot(shard, "new")
    state = shard._state
    assert (state.season[new] == state.season[old]).any()
    assert state.volume["born_cell"][new] == state.volume["born_cell"][old]
    assert state.novelty["exposure"][new] >= state.novelty["exposure"][old]
    assert state.memory[new] == state.memory[old]


def test_an_heir_remembers_the_objects_its_predecessor_asked_for():
    """The latest ones are known to the heir; what it asks for then is not its parent's."""
    rows = [(START_US + i * MINUTE_US, "k", "10.0.0", "c/1", "GET /a/x", 200) for i in range(3000)]
    history = batch_of(rows)
    rng = np.random.default_rng(1)
    history.ident[:] = rng.integers(1, 1 << 63, len(history))
    others = rng.integers(1, 1 << 63, 40, np.uint64)
    shard, _ = rotated(FIRST.take(slice(0, 1)), history)
    old, new, state = slot(shard, "k"), slot(shard, "new"), shard._state
    known = history.ident[-40:]
    state = tables.grown(state, {"pages": 4096})
    assert not any(is_new(state, new, i) for i in known)
    assert sum(is_new(state, old, i) for i in others) > 30
    assert sum(is_new(state, new, i) for i in others) > 30


def test_the_owner_goes_on_without_an_alert():
    """The same owner under the new key raises no candidate; without the registry it is news."""
    _, candidates = rotated()
    assert [c for c in candidates if c.episode.key == "new"] == []


def test_a_thief_of_the_successor_is_judged_by_the_old_baseline():
    """On the new key's first day it scores as it would on the old key, and alerts."""

    def best(registry):
        theft = log_of(grabbing(THEFT_US + DAY_US // 2, key="new"))
        shard, _ = rotated(registry=registry)
        found = [c.episode.score for c in shard.fold(theft) if c.episode.channel == "stolen"]
        return max(found, default=0.0)

    plain = Shard(SETTINGS)
    plain.fold(HISTORY)
    theft = log_of(grabbing(THEFT_US + DAY_US // 2))
    old = max(c.episode.score for c in plain.fold(theft) if c.episode.channel == "stolen")
    assert best(REGISTRY) >= SETTINGS.stolen.threshold
    assert best(REGISTRY) == pytest.approx(old, abs=3.0)
    assert abs(best(None) - old) > 3.0, "a key without a past is judged otherwise"


def test_suspicion_is_not_inherited():
    """A key rotated because it was stolen begins calm; the thief is still a stranger to it."""
    theft = log_of(grabbing(THEFT_US - 60 * MINUTE_US))
    history = EventBatch.concat([HISTORY.take(HISTORY.ts_us < theft.ts_us[0]), theft])
    shard, candidates = rotated(history=history)
    assert any(c.over_threshold for c in candidates if c.episode.key == "k")
    assert [c for c in candidates if c.episode.key == "new"] == []
    again = shard.fold(log_of(thief_rows(THEFT_US + DAY_US // 2 + MINUTE_US, key="new")))
    assert max(c.episode.score for c in again) >= SETTINGS.stolen.floor


def test_without_its_predecessor_an_heir_begins_blank_and_is_counted():
    """Never seen, in another shard, or reset: there is nothing to inherit."""
    shard = Shard(SETTINGS, REGISTRY)
    shard.fold(FIRST)
    assert (shard.counters["heirs"], shard.counters["heirs_blank"]) == (0, 1)
    shard = Shard(SETTINGS, REGISTRY)
    shard.fold(HISTORY)
    shard.control(Reset(at_us=THEFT_US, key="k"))
    shard.fold(FIRST)
    assert (shard.counters["heirs"], shard.counters["heirs_blank"]) == (0, 1)


def test_a_key_that_was_only_refused_before_still_inherits():
    """Tries with the new key before its first success are no life of its own."""
    tries = batch_of(
        [(THEFT_US + i, "new", "203.0.113", "curl/8", "GET /v1/things/1", 401) for i in range(40)]
    )
    tries.auth[:] = 2
    later = FIRST.take(FIRST.ts_us > THEFT_US + 40)
    shard, candidates = rotated(EventBatch.concat([tries, later]))
    assert shard.counters["heirs"] == 1
    assert {c.episode.channel for c in candidates if c.episode.key == "new"} <= {"abused"}
    assert len(values(shard, "new")) >= len(values(shard, "k"))
    assert shard.finish(THEFT_US + 30 * DAY_US) is None
    assert not shard._book.open


def test_an_heirs_values_are_its_own():
    """What is said of the new key changes nothing of the old one."""
    shard, _ = rotated()
    before = values(shard, "k")
    shard.control(Expected(at_us=THEFT_US + DAY_US, key="new", network="10.0.1.0/24"))
    shard.control(Reset(at_us=THEFT_US + DAY_US, key="new"))
    assert values(shard, "k") == before
    assert values(shard, "new") == []


def test_a_chain_of_rotations_goes_on():
    """The third key knows what the first one learned."""
    registry = KeyRegistry([HEIR, RegistryEntry("newer", rotated_from="new")])
    rows = [(THEFT_US + DAY_US, "newer", "10.0.0", "sdk/2", "GET /v1/things/1", 200)]
    shard, _ = rotated(registry=registry)
    shard.fold(batch_of(rows))
    assert shard.counters["heirs"] == 2
    assert values(shard, "newer") == values(shard, "new")


LOG = log_of(
    owner_rows(START_US, 8),
    owner_rows(START_US, 8, "other", 2),
    owner_rows(THEFT_US, 3, "new", 5),
    thief_rows(THEFT_US + 2 * DAY_US, key="new"),
)


@pytest.mark.parametrize("seed", range(3))
def test_batches_and_shards_do_not_matter(seed):
    """A replay keeps a family of keys in one shard; cuts and a restart change nothing."""
    rng = np.random.default_rng(seed)

    def run(shards, cuts):
        stage = FleetStage(5, settings=SETTINGS, lowest=LOWEST)
        engine = Engine([Shard(SETTINGS, REGISTRY) for _ in range(shards)], stage)
        for low, high in zip([0, *cuts], [*cuts, len(LOG)], strict=True):
            engine.fold(LOG.take(slice(low, high)))
            if rng.random() < 0.2:
                engine.shards = [
                    Shard.from_state(s.to_state(), SETTINGS, REGISTRY) for s in engine.shards
                ]
        episodes = [e.to_record() for e in engine.finish()]
        return episodes, engine.alerts, state_digest(engine.shards)

    reference = run(1, [])
    assert reference[1], "the theft of the new key alerts"
    cuts = sorted(set(rng.integers(1, len(LOG), 20).tolist()))
    assert run(1, cuts) == reference
    assert run(4, cuts) == reference


def test_many_heirs_at_once_fit():
    """A whole fleet is rotated: tables grow as they must, every value is found again."""
    n, routes = 60, 40
    rows = [
        (START_US + i * MINUTE_US, f"a{k}", f"10.{k}.0", "c/1", f"GET /r{i}/x", 200)
        for i in range(routes)
        for k in range(n)
    ]
    more = [(THEFT_US, f"b{k}", f"10.{k}.0", "c/1", "GET /r0/x", 200) for k in range(n)]
    registry = KeyRegistry([RegistryEntry(f"b{k}", rotated_from=f"a{k}") for k in range(n)])
    shard, _ = rotated(log_of(more), log_of(rows), registry)
    assert shard.counters["heirs"] == n
    assert all(values(shard, f"b{k}") == values(shard, f"a{k}") for k in range(n))
    assert len(values(shard, "b0")) == 2 * routes + 3


def test_from_the_registry_file_to_the_fact(tmp_path):
    """End to end: the heir is quiet, the old key's use a day after its end is a hard fact."""
    registry = tmp_path / "keys.ndjson"
    created = "2026-09-23T00:00:00Z"
    registry.write_text(json.dumps({"key": "new", "rotated_from": "old", "created_at": created}))
    lines = []
    for minute in range(4 * 1440):
        if minute % 7 == 0:
            key = "old" if minute < 2 * 1440 else "new"
            at = np.datetime64("2026-09-21T00:00:00") + np.timedelta64(minute, "m")
            lines.append({"ts": f"{at}Z", "key_id": key})
    lines.append({"ts": "2026-09-24T12:00:30Z", "key_id": "old"})
    lines.sort(key=lambda line: line["ts"])
    log = tmp_path / "log.ndjson"
    more = {"method": "GET", "path": "/v1/a", "status": 200, "source_ip": "203.0.113.7"}
    log.write_text(
        "".join(json.dumps({**line, **more, "user_agent": "sdk/2"}) + "\n" for line in lines)
    )
    config = Config.model_validate({"keys": {"registry": str(registry)}})
    summary = replay_files([log], tmp_path / "out", config)
    assert summary["heirs"] == {"with_baseline": 1, "blank": 0}
    alerts = [json.loads(a) for a in (tmp_path / "out/alerts.ndjson").read_text().splitlines()]
    assert [(a["key"], a["reasons"][0]["signal"]) for a in alerts] == [("old", "rotated")]
