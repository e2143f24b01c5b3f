"""Bags of evidence: what the fold says of a clean log and of attacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.core import tables
from detector.core.episodes import CHANNELS
from detector.core.shard import Shard
from models import fusion
from models.clock import CELL_US, DAY_US
from replay.simulate.randomness import stream
from replay.tune.abuse import abuses
from replay.tune.collect import Bags, RowTap, collect, counted, directions, settled_part
from replay.tune.fit import scores
from replay.tune.injection import LATER_PART, injected
from replay.tune.splice import splices
from tests.core.logs import START_US, batch_of, fleet_log
from tests.tune.helpers import SETTINGS, bags_of, fleet, row


@pytest.fixture(scope="module")
def attacks():
    return [*splices(fleet(), 20, stream(1)), *abuses(fleet(), 20, stream(2))]


@pytest.fixture(scope="module")
def collected(attacks):
    log = fleet()
    return collect(log, attacks, SETTINGS, stream(3), log.at_us(LATER_PART))


def weights_of(channel):
    return np.array(SETTINGS.channels[channel].weights)


def test_scores_of_bags_are_those_of_the_fold():
    """Evidence and weights give the very score the fold gave the row, caps and nesting included."""
    rows, _ = RowTap(SETTINGS).observe(fleet_log(1))
    assert len(rows) > 100
    for channel in range(3):
        mine = rows[rows["channel"] == channel]
        units = np.arange(len(mine))
        bags = Bags.of(units, mine["z"], np.zeros(len(mine)))
        assert scores(bags, weights_of(channel)) == pytest.approx(mine["score"], abs=2e-3)


def test_what_signs_mean_together_is_apart_from_the_sum():
    """The sum of other weights, and the same correction, give the row's score."""
    settings = replace(SETTINGS, without=())
    rows, _ = RowTap(settings).observe(fleet_log(1))
    rows = rows[(rows["channel"] < 2) & (rows["combined"] != 0.0)]
    assert len(rows) > 20
    for channel in range(2):
        mine = rows[rows["channel"] == channel]
        bags = Bags.of(np.arange(len(mine)), mine["z"], -mine["combined"])
        assert scores(bags, weights_of(channel)) == pytest.approx(mine["score"], abs=2e-3)


def test_collected_bags_hold_the_correction():
    """A settled key-day's bag scores, under the weights in force, what its highest row scored."""
    log, told = fleet(), replace(SETTINGS, without=())
    some = splices(log, 2, stream(1))
    clean = collect(log, some, told, stream(3), log.at_us(LATER_PART)).clean[0]
    rows, at = RowTap(told).observe(log.events)
    number = np.searchsorted(np.unique(log.events.key_lo), log.events.key_lo[at])
    best: dict[int, float] = {}
    for row_, key in zip(rows, number.tolist(), strict=True):
        if row_["channel"] == 0 and row_["known"] == 1.0:
            unit = key << 32 | int(row_["ts_us"]) // DAY_US
            best[unit] = max(best.get(unit, 0.0), float(row_["score"]))
    mine = dict(zip(clean.unit.tolist(), scores(clean, weights_of(0)).tolist(), strict=True))
    both = mine.keys() & best.keys()
    assert len(both) > 10
    assert sum(abs(mine[u] - best[u]) < 0.01 for u in both) > 0.95 * len(both)


def test_the_rows_hold_the_highest_score_of_every_cell():
    """A weak cell after a strong one is seen as well, which an episode's rise would hide."""
    events = fleet().events
    rows, at = RowTap(SETTINGS).observe(events)
    seen, best = {}, {}
    for row_, event in zip(rows, at.tolist(), strict=True):
        hi, lo = int(events.key_hi[event]), int(events.key_lo[event])
        place = (events.names.keys[hi << 64 | lo].text, int(row_["channel"]))
        cell = (*place, int(row_["ts_us"]) // CELL_US)
        seen[cell] = max(seen.get(cell, 0.0), float(row_["score"]))
        best[place] = max(best.get(place, 0.0), float(row_["score"]))
    rises = {}
    for candidate in Shard(_low()).fold(events):
        if candidate.change:  # no episode: it says that the log may have changed
            continue
        e = candidate.episode
        cell = (e.key, CHANNELS.index(e.channel), candidate.ts_us // CELL_US)
        rises[cell] = e.score
    assert all(seen[cell] >= score - 0.25 for cell, score in rises.items())
    assert len(seen) > 1.2 * len(rises)
    for place, score in best.items():
        high = max(s for cell, s in rises.items() if cell[:2] == place)
        assert high == pytest.approx(score, abs=0.25)


def _low():
    low = {c: replace(getattr(SETTINGS, c), floor=1.0) for c in CHANNELS}
    return replace(SETTINGS, **low)


def test_rows_name_their_events():
    """However a log is cut, a row's event is the one at whose time it was written."""
    events = fleet_log(5)
    rows, at = RowTap(SETTINGS).observe(events)
    assert (events.ts_us[at] == rows["ts_us"]).all()
    assert set(np.unique(rows["kind"]).tolist()) <= {tables.OPEN, tables.PEAK}


def test_an_attacked_copy_has_the_victims_history_and_nothing_later(attacks):
    """Each attack is alone with its victim's past, under a key that the log does not have."""
    log = fleet()
    parts = list(injected(log, attacks, stream(3)))
    assert sum(len(p.key_lo) for p in parts) == len(attacks)
    part = parts[0]
    for attack, key_lo in zip(attacks, part.key_lo, strict=False):
        mine = np.flatnonzero(part.events.key_lo == key_lo)
        own = (log.times_of(attack.victim) <= attack.end_us).sum()
        assert len(mine) == own + len(attack.events)
        assert part.events.ts_us[mine].max() == attack.end_us
        assert key_lo not in log.events.key_lo
    assert (np.diff(part.events.ts_us) >= 0).all()


def test_attacks_do_not_touch_each_other(attacks, collected):
    """An attack's evidence is the same with ten others in the log as with all of them."""
    log = fleet()
    few = collect(log, attacks[:10], SETTINGS, stream(3), log.at_us(LATER_PART))
    bags = few.attacks[0]
    both = collected.attacks[0].take(np.isin(collected.attacks[0].unit, bags.unit))
    assert bags.unit.tolist() == both.unit.tolist()
    assert (bags.z == both.z).all()


def test_clean_bags_are_key_days_of_the_later_log(collected):
    """One bag a key and day, none before the time from which attacks could begin."""
    log = fleet()
    for bags in collected.clean[:2]:
        assert len(bags)
        key, day = bags.unit >> 32, bags.unit & 0xFFFFFFFF
        assert (np.diff(bags.unit) > 0).all()
        assert key.max() < log.n_keys
        assert day.min() >= log.at_us(LATER_PART) // DAY_US
        assert day.max() <= log.events.ts_us[-1] // DAY_US


def test_most_attacks_leave_evidence(attacks, collected):
    """The bags are those of the attacks, and most attacks have one in their channel."""
    kinds = np.array([a.kind for a in attacks])
    stolen, abused = collected.attacks[0], collected.attacks[1]
    theft, probing = np.isin(kinds, ["elsewhere", "same network"]), kinds == "probing"
    assert theft[stolen.unit].sum() > 0.6 * theft.sum()
    assert probing[abused.unit].sum() > 0.8 * probing.sum()


def test_a_young_keys_handicap_is_kept():
    """On a key's first day its threshold is raised by up to three nats, and the bag says so."""
    rows = [row(i / 10, "k", network="10.0.0") for i in range(60)]
    rows += [row(6 + i / 60, "k", network="198.51.100", client="curl/8") for i in range(60)]
    found, _ = RowTap(SETTINGS).observe(batch_of(sorted(rows)))
    extra = found["threshold"] - [SETTINGS.channels[c].threshold for c in found["channel"]]
    assert set(found["channel"].tolist()) >= {0}
    assert extra.max() <= 3.0
    assert extra.min() > 2.0
    assert found["ts_us"].min() > START_US


def test_of_nested_families_the_larger_counts():
    """Routes and areas are one piece of evidence, as in the fold's own sum."""
    rng = np.random.default_rng(1)
    z = rng.uniform(0, 9, (50, fusion.N_FAMILIES))
    weights = rng.uniform(0, 1, fusion.N_FAMILIES)
    z = np.minimum(z, np.array(fusion.CAPS))
    expected = [fusion.fuse(row, np.concatenate([weights, weights]), 1.0) for row in z]
    assert counted(z, weights) @ weights == pytest.approx(expected, abs=1e-3)


def test_thinning_loses_no_row_that_could_count(collected):
    """For weights with one family raised, the bag's score is what all its rows would give."""
    log = fleet()
    shard_rows, at = RowTap(SETTINGS).observe(log.events)
    number = np.searchsorted(np.unique(log.events.key_lo), log.events.key_lo[at])
    kept = (shard_rows["channel"] == 0) & (shard_rows["ts_us"] >= log.at_us(LATER_PART))
    rows = shard_rows[kept]
    unit = number[kept].astype(np.int64) << 32 | rows["ts_us"] // DAY_US
    extra = rows["threshold"] - SETTINGS.stolen.threshold
    z, young = settled_part(rows["z"], rows["known"], SETTINGS.stolen)
    whole = Bags.of(unit, z, extra - young)
    thinned = collected.clean[0]
    assert len(thinned.z) < len(whole.z)
    for weights in directions(weights_of(0)):
        assert scores(thinned, weights) == pytest.approx(scores(whole, weights), abs=1e-3)


def test_taking_bags_keeps_them_whole():
    """A chosen bag keeps all of its rows."""
    bags = bags_of([1, 1, 2, 3, 3, 3], new_network=[1, 2, 3, 4, 5, 6])
    some = bags.take(np.array([True, False, True]))
    assert some.unit.tolist() == [1, 3]
    assert some.first.tolist() == [0, 2]
    assert some.z[:, 0].tolist() == [1, 2, 4, 5, 6]
