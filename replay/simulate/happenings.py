"""Benign things that happen to a fleet on purpose: what a detector must not mistake for theft.

Each function makes one thing happen to one key or a group, from ``at_us`` on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from replay.simulate import addresses, api, randomness
from replay.simulate.columns import columns
from replay.simulate.keys import Change, KeyPlan, clients_of
from replay.simulate.settings import DAY_US, HOUR_US, MINUTE_US, KeyClass
from replay.simulate.traffic import Outage, RateChange, dress

if TYPE_CHECKING:
    from replay.simulate.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Happening:
    """What happened to whom, for the account of a simulation; keys by number."""

    kind: str
    keys: tuple[int, ...]
    start_us: int
    end_us: int


def new_version(fleet: Fleet, rng: np.random.Generator, key: int, at_us: int, major: bool) -> None:
    """A new client version takes over in three steps within a quarter of an hour."""
    plan = fleet.plans[key]
    old = plan.state_at(at_us).clients
    if major and not has_version(plan):  # a library's own text gives way to a program's
        plan.client_text = api.own_client(plan.owner, rng)
    plan.version = (plan.version[0] + 1, 0) if major else (plan.version[0], plan.version[1] + 1)
    new = clients_of(rng, plan, fleet.words)
    slow = 48 if plan.key_class == KeyClass.MOBILE else 1  # phones update over half a day
    for minute, share in ((0, 0.25), (5, 0.6)):
        mixed = [(c, w * (1 - share)) for c, w in old] + [(c, w * share) for c, w in new]
        plan.changes.append(Change(at_us + slow * minute * MINUTE_US, "clients", tuple(mixed)))
    plan.changes.append(Change(at_us + slow * 14 * MINUTE_US, "clients", new))


def has_version(plan: KeyPlan) -> bool:
    """True when the key's client text names the customer's or SDK's version."""
    return "{}" in plan.client_text


def deploy(fleet: Fleet, rng: np.random.Generator, key: int, at_us: int) -> Happening:
    """A customer's release: a new client version and a route it never called before."""
    plan = fleet.plans[key]
    chance = 0.5 if has_version(plan) else 0.15
    new_version(fleet, rng, key, at_us, major=rng.random() < chance)
    used = {r for r, _ in plan.state_at(at_us).routes}
    area = int(rng.choice(plan.areas))
    pool = [r for r in api.routes_where(area) + api.routes_where(area, True) if r not in used]
    if pool:
        route = ((int(rng.choice(pool)), float(rng.uniform(0.05, 0.4))),)
        plan.changes.append(Change(at_us + 14 * MINUTE_US, "route", route))
    return fleet.note("deploy", (key,), at_us, at_us + 14 * MINUTE_US)


def egress_change(fleet: Fleet, rng: np.random.Generator, key: int, at_us: int) -> Happening:
    """The key's machines move: all of its addresses are new within minutes."""
    plan = fleet.plans[key]
    where = addresses.home_network if plan.key_class == KeyClass.DEVELOPER else _hosting
    network = where(rng)
    old = plan.state_at(at_us).addresses
    spots = tuple((addresses.host_in(rng, network), w) for _, w in old)
    plan.changes.append(Change(at_us, "addresses", old + spots))
    plan.changes.append(Change(at_us + 8 * MINUTE_US, "addresses", spots))
    return fleet.note("egress_change", (key,), at_us, at_us + 8 * MINUTE_US)


def _hosting(rng: np.random.Generator) -> int:
    return addresses.hosting_network(rng)


def rotate(fleet: Fleet, rng: np.random.Generator, key: int) -> None:
    """The churn of cloud NAT: now and then one address is swapped for one of the provider's."""
    plan, at_us = fleet.plans[key], fleet.settings.start_us
    mean_h = float(rng.uniform(6, 48))
    spots = list(plan.state.addresses)
    while True:
        at_us += int(rng.exponential(mean_h) * HOUR_US) + MINUTE_US
        if at_us >= fleet.settings.end_us:
            return
        address = addresses.host_in(rng, int(rng.choice(plan.networks)))
        spots[int(rng.integers(len(spots)))] = (address, 1.0)
        plan.changes.append(Change(at_us, "addresses", tuple(spots)))


def batch_job(fleet: Fleet, rng: np.random.Generator, key: int, at_us: int) -> Happening:
    """About eight times the usual volume for one to three hours, same sources and routes."""
    end_us = at_us + int(rng.uniform(0.8, 3) * HOUR_US)
    factor = float(rng.uniform(6, 10))
    fleet.rate_changes.append(RateChange((key,), at_us, end_us, factor))
    return fleet.note("batch_job", (key,), at_us, end_us)


def marketing_spike(fleet: Fleet, rng: np.random.Generator, at_us: int) -> Happening:
    """A campaign: a tenth of the keys get two to six times their traffic for some hours."""
    n = max(1, len(fleet.plans) // 10)
    keys = tuple(int(k) for k in np.sort(rng.permutation(len(fleet.plans))[:n]))
    peak, end_us = float(rng.uniform(2, 6)), at_us + int(rng.uniform(2, 5) * HOUR_US)
    middle = (at_us + end_us) // 2
    fleet.rate_changes.append(RateChange(keys, at_us, middle, peak))
    fleet.rate_changes.append(RateChange(keys, middle, end_us, 1 + (peak - 1) / 3))
    return fleet.note("marketing_spike", keys, at_us, end_us)


def outage(fleet: Fleet, rng: np.random.Generator, at_us: int) -> Happening:
    """A service of the API fails for minutes; its users get 5xx and retry."""
    area, end_us = int(rng.integers(api.N_AREAS)), at_us + int(rng.uniform(10, 40) * MINUTE_US)
    keys = tuple(p.number for p in fleet.plans if area in p.areas)
    fleet.outages.append(Outage(area, at_us, end_us, float(rng.uniform(0.4, 0.95))))
    if keys:
        fleet.rate_changes.append(RateChange(keys, at_us, end_us, float(rng.uniform(2, 4))))
    return fleet.note("outage", keys, at_us, end_us)


def curl_from_home(fleet: Fleet, rng: np.random.Generator, key: int, at_us: int) -> Happening:
    """Somebody at the customer debugs by hand: few calls, own routes, another place and client."""
    plan = fleet.plans[key]
    end_us = at_us + int(rng.uniform(4, 50) * MINUTE_US)
    n = int(rng.integers(3, 26))
    ts_us = np.sort(rng.integers(at_us // 1000, end_us // 1000, n)) * 1000
    known = [r for r, _ in plan.state_at(at_us).routes]
    route = rng.choice(known, n)
    if rng.random() < 0.3:
        route[int(rng.integers(n)) :] = rng.choice(api.routes_where(int(rng.choice(plan.areas))))
    status = np.where(rng.random(n) < 0.12, rng.choice([400, 404, 404, 401], n), 200)
    size, latency = dress(rng, route, status)
    fleet.visits.append(
        columns(
            fleet.words,
            ts_us=ts_us,
            key=key,
            route=route,
            ident=plan.ids_from + rng.integers(0, min(plan.ids, 30), n),
            address=addresses.host_in(rng, addresses.home_network(rng)),
            client=fleet.words.client(str(rng.choice(api.BY_HAND))),
            status=status,
            size_bytes=size,
            latency_ms=latency,
        )
    )
    return fleet.note("curl_from_home", (key,), at_us, end_us)


def sdk_release(fleet: Fleet, rng: np.random.Generator, family: int, at_us: int) -> Happening:
    """A new major version of an SDK: most of its users adopt it within three days."""
    users = [p.number for p in fleet.plans if p.family == family]
    keys = tuple(k for k in users if rng.random() < 0.6)
    for key in keys:
        new_version(fleet, rng, key, at_us + int(rng.uniform(0, 3) * DAY_US), major=True)
    return fleet.note("sdk_release", keys, at_us, at_us + 3 * DAY_US)


def onboarding(fleet: Fleet, key: int, at_us: int) -> Happening:
    """The key is issued now: no traffic before."""
    fleet.plans[key].born_us = at_us
    return fleet.note("onboarding", (key,), at_us, at_us)


# mean days between two of a kind, per key; and which classes they happen to
_PER_KEY = (
    (deploy, 45, (KeyClass.SERVER, KeyClass.CLOUD, KeyClass.MOBILE)),
    (egress_change, 90, (KeyClass.SERVER, KeyClass.BATCH, KeyClass.DEVELOPER)),
    (batch_job, 30, (KeyClass.SERVER, KeyClass.CLOUD, KeyClass.BATCH)),
    (curl_from_home, 60, (KeyClass.SERVER, KeyClass.CLOUD, KeyClass.BATCH)),
)


def plan_happenings(fleet: Fleet) -> None:
    """Draws what happens during the fleet's span, by the settings' frequency."""
    often = fleet.settings.happenings
    for plan in fleet.plans:
        rng = randomness.stream(fleet.seed, randomness.HAPPENINGS, plan.number)
        if plan.key_class == KeyClass.CLOUD:
            rotate(fleet, rng, plan.number)
        for function, mean_days, key_classes in _PER_KEY:
            if plan.key_class in key_classes:
                for at_us in _times(fleet, rng, mean_days / often if often else 0):
                    function(fleet, rng, plan.number, at_us)
    rng = randomness.stream(fleet.seed, randomness.HAPPENINGS, 1 << 20)
    if not often:
        return
    for at_us in _times(fleet, rng, 10 / often):
        marketing_spike(fleet, rng, at_us)
    for at_us in _times(fleet, rng, 7 / often):
        outage(fleet, rng, at_us)
    for at_us in _times(fleet, rng, 21 / often):
        sdk_release(fleet, rng, int(rng.integers(len(api.FAMILIES))), at_us)
    for plan in fleet.plans:
        if rng.random() < min(1.0, 0.04 * often):
            onboarding(fleet, plan.number, _somewhen(fleet, rng))


def _horizon_us(fleet: Fleet) -> int:
    quiet = fleet.settings.quiet_from_us
    return fleet.settings.end_us if quiet is None else min(quiet, fleet.settings.end_us)


def _somewhen(fleet: Fleet, rng: np.random.Generator) -> int:
    return int(rng.integers(fleet.settings.start_us, _horizon_us(fleet)))


def _times(fleet: Fleet, rng: np.random.Generator, mean_days: float) -> list[int]:
    """Times of a Poisson process, in order; none for ``mean_days`` 0."""
    out: list[int] = []
    at_us = fleet.settings.start_us
    while mean_days:
        at_us += 1 + int(rng.exponential(mean_days) * DAY_US)
        if at_us >= _horizon_us(fleet):
            break
        out.append(at_us)
    return out
