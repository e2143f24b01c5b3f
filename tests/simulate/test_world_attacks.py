"""The attack scenarios: each does what its docstring says, and nothing marks its rows."""

from __future__ import annotations

import numpy as np
import pytest

from detector.decode.client import client_of
from replay.simulate import api
from replay.simulate.columns import EventColumns
from replay.simulate.world import World, WorldSettings
from replay.simulate.world_batch import route_text
from replay.simulate.world_settings import ALL_ATTACKS
from replay.simulate.world_wire import joined
from tests.simulate.worlds import DAY_US, attack_rows, small

HOUR_US = DAY_US // 24


def _networks(rows: EventColumns) -> set[int]:
    return set((rows.address >> 8).tolist())


def _clients(rows: EventColumns) -> set[str]:
    texts = rows.vocabulary.clients
    return {client_of(texts[c]) for c in np.unique(rows.client)}


def _before(own: EventColumns, hostile: EventColumns) -> EventColumns:
    return own.take(np.flatnonzero(own.ts_us < hostile.ts_us[0]))


def _key(world: World, rows: EventColumns):
    return world._plan.keys[int(rows.key[0])]


@pytest.mark.parametrize("scenario", ["A01", "A03", "A04", "A05", "A07", "A09", "A19", "A20"])
def test_strangers_come_from_new_networks(scenario):
    """None of the thief's /24s is one the owner ever uses; A03 alone has more than a few."""
    _, hostile, own = attack_rows(scenario)
    assert not _networks(hostile) & _networks(own)
    assert (len(_networks(hostile)) > 4) == (scenario == "A03")


def test_a_new_provider_is_a_new_block():
    """A01 comes from a /16 the owner has never come from, with a program it never used."""
    _, hostile, own = attack_rows("A01")
    assert not set((hostile.address >> 16).tolist()) & set((own.address >> 16).tolist())
    assert not _clients(hostile) & _clients(_before(own, hostile))


def test_the_same_provider_is_an_old_block_and_an_old_client():
    """A02 has a new /24 in a /16 of the owner's, and the owner's client."""
    _, hostile, own = attack_rows("A02")
    assert not _networks(hostile) & _networks(_before(own, hostile))
    assert set((hostile.address >> 16).tolist()) <= set((own.address >> 16).tolist())
    assert _clients(hostile) <= _clients(own)


def test_a_perfect_copy_differs_by_network_only():
    """A04 has client and routes of the owner."""
    world, hostile, own = attack_rows("A04")
    assert _clients(hostile) <= _clients(own)
    known = {r for r, _ in _key(world, hostile).state_at(int(hostile.ts_us[0])).routes}
    assert set(hostile.route.tolist()) <= known


def test_quiet_theft_is_quiet():
    """A05 makes one to five requests an hour for at least half a day."""
    _, hostile, _ = attack_rows("A05")
    hours = (hostile.ts_us[-1] - hostile.ts_us[0]) / HOUR_US
    assert hours > 10
    assert 0.9 < len(hostile) / hours < 5.5


def test_theft_in_the_crowd_hits_a_key_with_many_networks():
    """A06 attacks apps and keys behind cloud NAT."""
    world, hostile, _ = attack_rows("A06")
    assert world.key_class[_key(world, hostile).name] in ("mobile", "cloud")


def test_owner_and_thief_take_turns():
    """A07 has requests of both within the same quarter of an hour."""
    _, hostile, own = attack_rows("A07")
    cell = 900_000_000
    assert set((hostile.ts_us // cell).tolist()) & set((own.ts_us // cell).tolist())
    assert _clients(hostile) <= _clients(own)


def test_a_dormant_key_stays_silent_but_for_the_thief():
    """A08: the owner was there, has gone before the test period, and does not come back."""
    _, hostile, own = attack_rows("A08")
    assert len(own)
    assert own.ts_us[-1] < hostile.ts_us[0] - HOUR_US


def test_a_fresh_key_is_stolen_on_its_first_day():
    """A09: the key's first request of all is less than a day before the theft."""
    _, hostile, own = attack_rows("A09")
    assert hostile.ts_us[0] - min([*own.ts_us[:1].tolist(), hostile.ts_us[0]]) < DAY_US


def test_floods_come_from_within():
    """A10 multiplies the owner's own sources and routes by 8 to 100 (or reaches the limit)."""
    world, hostile, own = attack_rows("A10")
    attack = next(a for a in world.attacks if a.scenario == "A10")
    assert attack.rate_ratio > 5
    assert _clients(hostile) <= _clients(own)
    used = {r for r, _ in _key(world, hostile).state_at(int(hostile.ts_us[0])).routes}
    assert set(hostile.route.tolist()) <= used


def test_a_burst_is_over_in_five_minutes():
    """A11 has at least thirty requests in less than five minutes."""
    _, hostile, _ = attack_rows("A11")
    assert hostile.ts_us[-1] - hostile.ts_us[0] < 300_000_000
    assert len(hostile) >= 30


@pytest.mark.parametrize("scenario", ["A12", "A21"])
def test_attacks_on_many_keys_share_few_networks(scenario):
    """A12 and A21 hit a fifth of a small fleet (50 and 30 of a large one) of many owners."""
    world, hostile, _ = attack_rows(scenario)
    attack = next(a for a in world.attacks if a.scenario == scenario)
    assert len(attack.keys) == 12 == len(np.unique(hostile.key))
    assert len({world.owner[k] for k in attack.keys}) >= 7
    assert len(_networks(hostile)) <= (1 if scenario == "A21" else 12)
    assert len(_clients(hostile)) == 1


def test_large_fleets_are_hit_at_the_stated_width():
    """A12 takes 50 keys, A21 30 keys of at least ten owners, in a fleet of 400."""
    settings = WorldSettings(
        3, keys=400, days=4, quiet_days=1, attacks_per_scenario=1, attacks=("A12", "A21")
    )
    world = World(settings)
    by_name = {a.scenario: a for a in world.attacks}
    assert len(by_name["A12"].keys) == 50
    assert len(by_name["A21"].keys) == 30
    assert len({world.owner[k] for k in by_name["A21"].keys}) >= 25


def test_enumeration_walks_and_scraping_scatters():
    """A13 goes up in steps of 1 to 3; A15 asks for each object once, none of them the owner's."""
    _, hostile, _ = attack_rows("A13")
    assert set(np.diff(hostile.ident).tolist()) <= {1, 2, 3}
    _, hostile, own = attack_rows("A15")
    assert len(np.unique(hostile.ident)) == len(hostile)
    assert not set(hostile.ident.tolist()) & set(_before(own, hostile).ident.tolist())


def test_guesses_mostly_miss():
    """A14 is answered 404 more often than not."""
    _, hostile, _ = attack_rows("A14")
    assert (hostile.status == 404).mean() > 0.4
    assert len(np.unique(hostile.ident)) > 0.8 * len(hostile)


def test_a_prober_tries_many_routes_and_fails():
    """A16 fails on most of its requests, on many different routes."""
    _, hostile, _ = attack_rows("A16")
    assert (hostile.status >= 400).mean() > 0.5
    assert len(np.unique(hostile.route)) > min(40, 0.3 * len(hostile))


def test_only_one_scenario_succeeds_outside_grants():
    """A17's requests all succeed outside the declared grants; nobody else's ever do."""
    world, rows = small()
    registry = world.registry()
    assert registry.has_grants
    texts = [route_text(route) for route in api.routes()]
    number = next(a.number for a in world.attacks if a.scenario == "A17")
    inside = np.array(
        [[registry.allows(name, text) for text in texts] for name in rows.vocabulary.keys]
    )
    outside = ~inside[rows.key, rows.route] & (rows.status < 300)
    assert (outside == (rows.attack == number)).all()


def test_slow_exfiltration_lasts_and_stays_small():
    """A18 fills most of the test period with less than the owner's own volume, from its sources."""
    world, hostile, own = attack_rows("A18")
    attack = next(a for a in world.attacks if a.scenario == "A18")
    assert hostile.ts_us[-1] - hostile.ts_us[0] > 2 * DAY_US
    assert attack.rate_ratio < 3
    assert _clients(hostile) <= _clients(own)


def test_night_only():
    """A19 comes between midnight and five of the owner's time zone."""
    world, hostile, _ = attack_rows("A19")
    local = hostile.ts_us + int(_key(world, hostile).zone_h * HOUR_US)
    assert (local % DAY_US < 5.26 * HOUR_US).all()


def test_poison_grows():
    """A20 arrives within half a day of the test period and ends with more than it began with."""
    settings = WorldSettings(
        3, keys=60, days=16, quiet_days=2, attacks_per_scenario=1, attacks=("A20",)
    )
    world = World(settings)
    hostile = joined([c.take(np.flatnonzero(c.attack == 0)) for c in world.chunks()])
    assert hostile.ts_us[0] < settings.test_us + DAY_US
    assert hostile.ts_us[-1] - hostile.ts_us[0] > 9 * DAY_US
    third = (hostile.ts_us[-1] - hostile.ts_us[0]) / 3
    first = (hostile.ts_us < hostile.ts_us[0] + third).sum()
    last = (hostile.ts_us > hostile.ts_us[-1] - third).sum()
    assert last > 1.3 * first


def test_an_insider_has_new_routes_only():
    """A22 comes from the owner's sources and client, on routes that are none of the owner's."""
    world, hostile, own = attack_rows("A22")
    usual = _key(world, hostile).state_at(int(hostile.ts_us[0]))
    assert not set(hostile.route.tolist()) & {r for r, _ in usual.routes}
    assert _clients(hostile) <= _clients(own)


@pytest.mark.parametrize("scenario", ALL_ATTACKS)
def test_the_owner_carries_on(scenario):
    """Benign requests of the victims go on after the attack began, except for dormant keys."""
    world, hostile, own = attack_rows(scenario)
    rest_us = world.settings.end_us - int(hostile.ts_us[0])
    expected = world._plan.own_rate(_key(world, hostile), int(hostile.ts_us[0])) * rest_us / 9e8
    after = (own.ts_us > hostile.ts_us[0]).sum()
    if scenario == "A08":
        assert after == 0
    elif expected > 30:
        assert after > 0


def test_attackers_have_what_customers_have():
    """Programs and address ranges of attackers are among those of the fleet's benign life."""
    world = World(WorldSettings(8, keys=300, days=4, quiet_days=1, attacks_per_scenario=1))
    rows = list(world.chunks())
    ranges, programs = ([set(), set()] for _ in range(2))
    for chunk in rows:
        for hostile in (0, 1):
            mine = chunk.take(np.flatnonzero((chunk.attack >= 0) == hostile))
            ranges[hostile] |= set((mine.address >> 24).tolist())
            programs[hostile] |= {c.split("/")[0] for c in _clients(mine)}
    assert ranges[1] <= ranges[0]
    assert programs[1] <= programs[0]


def test_ratios_cover_the_range():
    """Thieves are from far smaller to far larger than the owner's own traffic."""
    world = World(WorldSettings(1, keys=1000, days=21, quiet_days=7, attacks_per_scenario=6))
    mine = [a.rate_ratio for a in world.attacks if a.scenario in ("A01", "A02", "A04", "A06")]
    assert sum(r < 0.3 for r in mine) >= 4
    assert sum(r > 3 for r in mine) >= 4
    assert all(a.requests == 0 for a in world.attacks)
