"""The attack scenarios, by what the attacker does with whose key; see ``SPECS`` for sizes.

Attackers draw networks and programs from what customers have, the API refuses them what it
refuses the owner, and the owner's traffic carries on unless the scenario says otherwise.
"""

from __future__ import annotations

import numpy as np

from replay.simulate import api
from replay.simulate.columns import EventColumns
from replay.simulate.world_scene import Scene


def new_place_and_program(s: Scene) -> EventColumns:
    """A01: a thief with a copy of the key: new provider, new client, some of the owner's routes.

    Should mostly be caught within tens of requests, except where the thief is a hundredth of a
    busy key or the key changes places all the time.
    """
    route = s.loot(float(s.rng.random()))
    return s.rows(s.outsider(), route, s.some_ids(), s.errors(0.04))


def same_provider(s: Scene) -> EventColumns:
    """A02: a thief in the owner's own cloud with the owner's client: only the /24 is new.

    Harder than A01: nothing but one network and the choice of routes differs.
    """
    who = s.at([s.sibling()]), s.own_client()
    return s.rows(who, s.loot(float(s.rng.random())), s.some_ids(), s.errors(0.04))


def residential_proxies(s: Scene) -> EventColumns:
    """A03: every request from another home address; rotation is the mark, if the key is stable.

    Per-source evidence sees only single requests; the number of new networks does not hide.
    """
    client = s.own_client() if s.rng.random() < 0.3 else s.other_client()
    route = s.loot(float(s.rng.random()))
    return s.rows((s.everywhere(), client), route, s.some_ids(), s.errors(0.04))


def perfect_copy(s: Scene) -> EventColumns:
    """A04: the owner's client and the owner's routes in the owner's proportions, from elsewhere.

    Only the network differs, as in a move of the owner: what tells them apart is that the old
    sources carry on. A second region (B08) looks the same; half of these are missed honestly.
    """
    return s.rows((s.at(s.foreign()), s.own_client()), s.own_routes(), s.some_ids(), s.errors(0.01))


def quiet(s: Scene) -> EventColumns:
    """A05: one to five requests an hour, for days. Found by what is new, not by how much."""
    route = s.loot(float(s.rng.random()))
    return s.rows(s.outsider(), route, s.some_ids(), s.errors(0.02))


def in_the_crowd(s: Scene) -> EventColumns:
    """A06: theft of a key that is seen everywhere anyway: a mobile app's, or behind cloud NAT.

    The network says nothing there; routes, program and identifiers must.
    """
    client = s.own_client() if s.rng.random() < 0.4 else s.other_client()
    who = s.at(s.foreign()), client
    return s.rows(who, s.loot(float(s.rng.uniform(0, 0.8))), s.some_ids(), s.errors(0.04))


def side_by_side(s: Scene) -> EventColumns:
    """A07: thief and owner take turns within minutes, same client, from disjoint networks."""
    route = s.loot(float(s.rng.uniform(0.5, 1.0)))
    return s.rows((s.at(s.foreign()), s.own_client()), route, s.some_ids(), s.errors(0.02))


def dormant(s: Scene) -> EventColumns:
    """A08: a key unused since the world's first days wakes elsewhere; its owner stays silent.

    The silence is at most the world's length (18 to 34 of 35 days), not the 180 days of life.
    """
    route = s.loot(float(s.rng.random()))
    return s.rows(s.outsider(), route, s.some_ids(), s.errors(0.04))


def fresh(s: Scene) -> EventColumns:
    """A09: a key stolen on the day it was issued. There is no past: much of this is missed."""
    route = s.loot(float(s.rng.uniform(0, 0.8)))
    return s.rows(s.outsider(), route, s.some_ids(), s.errors(0.04))


def flood(s: Scene) -> EventColumns:
    """A10: 8 to 100 times the usual from the owner's own sources, on the owner's routes.

    Benign spikes and batch jobs have the same shape: not separable by volume, so this belongs
    to a throttle rather than to analysts' alerts.
    """
    return s.rows(s.inside(), s.own_routes(), s.some_ids(), s.errors(0.06, 429))


def burst(s: Scene) -> EventColumns:
    """A11: everything in less than five minutes, then never again: only leaks can be limited."""
    who = s.anyone(inside=0.3)
    return s.rows(who, s.loot(float(s.rng.random())), s.some_ids(), s.errors(0.05, 429, 404))


def enumerate_in_sequence(s: Scene) -> EventColumns:
    """A13: walks identifiers upwards in small steps; half of the attackers from within.

    Where the key's areas have no numbered objects, only the newness of the identifiers shows.
    """
    step = 1 + (s.rng.random(s.n) < 0.15) * s.rng.integers(0, 3, s.n)
    ident = s.key.ids_from // 2 + int(s.rng.integers(1 << 20)) + np.cumsum(step)
    missing = float(s.rng.uniform(0.02, 0.6))
    route = s.reading(numbered=True)
    return s.rows(s.anyone(inside=0.5), route, ident, s.errors(missing, 404))


def guess_identifiers(s: Scene) -> EventColumns:
    """A14: scattered guesses at identifiers, mostly answered 404."""
    ident = s.rng.integers(10_000, 90_000_000, s.n)
    missing = float(s.rng.uniform(0.5, 0.98))
    return s.rows(s.anyone(inside=0.4), s.reading(), ident, s.errors(missing, 404))


def scrape_at_usual_rate(s: Scene) -> EventColumns:
    """A15: at about the owner's own rate, mostly from within, but every object is a new one."""
    return s.rows(s.anyone(inside=0.7), s.reading(), s.unseen_ids(), s.errors(0.02, 404))


def probe(s: Scene) -> EventColumns:
    """A16: tries what the key opens: many routes, hardly any twice, mostly refused."""
    table = api.routes()
    real = [i for i, r in enumerate(table) if r.area < api.N_AREAS]
    guessed = list(api.routes_where(api.GUESS_AREA))
    share = float(s.rng.uniform(0.1, 0.8))
    order = s.rng.permutation(np.array(real + guessed))
    weight = np.where(np.isin(order, guessed), share / len(guessed), (1 - share) / len(real))
    route = s.rng.choice(order, s.n, p=weight / weight.sum())
    u = s.rng.random(s.n)
    guess = np.isin(route, guessed)
    status = np.where(guess, np.where(u < 0.7, 404, 403), np.where(u < 0.6, 404, 0))
    status = np.where((u > 0.9) & (status != 0), 401, status)
    return s.rows(s.anyone(inside=0.3), route, s.some_ids(), status)


def outside_grants(s: Scene) -> EventColumns:
    """A17: calls outside the key's declared grants succeed: a hole in the gateway is used.

    A fact, not a matter of statistics: to be found on the first such request, always.
    """
    outside = [a for a in range(api.N_AREAS) if a not in s.key.allowed]
    pool = [r for a in s.rng.permutation(outside)[:2] for r in api.routes_where(int(a))[:3]]
    route = s.rng.choice(pool, s.n)
    return s.rows(s.anyone(inside=0.5), route, s.some_ids(), s.errors(0.0), may_all=True)


def exfiltrate_slowly(s: Scene) -> EventColumns:
    """A18: from the owner's own program, 20 to 100 % on top for a week or two, all new objects.

    Benign growth hides the volume; new identifiers and bytes day by day are what is left.
    """
    return s.rows(s.inside(), s.reading(), s.unseen_ids(), s.errors(0.01))


def at_night(s: Scene) -> EventColumns:
    """A19: only between midnight and five of the owner's time, night after night."""
    client = s.own_client() if s.rng.random() < 0.5 else s.other_client()
    who = s.at(s.foreign()), client
    return s.rows(who, s.loot(float(s.rng.random())), s.some_ids(), s.errors(0.02))


def poison(s: Scene) -> EventColumns:
    """A20: arrives quietly to become part of the baseline, then grows 10 to 30 % a day.

    If the arrival is not noticed, the growth alone hardly can be.
    """
    client = s.own_client() if s.rng.random() < 0.5 else s.other_client()
    who = s.at(s.foreign()), client
    return s.rows(who, s.loot(float(s.rng.uniform(0.3, 1.0))), s.some_ids(), s.errors(0.01))


def insider(s: Scene) -> EventColumns:
    """A22: the owner's own network and program, but endpoints the key never called."""
    return s.rows(s.inside(), s.loot(0.0), s.some_ids(), s.errors(0.04))


def one_of_a_flood(s: Scene, network: int, client: int) -> EventColumns:
    """A12: fifty keys flood at once from the attacker's few networks, each key modestly.

    Each key alone shows a new source with too many requests; together it is one event.
    """
    who = s.at([network]), np.full(s.n, client)
    return s.rows(who, s.own_routes(), s.some_ids(), s.errors(0.04, 429, 404))


def one_of_a_campaign(s: Scene, network: int, client: int) -> EventColumns:
    """A21: someone with thirty stolen keys of unrelated owners tries them from one network.

    Few requests on each key; that one new network visits so many owners gives it away.
    """
    who = s.at([network]), np.full(s.n, client)
    return s.rows(who, s.loot(float(s.rng.uniform(0, 0.6))), s.some_ids(), s.errors(0.04))
