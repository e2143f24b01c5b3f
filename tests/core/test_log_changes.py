"""The log itself changes: told once, hardly learned, no alert, and all as before afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from detector.core.events import EventBatch
from detector.core.fleet import FleetStage
from detector.core.fleet_log import FACT_WAIT_US
from detector.core.path_alias import PathAliases, find_alias, prefix_id
from detector.core.registry import KeyRegistry, RegistryEntry
from detector.core.settings import ShardSettings
from detector.core.shard import Shard, state_digest
from models import novelty
from replay.run import Engine
from tests.core.logs import MINUTE_US, START_US, batch_of, h64

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
BEGIN_US = START_US + 4 * DAY_US
KEYS = 20
WHAT = ("client", "path", "network", "network gone")


def fleet(what: str, changed: range = range(KEYS), hours: float = 24.0) -> EventBatch:
    """Six days of ``KEYS`` keys with a network, a client and four routes each.

    From the fifth day on the lines of the ``changed`` keys differ for some hours.
    """
    rng, rows = np.random.default_rng(3), []
    for k in range(KEYS):
        for step in range(6 * 24 * 6):
            ts_us = START_US + step * 10 * MINUTE_US + int(rng.integers(9 * MINUTE_US))
            hit = k in changed and BEGIN_US <= ts_us < BEGIN_US + hours * HOUR_US
            route = f"/v1/thing{k % 5}/{int(rng.integers(4))}"
            network, client = f"10.{k}.{int(rng.integers(2))}", f"sdk{k % 3}/2"
            if hit and what == "path":
                route = "/gateway" + route
            if hit and what == "network":
                network = "172.16.0"
            if hit and what == "client":
                client = "proxy/1"
            rows.append((ts_us, f"key{k}", network, client, f"GET {route}", 200))
    batch = batch_of(sorted(rows))
    hit = (batch.ts_us >= BEGIN_US) & (batch.ts_us < BEGIN_US + hours * HOUR_US)
    if what == "network gone":
        batch.network[hit] = batch.block[hit] = 0
    if what == "client gone":
        batch.client[hit] = 0
    return batch


def run(batch, n_shards=1, cuts=(), registry=None, settings=None, n=40.0):
    settings = settings or ShardSettings()
    shards = [Shard(settings, registry) for _ in range(n_shards)]
    engine = Engine(shards, FleetStage(n, settings=settings, lowest=0.5))
    for lo, hi in zip([0, *cuts], [*cuts, len(batch)], strict=True):
        engine.fold(batch.take(slice(lo, hi)))
    return engine, engine.finish()


def known(shard: Shard) -> dict[str, np.ndarray]:
    """What the novelty of a shard's keys has learned, in key order."""
    state = shard.canonical().rows
    order = np.argsort(state["keys"]["lo"])
    return {name: state["novelty"][name][order] for name in ("new", "bursts")}


@pytest.mark.parametrize("what", [*WHAT, "client gone"])
def test_a_change_of_all_lines_is_one_notice_and_no_alert(what):
    """Whatever changes on every line for a day: one sentence about it, within minutes."""
    engine, _ = run(fleet(what))
    assert [a.key for a in engine.alerts] == ["*"]
    assert "the log changed" in engine.alerts[0].reasons[0].text
    assert BEGIN_US < engine.alerts[0].alerted_us < BEGIN_US + HOUR_US


@pytest.mark.parametrize("what", [*WHAT, "client gone"])
def test_a_changed_field_teaches_two_new_values_at_most(what):
    """After a day of it, churn differs by a path's first two requests, or by one new value."""
    changed, plain = (Shard(ShardSettings()) for _ in range(2))
    changed.fold(fleet(what))
    plain.fold(fleet("nothing"))
    for name, values in known(changed).items():
        more = values - known(plain)[name]
        assert more.max() <= (2.0 if what == "path" else 1.0), (what, name)
        assert more.min() > -0.05, (what, name)


@pytest.mark.parametrize("what", [*WHAT, "client gone"])
def test_when_the_field_is_back_nobody_stands_out(what):
    """The old values are the keys' own as before: no episode opens after the end."""
    _, episodes = run(fleet(what))
    end_us = BEGIN_US + DAY_US
    assert not [e for e in episodes if e.key != "*" and e.last_seen_us >= end_us]


def test_a_broken_field_does_not_age():
    """Two days without the field are no exposure: a new value costs what it did before."""
    batch = fleet("client gone", hours=48.0)
    shard, before = Shard(ShardSettings()), Shard(ShardSettings())
    shard.fold(batch)
    before.fold(batch.take(shard_rows(batch)))
    now, then = (s.canonical().rows["novelty"] for s in (shard, before))
    for kind, least, most in ((novelty.CLIENT, 0.9, 1.02), (novelty.NETWORK, 1.3, 1.6)):
        grown = (now["exposure"] - now["absent"][:, kind]) / then["exposure"]
        assert least < grown.mean() < most, kind


def shard_rows(batch: EventBatch) -> slice:
    return slice(0, int(np.searchsorted(batch.ts_us, BEGIN_US)))


@pytest.mark.parametrize("what", WHAT)
def test_shards_and_batches_do_not_matter(what):
    """Alerts, episodes and state are byte-equal for 1, 4 and 12 shards and any cuts."""
    batch = fleet(what, hours=6.0)
    cuts = [shard_rows(batch).stop + 7, len(batch) - 400]
    (one, episodes), (many, others), (cut, more) = (
        run(batch),
        run(batch, n_shards=4),
        run(batch, n_shards=12, cuts=cuts),
    )
    assert repr(one.alerts) == repr(many.alerts) == repr(cut.alerts)
    assert repr(episodes) == repr(others) == repr(more)
    digests = {state_digest(e.shards) for e in (one, many, cut)}
    assert len(digests) == 1


def test_a_restored_shard_knows_its_prefix():
    """State through bytes in the middle of a change gives the same digest."""
    batch = fleet("path", hours=6.0)
    cut = shard_rows(batch).stop + 50
    one, other = Shard(ShardSettings()), Shard(ShardSettings())
    whole = one.fold(batch)
    first = other.fold(batch.take(slice(0, cut)))
    other = Shard.from_state(other.to_state(), ShardSettings())
    rest = other.fold(batch.take(slice(cut, None)))
    assert repr(whole) == repr(first + rest)
    assert one.digest() == other.digest()


def test_one_key_that_moves_is_no_change_of_the_log():
    """A single key that moves is told to the fleet stage, which says nothing."""
    batch = fleet("network", changed=range(1))
    changes = {c.change for c in Shard(ShardSettings()).fold(batch) if c.change}
    assert changes == {"network/172.16.0.0/24"}
    engine, _ = run(batch)
    assert engine.fleet.notices == 0


def test_a_move_that_lasts_is_learned():
    """Three days later the new network is learned like any other; nobody is held for ever."""
    batch = fleet("network", changed=range(1), hours=1000.0)
    who = ("key0", "172.16.0", "sdk0/2", "GET /v1/thing0/1", 200)
    times = [START_US + (6 * 144 + i) * 10 * MINUTE_US for i in range(12 * 144)]
    longer = batch_of([(ts_us, *who) for ts_us in times])
    shard = Shard(ShardSettings())
    shard.fold(EventBatch.concat([batch, longer]))
    pairs = shard.canonical().rows["pairs"]
    newest = pairs[(pairs["first_cell"] >= BEGIN_US // (15 * MINUTE_US)) & (pairs["entry"] > 0)]
    assert newest["days"].max() >= 3


def registry() -> KeyRegistry:
    """Every key may call its own things and nothing else."""
    return KeyRegistry(
        RegistryEntry(f"key{k}", grants=(f"* /v1/thing{k % 5}/**",)) for k in range(KEYS)
    )


def test_a_prefix_on_all_paths_breaks_no_grant():
    """Grants that fit without the new first segment: one notice, no hard fact."""
    batch = fleet("path")
    busy = np.repeat(np.arange(len(batch)), 4)  # four requests at a time: three make it sure
    engine, _ = run(batch.take(busy), registry=registry())
    assert [a.key for a in engine.alerts] == ["*"]


def test_a_prefix_on_one_keys_paths_is_out_of_its_grant():
    """Nobody else changed: the fact is told, a quarter of an hour after it happened."""
    engine, _ = run(fleet("path", changed=range(1)), registry=registry())
    facts = [a for a in engine.alerts if a.is_hard]
    assert [a.key for a in facts] == ["key0"]
    assert BEGIN_US <= facts[0].opened_us < BEGIN_US + HOUR_US
    waited_us = facts[0].alerted_us - facts[0].opened_us
    assert waited_us == 0  # an alert is as of its own event
    assert FACT_WAIT_US == 15 * MINUTE_US


def test_a_prober_gets_no_alias():
    """Whoever tries known paths under a made-up prefix is refused, and looks like a prober."""
    rows = [
        (BEGIN_US + i * 1_000_000, "key0", "10.0.0", "sdk0/2", f"GET /old/v1/thing0/{i % 4}", 404)
        for i in range(40)
    ]
    shard = Shard(ShardSettings())
    shard.fold(fleet("nothing").take(slice(0, shard_rows(fleet("nothing")).stop)))
    shard.fold(batch_of(rows))
    fields = shard.canonical().rows["fields"]
    assert not fields["run"][:, 2].any()
    assert shard.canonical().rows["probing"]["now"].max() > 0


def test_aliases_do_not_depend_on_the_order_of_names():
    """Long before short or short before long: the same alias."""
    long, short = "GET /api/v1/a", "GET /v1/a"
    for order in ((long, short), (short, long)):
        aliases = PathAliases()
        for text in order:
            aliases.learn({h64(text): text})
        at = find_alias(aliases.table, np.uint64(h64(long)))
        assert aliases.table[at]["plain"] == h64(short)
        assert aliases.table[at]["prefix"] == prefix_id("/api")
        assert find_alias(aliases.table, np.uint64(h64(short))) == -1


def test_many_aliases_are_all_found():
    """The table grows, and loses none."""
    aliases = PathAliases()
    texts = [f"GET /v1/thing{i}" for i in range(500)]
    longer = [t.replace("/v1", "/api/v1") for t in texts]
    aliases.learn({h64(t): t for t in texts + longer})
    for text, plain in zip(longer, texts, strict=True):
        at = find_alias(aliases.table, np.uint64(h64(text)))
        assert aliases.table[at]["plain"] == h64(plain)


def test_without_the_mechanism_a_change_is_learned():
    """``--ablate log``: the same log leaves its mark, so the tests above test something."""
    settings = ShardSettings(without=("log",))
    shard, plain = Shard(settings), Shard(settings)
    shard.fold(fleet("path"))
    plain.fold(fleet("nothing"))
    assert known(shard)["new"][:, novelty.ROUTE].mean() > (
        known(plain)["new"][:, novelty.ROUTE].mean() + 1
    )
