"""The log of a world: the same as columns and as lines, and what befalls it on the way."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detector.config import Config
from detector.core.events import EventBatch, RecordBatch
from detector.decode import DecodeSettings, make_decoder
from detector.decode.seed import PUBLIC_SEED
from detector.registry import load_registry
from replay.labels import read_labels
from replay.run import Engine, replay_files
from replay.simulate.world import ALL_BENIGN, World, WorldSettings
from replay.simulate.world_output import write_world
from replay.simulate.world_wire import joined
from tests.simulate.worlds import DAY_US, SMALL, small

KINDS = ("keys", "networks", "clients", "routes", "areas")


@pytest.mark.parametrize("benign", [None, ("L01a",), ("L01b",), ("L01c",)])
def test_columns_equal_what_the_decoder_makes_of_the_lines(benign):
    """Every column of every event, and every name, is the decoder's, bit for bit."""
    more = {} if benign is None else {"benign": benign}
    world = World(WorldSettings(3, keys=40, days=2, quiet_days=1, attacks_per_scenario=0, **more))
    settings = DecodeSettings(hash_seed=PUBLIC_SEED, trust_event_time=True)
    decoder = make_decoder("canonical", settings)
    offset = 0
    for (batch, _), rows in zip(world.batches(), world.lines(), strict=True):
        lines = rows.lines()
        offsets = offset + np.arange(len(lines))
        none = np.full(len(lines), -1, np.int64)
        read = decoder.decode(RecordBatch("log", 0, lines, offsets, none))
        assert not read.rejected
        for column in EventBatch.COLUMNS:
            ours, theirs = getattr(batch, column), getattr(read.batch, column)
            assert ours.dtype == theirs.dtype, column
            assert (ours == theirs).all(), column
        for kind in KINDS:
            assert getattr(read.batch.names, kind).items() <= getattr(batch.names, kind).items()
        offset += len(lines)
    assert offset > 20_000


def test_streaming_and_replaying_the_file_give_the_same_alerts(tmp_path):
    """The engine says the same about a world's columns and about its written log."""
    world = World(WorldSettings(7, **SMALL))
    log, labels, registry = (tmp_path / n for n in ("log.ndjson", "labels", "keys"))
    lines = write_world(world, log, labels=labels, registry=registry)
    config = Config.model_validate({"keys": {"registry": registry}})
    summary = replay_files([log], tmp_path / "out", config, labels=labels)
    assert summary["lines"] == summary["accepted"] == lines
    engine = _engine(config, world)
    for batch, _ in world.batches():
        engine.fold(batch)
    episodes = engine.finish()
    for name, ours in (("alerts", engine.alerts), ("episodes", episodes)):
        written = (tmp_path / f"out/{name}.ndjson").read_text().splitlines()
        assert [json.loads(line) for line in written] == json.loads(
            json.dumps([e.to_record() for e in ours])
        )
        assert ours
    assert {label.kind for label in read_labels(labels)} == set(world.settings.attacks)
    assert load_registry(registry).digest == world.registry().digest


def _engine(config: Config, world: World) -> Engine:
    from replay.run import _engine as make

    engine = make(config, 1)
    assert engine.shards[0].registry is not None
    assert engine.shards[0].registry.digest == world.registry().digest
    return engine


def _rows(scenario: str, *, seed: int = 11):
    """The world's log with and without one scenario, and the scenario's own record."""
    worlds = [
        World(WorldSettings(seed, keys=60, days=4, quiet_days=1, attacks=(), benign=benign))
        for benign in ((scenario,), ())
    ]
    logs = [joined(list(world.chunks())) for world in worlds]
    [happening] = worlds[0].happenings
    return logs[0], logs[1], happening


def test_a_skewed_clock_shifts_some_times_and_nothing_else():
    """B17: the same requests, some of them up to ten minutes early or late, still in order."""
    log, plain, happening = _rows("B17")
    assert len(log) == len(plain)
    assert (np.diff(log.ts_us) >= 0).all()
    by_serial = np.argsort(log.serial), np.argsort(plain.serial)
    shift = log.ts_us[by_serial[0]] - plain.ts_us[by_serial[1]]
    assert 300_000_000 <= abs(shift).max() <= 600_000_000
    assert len(np.unique(shift)) == 2
    names = np.array(log.vocabulary.keys)
    assert set(names[plain.key[by_serial[1]][shift != 0]]) <= set(happening.keys)


def test_duplicates_follow_their_originals():
    """B18: some events appear twice with the same request id and time, and nothing is lost."""
    log, plain, happening = _rows("B18")
    assert (np.diff(log.ts_us) >= 0).all()
    serials, counts = np.unique(log.serial, return_counts=True)
    assert len(serials) == len(plain)
    assert counts.max() == 2
    twice = log.take(np.flatnonzero(np.isin(log.serial, serials[counts == 2])))
    assert (twice.ts_us >= happening.start_us).all()
    assert (twice.ts_us < happening.end_us).all()


def test_a_late_shipment_arrives_at_once_with_old_times():
    """B19: the log leaves time order only where six hours of some keys' events arrive late."""
    log, plain, happening = _rows("B19")
    assert sorted(log.serial.tolist()) == sorted(plain.serial.tolist())
    back_us = np.maximum.accumulate(log.ts_us) - log.ts_us
    late = np.flatnonzero(back_us)
    assert len(late)
    assert 3 * 3_600_000_000 < back_us.max() <= 6 * 3_600_000_000
    assert late[-1] - late[0] < 1.2 * len(late)
    assert {log.vocabulary.keys[k] for k in np.unique(log.key[late])} <= set(happening.keys)


def test_the_log_itself_changes():
    """L01: from one time on every line lacks its agent, has a path prefix, or one address."""
    for what, field in (("L01a", "user_agent"), ("L01b", "path"), ("L01c", "source_ip")):
        log, _, happening = _rows(what)
        records = [json.loads(line) for line in log.take(slice(0, None, 50)).lines()]
        after = log.ts_us[::50] >= happening.start_us
        values = [[r[field] for r, a in zip(records, after, strict=True) if a == b] for b in (0, 1)]
        if what == "L01b":
            assert not any(v.startswith("/api/v") for v in values[0])
            assert all(v.startswith("/api/") for v in values[1])
        else:
            assert len(set(values[1])) == 1 < len(set(values[0]))
        assert (None in values[1]) == (what == "L01a")


def test_a_change_of_the_log_may_end_and_a_field_may_appear():
    """L01e to L01g last about a day; L01d is a user agent where there was none."""
    for what, field in (("L01e", "client"), ("L01f", "route"), ("L01g", "address")):
        log, plain, happening = _rows(what)
        differs = getattr(log, field) != getattr(plain, field)
        inside = (log.ts_us >= happening.start_us) & (log.ts_us < happening.end_us)
        assert np.array_equal(np.flatnonzero(differs), np.flatnonzero(differs & inside))
        assert differs[inside].mean() > 0.9
        assert 18 <= (happening.end_us - happening.start_us) / 3_600_000_000 <= 30
    log, _, happening = _rows("L01d")
    assert len(set(log.client[log.ts_us < happening.start_us].tolist())) == 1
    assert len(set(log.client[log.ts_us >= happening.start_us].tolist())) > 5


def test_more_scenarios_change_nothing_that_is_not_theirs():
    """A world without its named scenarios is the same world: noise is drawn apart from them."""
    _, plain, _ = _rows("B17")
    _, again, _ = _rows("B18")
    assert plain.block() == again.block()


def test_files_are_not_overwritten_unasked(tmp_path):
    """An existing file is refused in one sentence, and taken with force."""
    from detector.core.errors import UsageError

    world = World(WorldSettings(1, keys=30, days=2, quiet_days=1, attacks=(), benign=()))
    path = tmp_path / "log.ndjson.gz"
    first = write_world(world, path)
    with pytest.raises(UsageError, match="--force"):
        write_world(world, path)
    with pytest.raises(UsageError, match="different files"):
        write_world(world, tmp_path / "x", labels=tmp_path / "x")
    data = path.read_bytes()
    assert write_world(world, path, force=True) == first > 1000
    assert path.read_bytes() == data


def test_benign_life_has_its_named_events():
    """New keys have no past, rotated keys hand over, outages answer 5xx, apps are everywhere."""
    world, rows = small()
    by_name = {h.scenario: h for h in world.happenings}
    number = {name: i for i, name in enumerate(rows.vocabulary.keys)}
    benign = rows.take(np.flatnonzero(rows.attack < 0))

    def of(scenario: str, which: slice = slice(None)):
        keys = [number[k] for k in by_name[scenario].keys[which]]
        return benign.take(np.flatnonzero(np.isin(benign.key, keys)))

    assert (of("B20").ts_us >= by_name["B20"].start_us).all()
    old, new = (of("B10", slice(i, i + 1)) for i in (0, 1))
    assert (old.ts_us < by_name["B10"].end_us + 900_000_000).all()
    assert (new.ts_us >= by_name["B10"].start_us).all()
    during = of("B13")
    inside = (during.ts_us >= by_name["B13"].start_us) & (during.ts_us < by_name["B13"].end_us)
    assert (during.status[inside] >= 500).mean() > 5 * (during.status[~inside] >= 500).mean()
    app = of("B11", slice(0, 1))
    assert len(np.unique(app.address)) > 100
    assert by_name["B09"].end_us - by_name["B09"].start_us <= DAY_US // 4
    assert set(by_name) == set(ALL_BENIGN)
