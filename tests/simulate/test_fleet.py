"""The simulated fleet: reproducible, in time order, truthfully labelled, realistic in kind."""

import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from datetime import timedelta

import numpy as np
import pytest

from detector.core.errors import UsageError
from replay.labels import time_us
from replay.simulate import (
    ATTACK_KINDS,
    AttackPlan,
    Fleet,
    FleetSettings,
    KeyClass,
    demo_scenario,
    simulate,
    write_ndjson,
)
from replay.simulate.columns import EventColumns, merged
from replay.simulate.happenings import deploy, has_version
from replay.simulate.settings import DAY_US

SMALL = FleetSettings(
    n_keys=30,
    hours=5 * 24,
    events_per_day=3000,
    attacks=tuple(AttackPlan(kind) for kind in ATTACK_KINDS),
)
FIELDS = {
    "ts", "key_id", "method", "path", "status", "source_ip",
    "user_agent", "bytes", "latency_ms", "request_id", "owner",
}  # fmt: skip

DIGEST = """
import hashlib
from replay.simulate import AttackPlan, ATTACK_KINDS, Fleet, FleetSettings
fleet = Fleet(FleetSettings(n_keys=12, hours=72, events_per_day=900,
                            attacks=tuple(AttackPlan(k) for k in ATTACK_KINDS)), 9)
digest = hashlib.sha256()
for chunk in fleet.chunks():
    digest.update(chunk.block())
digest.update(repr([label.to_record() for label in fleet.labels]).encode())
digest.update(repr(fleet.registry()).encode())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet(SMALL, seed=4)


@pytest.fixture(scope="module")
def events(fleet: Fleet) -> EventColumns:
    return merged(list(fleet.chunks()))


@pytest.fixture(scope="module")
def records(events: EventColumns) -> list[dict]:
    return [json.loads(line) for line in events.lines()]


def _digest(hash_seed: str, tmp_path) -> str:
    env = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", DIGEST], env=env, capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_same_seed_same_bytes_in_processes_with_other_hash_seeds(tmp_path):
    """Events, labels and registry do not depend on PYTHONHASHSEED or on the process."""
    assert _digest("1", tmp_path) == _digest("77", tmp_path)


def test_other_seed_other_fleet():
    """The seed is used: another one gives other keys and other events."""
    a, b = (merged(list(simulate(FleetSettings(n_keys=5, hours=24), seed))) for seed in (1, 2))
    assert a.lines()[:20] != b.lines()[:20]


def test_lines_are_canonical_events(records):
    """Every line has exactly the canonical fields, with the contract's types."""
    for record in records[:2000]:
        assert set(record) == FIELDS
        assert record["path"].startswith("/")
        assert 100 <= record["status"] <= 599
        assert record["bytes"] >= 0
        assert record["latency_ms"] > 0
        time_us(record["ts"])


def test_events_are_in_time_order_across_chunks(fleet, events):
    """The chunks one after the other are sorted by time and stay inside the span."""
    stamps = np.concatenate([c.ts_us for c in Fleet(SMALL, seed=4).chunks()])
    assert (np.diff(stamps) >= 0).all()
    assert stamps[0] >= SMALL.start_us
    assert stamps[-1] < SMALL.end_us
    assert len(stamps) == len(events)


def test_request_ids_are_unique(records):
    """No two events share a request id."""
    assert len({r["request_id"] for r in records}) == len(records)


def test_labels_match_their_rows(fleet, events):
    """Each label's key, times and number are those of the rows that carry its number."""
    assert [label.kind for label in fleet.labels] == list(ATTACK_KINDS)
    for number, label in enumerate(fleet.labels):
        rows = events.take(np.flatnonzero(events.attack == number))
        assert len(rows) == label.requests > 1
        assert {fleet.words.keys[k] for k in rows.key} == {label.key}
        assert (rows.ts_us[0], rows.ts_us[-1]) == (label.start_us, label.end_us)
        assert (rows.ts_us == label.times_us).all()


def test_each_attack_has_its_own_victim(fleet):
    """One key is not attacked twice, so that an alert can be credited."""
    assert len({label.key for label in fleet.labels}) == len(fleet.labels)


def _attack_rows(fleet: Fleet, events: EventColumns, kind: str) -> EventColumns:
    return events.take(np.flatnonzero(events.attack == ATTACK_KINDS.index(kind)))


def test_stolen_key_comes_from_elsewhere_while_the_owner_goes_on():
    """A thief's networks are new to the key, and the owner's requests continue meanwhile."""
    settings = FleetSettings(n_keys=40, hours=96, events_per_day=20_000)
    fleet = Fleet(settings, 2)
    busiest = max(
        (p for p in fleet.plans if p.key_class == KeyClass.SERVER), key=lambda p: p.rate
    ).number
    start = settings.start_us + 3 * DAY_US + DAY_US // 2
    label = fleet.inject(AttackPlan("stolen_key", start, 3600, victim=busiest))
    rows = merged(list(fleet.chunks()))
    mine = rows.take(np.flatnonzero(rows.key == busiest))
    thief = mine.attack >= 0
    assert not set(mine.address[thief] >> 8) & set(mine.address[~thief & (mine.ts_us < start)] >> 8)
    inside = (mine.ts_us >= label.start_us) & (mine.ts_us <= label.end_us)
    assert (inside & ~thief).sum() > 10


def test_dormant_key_is_silent_before_it_wakes(fleet, events):
    """The victim of a wake-up has no traffic of its own in the days before."""
    rows = _attack_rows(fleet, events, "dormant_wakeup")
    own = events.ts_us[(events.key == rows.key[0]) & (events.attack < 0)]
    silent = (own > SMALL.start_us + 2 * DAY_US) & (own < rows.ts_us[0])
    assert len(own)
    assert not silent.any()


def test_prober_tries_many_routes_and_is_mostly_refused(fleet, events):
    """Most of a prober's requests fail and hit different routes."""
    rows = _attack_rows(fleet, events, "prober")
    assert (rows.status >= 400).mean() > 0.6
    assert len(set(rows.route.tolist())) > 0.4 * len(rows)


def test_scraper_walks_new_objects_far_above_the_usual_rate(fleet, events):
    """A scraper asks for each object once, at 20 to 60 times the key's rate."""
    rows = _attack_rows(fleet, events, "scraper")
    assert len(set(rows.ident.tolist())) == len(rows)
    hours = (rows.ts_us[-1] - rows.ts_us[0]) / 3.6e9
    ratio = len(rows) / hours / fleet.plans[int(rows.key[0])].rate
    assert 15 < ratio < 80


def test_no_attack_succeeds_outside_the_declared_grants(fleet, records, events):
    """A call outside a key's grants is refused by the simulated API, attack or not."""
    grants = {r["key"]: r["grants"] for r in fleet.registry()}
    assert any(grants.values())
    for record in records:
        allowed = grants[record["key_id"]]
        if allowed is None or record["status"] >= 400:
            continue
        path = record["path"].split("?")[0]
        area = "/".join(path.split("/")[:3])
        names = {g.split(" ")[1].removesuffix("/**") for g in allowed}
        assert area in names or path in names, record


def test_attackers_share_clients_and_blocks_with_customers(fleet, events):
    """No marker: what attackers send as client is also what some customer sends."""
    hostile = events.client[events.attack >= 0]
    texts = {fleet.words.clients[c].split("/")[0] for c in hostile.tolist()}
    benign = {fleet.words.clients[c].split("/")[0] for c in events.client[events.attack < 0]}
    big = Fleet(FleetSettings(n_keys=400, hours=24), 1)
    benign |= {c.split("/")[0] for c in big.words.clients}
    assert texts <= benign
    blocks = {a >> 24 for p in big.plans for a, _ in p.state.addresses}
    assert {int(a) >> 24 for a in events.address[events.attack >= 0]} <= blocks


def test_classes_behave_as_named():
    """Mobile keys have many networks, servers few; developers rest on weekends."""
    settings = FleetSettings(n_keys=60, hours=7 * 24, events_per_day=30_000, happenings=0)
    fleet = Fleet(settings, 3)
    networks: dict[int, set[int]] = defaultdict(set)
    weekend: Counter[KeyClass] = Counter()
    total: Counter[KeyClass] = Counter()
    for chunk in fleet.chunks():
        for key, address in zip(chunk.key.tolist(), chunk.address.tolist(), strict=True):
            networks[key].add(address >> 8)
        is_weekend = chunk.ts_us[0] >= settings.start_us + 5 * DAY_US
        for key, n in Counter(chunk.key.tolist()).items():
            total[fleet.plans[key].key_class] += n
            weekend[fleet.plans[key].key_class] += n * bool(is_weekend)
    by_class = defaultdict(list)
    for plan in fleet.plans:
        by_class[plan.key_class].append(len(networks[plan.number]))
    assert min(by_class[KeyClass.MOBILE]) > 50
    assert max(by_class[KeyClass.SERVER]) <= 2
    assert weekend[KeyClass.DEVELOPER] < 0.12 * total[KeyClass.DEVELOPER]


def test_happenings_leave_their_trace():
    """Every benign kind occurs, and a key that is being onboarded was silent before."""
    fleet = Fleet(FleetSettings(n_keys=60, hours=14 * 24, happenings=2), 6)
    kinds = {h.kind for h in fleet.happenings}
    assert {"deploy", "batch_job", "curl_from_home", "onboarding"} <= kinds
    rows = merged(list(fleet.chunks()))
    born = next(h for h in fleet.happenings if h.kind == "onboarding")
    assert (rows.ts_us[rows.key == born.keys[0]] >= born.start_us - 300_000_000).all()


def test_a_deploy_brings_a_new_client_and_a_new_route():
    """After a release the key sends a version and calls a route it never had before."""
    fleet = Fleet(FleetSettings(n_keys=20, hours=96, events_per_day=20_000, happenings=0), 6)
    suited = (p for p in fleet.plans if p.key_class == KeyClass.SERVER and has_version(p))
    key = max(suited, key=lambda p: p.rate).number
    at_us = fleet.settings.start_us + 2 * DAY_US
    deploy(fleet, np.random.default_rng(1), key, at_us)
    rows = merged(list(fleet.chunks()))
    mine, before = rows.key == key, rows.ts_us < at_us
    later = rows.ts_us > at_us + 3_600_000_000
    old, new = set(rows.client[mine & before].tolist()), set(rows.client[mine & later].tolist())
    assert old
    assert new
    assert not old & new
    assert set(rows.route[mine & later].tolist()) - set(rows.route[mine & before].tolist())


@pytest.mark.parametrize(
    "make",
    [
        lambda: FleetSettings(n_keys=0),
        lambda: FleetSettings(hours=0),
        lambda: FleetSettings(attacks=(AttackPlan("telepathy"),)),
        lambda: FleetSettings(shares=(0, 0, 0, 0, 0)),
        lambda: Fleet(FleetSettings(n_keys=2, attacks=(AttackPlan("flood", victim=9),)), 1),
        lambda: Fleet(FleetSettings(n_keys=2, attacks=(AttackPlan("flood", start_us=5),)), 1),
        lambda: Fleet(FleetSettings(n_keys=1, attacks=(AttackPlan("flood"),) * 2), 1),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(make):
    """What cannot be simulated is a usage error, not a traceback from NumPy."""
    with pytest.raises(UsageError) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_compressed_output_is_the_same_bytes_each_time(tmp_path):
    """Gz and zst files of the same fleet are equal: no name, no time in them."""
    settings = FleetSettings(n_keys=4, hours=6, events_per_day=2000)
    for suffix in ("ndjson", "ndjson.gz", "ndjson.zst"):
        a, b = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
        lines = [write_ndjson(path, simulate(settings, 1)) for path in (a, b)]
        assert lines[0] == lines[1] > 0
        assert a.read_bytes() == b.read_bytes()


def test_generates_fast_enough():
    """A busy fleet's lines come at 100,000 a second even on a loaded machine (300,000 idle)."""
    fleet = Fleet(FleetSettings(n_keys=100, hours=48, events_per_day=150_000), 1)
    begun = time.process_time()
    n = sum(len(chunk) for chunk in fleet.chunks() if chunk.block())
    assert n / (time.process_time() - begun) > 100_000


def test_demo_scenario_is_as_described():
    """Two weeks of history, three live hours, three attacks inside them, benign noise beside."""
    demo = demo_scenario(11)
    assert 130_000 < len(demo.history) < 300_000
    assert {label.kind for label in demo.labels} == {"stolen_key", "scraper", "prober"}
    live = [time_us(json.loads(line)["ts"]) for line in demo.live]
    assert live == sorted(live)
    assert live[0] >= demo.live_from_us > time_us(json.loads(demo.history[-1])["ts"])
    assert live[-1] - live[0] <= timedelta(hours=3) / timedelta(microseconds=1)
    for label in demo.labels:
        assert demo.live_from_us < label.start_us < label.end_us <= live[-1]
    assert {"deploy", "batch_job", "curl_from_home"} <= {h.kind for h in demo.happenings}
    attacked = {label.key for label in demo.labels}
    names = [r["key"] for r in demo.registry]
    assert attacked <= set(names)
    assert not attacked & {names[h.keys[0]] for h in demo.happenings if h.kind == "deploy"}
