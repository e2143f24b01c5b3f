"""The evidence half of judging: what the models say as of this event, family by family."""

from __future__ import annotations

from typing import Any

from detector.core.kernel_actors import actor_usual, expected_by, usual_areas, usual_routes
from detector.core.kernel_normal import age_cells, fill_normal
from detector.core.kernel_sources import entry_nats
from detector.core.settings import OFF_ACTORS, OFF_COLD
from models import actor as actors_
from models import (
    combination,
    denied,
    enumeration,
    fusion,
    misses,
    novelty,
    owner,
    probing,
    sequence,
    slow,
    surge,
    volume,
)
from models._jit import kernel
from models.clock import CELLS_PER_DAY

OFF_HOURS_CELLS = 5 * CELLS_PER_DAY  # a key's hours are known after five days


@kernel
def network_nats(s: Any, slot: int, found: Any) -> float:
    """Surprise of the source's address: network and block are nested, the larger counts."""
    network = entry_nats(s, slot, found[novelty.NETWORK])
    return max(network, entry_nats(s, slot, found[novelty.BLOCK]))


@kernel
def roaming_nats(s: Any, slot: int, found: Any) -> float:
    """What many new networks in a row say beyond this one: a pool of proxies."""
    network = entry_nats(s, slot, found[novelty.NETWORK])
    return max(0.0, s.novelty[slot].now[novelty.NETWORK] - network) if network > 0.0 else 0.0


@kernel
def known_of(s: Any, slot: int) -> float:
    """How far a key is settled, in [0, 1]."""
    if s.shard[0].off & OFF_COLD:
        return 1.0
    return fusion.known_degree(s.keys[slot].cell - s.volume[slot].born_cell)


@kernel
def maturity_of(s: Any, slot: int) -> float:
    """Share of the evidence that counts for a key of this age."""
    if s.shard[0].off & OFF_COLD:
        return 1.0
    return float(actors_.maturity(s.keys[slot].cells))


@kernel
def gather(s: Any, slot: int, actor_place: int, found: Any, ts_us: int, z: Any) -> None:
    """Fills ``z`` with the families' evidence about the whole key as of this event."""
    n, v = s.novelty[slot], s.volume[slot]
    z[:] = 0.0
    z[fusion.F_VOLUME] = volume.evaluate(v, s.keys[slot].cell)
    z[fusion.F_SURGE] = s.surge[slot].now
    z[fusion.F_SLOW] = slow.evidence(s.slow[slot])
    z[fusion.F_OBJECTS] = s.slow[slot].objects
    mature = maturity_of(s, slot)
    z[fusion.F_PROBING] = mature * s.probing[slot].now
    z[fusion.F_ENUMERATION] = mature * s.enumeration[slot].evidence
    z[fusion.F_SEQUENCE] = mature * s.sequence[slot].evidence
    z[fusion.F_ROUTE] = mature * n.now[novelty.ROUTE]
    z[fusion.F_AREA] = mature * n.now[novelty.AREA]
    z[fusion.F_DENIED] = mature * s.denied[slot].now
    z[fusion.F_MISSES] = mature * s.misses[slot].evidence
    if actor_place >= 0:
        _gather_actor(s, slot, s.actors[actor_place], found, ts_us, z)
    elif s.shard[0].off & OFF_ACTORS:  # the whole key, as if it were one source
        z[fusion.F_NETWORK] = network_nats(s, slot, found)
        z[fusion.F_CLIENT] = entry_nats(s, slot, found[novelty.CLIENT])
        z[fusion.F_DORMANCY] = s.dormancy[slot].evidence
        z[fusion.F_MIX] = mature * s.keys[slot].own_mix
    else:
        z[fusion.F_MIX] = mature * actors_.alien(0.0) * s.keys[slot].own_mix


@kernel
def _gather_actor(s: Any, slot: int, a: Any, found: Any, ts_us: int, z: Any) -> None:
    key, v = s.keys[slot], s.volume[slot]
    mature = maturity_of(s, slot)
    z[fusion.F_NETWORK] = network_nats(s, slot, found)
    z[fusion.F_ROAMING] = roaming_nats(s, slot, found)
    z[fusion.F_CLIENT] = entry_nats(s, slot, found[novelty.CLIENT])
    z[fusion.F_DORMANCY] = s.dormancy[slot].evidence
    now = actors_.volume_evidence(float(a.count), actor_usual(s, slot))
    weight = mature * actors_.alien(z[fusion.F_NETWORK])
    z[fusion.F_MIX] = actors_.alien(z[fusion.F_NETWORK]) * max(a.mix, mature * a.mix_route)
    z[fusion.F_ACTOR_VOLUME] = weight * min(a.volume + now, actors_.VOLUME_MAX)
    beyond = actors_.excess_evidence(float(a.count), v.mean, v.size)
    z[fusion.F_EXCESS] = weight * min(a.excess + max(0.0, beyond), actors_.VOLUME_MAX)
    z[fusion.F_CONCURRENCY] = weight * a.concurrency
    z[fusion.F_TRAVEL] = a.travel
    owed = expected_by(s, slot, ts_us) - a.expected
    z[fusion.F_ADDITIVE] = mature * owner.additive(
        key.owned - a.owned, owed, float(a.requests), v.size
    )
    if key.cell - v.born_cell >= OFF_HOURS_CELLS:
        usual = volume.level_per_cell(v, key.cell)
        z[fusion.F_OFF_HOURS] = owner.off_hours(v.mean, usual, v.size)


@kernel
def stolen_view(s: Any, slot: int, actor_place: int, z: Any) -> None:
    """STOLEN asks about one source that is not the key's own; without one there is nothing."""
    if s.shard[0].off & OFF_ACTORS:
        return
    if actor_place < 0:
        z[:] = 0.0
        return
    mature = maturity_of(s, slot)
    a = s.actors[actor_place]
    z[fusion.F_ROUTE] = mature * a.route
    z[fusion.F_AREA] = mature * a.area
    z[fusion.F_PROBING] = mature * a.probing_now
    z[fusion.F_ENUMERATION] = mature * a.enumeration
    z[fusion.F_SEQUENCE] = mature * a.sequence
    z[fusion.F_DENIED] = mature * a.denied
    z[fusion.F_MISSES] = mature * a.misses


@kernel
def fill_context(s: Any, slot: int, actor_place: int, z: Any) -> None:
    """Fills ``z[N_FAMILIES:]`` in the order of ``combination.CONTEXT``."""
    key, n = s.keys[slot], s.novelty[slot]
    network_age, client_age, requests, foreign = -1, -1, 0.0, 0.0
    if actor_place >= 0:
        a = s.actors[actor_place]
        # what the log does not say cannot be new: as old as the key
        age = key.cell - s.volume[slot].born_cell
        network_age = age_cells(s, key, novelty.NETWORK, a.network) if a.network else age
        client_age = age_cells(s, key, novelty.CLIENT, a.client) if a.client else age
        requests, foreign = float(a.requests), usual_areas(key, a)
    at = fusion.N_FAMILIES
    z[at] = known_of(s, slot)
    z[at + 1] = n.exposure
    z[at + 2] = volume.level_per_cell(s.volume[slot], key.cell)
    z[at + 3] = n.bursts[novelty.NETWORK]
    z[at + 4] = n.bursts[novelty.CLIENT]
    z[at + 5] = n.bursts[novelty.ROUTE]
    z[at + 6] = network_age
    z[at + 7] = client_age
    z[at + 8] = requests
    z[at + 9] = foreign


@kernel
def fill_evidence(s: Any, row: Any, slot: int, actor_place: int, z: Any) -> None:
    """Copies the evidence and the counts behind it into a row, for the sentences."""
    n, v, p, d = s.novelty[slot], s.volume[slot], s.probing[slot], s.dormancy[slot]
    for j in range(fusion.N_FAMILIES):
        row.z[j] = z[j]
    for j in range(len(combination.CONTEXT)):
        row.context[j] = z[fusion.N_FAMILIES + j]
    row.known = known_of(s, slot)
    for kind in range(novelty.KINDS):
        row.fresh[kind] = n.fresh[kind]
        row.bursts[kind] = n.bursts[kind]
        row.burst_size[kind] = novelty.burst_size(n, kind)
    row.exposure, row.count, row.mean = n.exposure, v.count, v.mean
    row.mean_usual = volume.level_per_cell(v, s.keys[slot].cell)
    row.failing_routes = probing.distinct(p)
    row.failing_usual = probing.usual(p)
    row.failed, row.gap, row.gap_before = p.failed, d.gap, d.before
    e, q, w = s.enumeration[slot], s.sequence[slot], s.slow[slot]
    row.idents, row.idents_new, row.idents_usual = e.cell_total, e.cell_fresh, enumeration.share(e)
    row.steps, row.steps_trials, row.steps_usual = q.cell_steps, q.cell_trials, sequence.share(q)
    for m in range(3):
        row.slow_usual[m], row.slow_last[m] = w.usual[m], w.last[m]
    row.denied = s.denied[slot].fresh
    row.denied_usual = (denied.SHAPE + s.denied[slot].bursts) / (
        denied.RATE + s.denied[slot].exposure
    )
    m = s.misses[slot]
    row.missed, row.missed_of, row.missed_usual = m.cell_missed, m.cell_trials, misses.usual(m)
    row.slow_ramp = w.ramp > w.cusum
    if z[fusion.F_SLOW] > slow.evidence(w):  # what THROTTLE is told of
        row.slow_ramp, row.slow_usual[0], row.slow_last[0] = slow.GROWTH, w.frozen[0], w.recent
    row.actor = actor_place >= 0
    fill_normal(s, row, slot, actor_place)
    if actor_place >= 0:
        _fill_actor(s, row, slot, s.actors[actor_place])


@kernel
def _fill_actor(s: Any, row: Any, slot: int, a: Any) -> None:
    key = s.keys[slot]
    row.network, row.client, row.route = a.network, a.client, a.route_last
    row.block, row.by_block = a.block, a.by_block
    row.actor_first_us, row.actor_requests = a.first_us, a.requests
    row.actor_count, row.actor_usual = a.count, actor_usual(s, slot)
    row.actor_foreign, row.mix_usual = a.foreign, usual_areas(key, a)
    row.actor_foreign_routes = a.foreign_routes
    row.mix_route_usual = usual_routes(key, a)
    row.mix_by_route = a.mix_route > a.mix
    row.actor_route_new, row.actor_area_new = a.route_new, a.area_new
    row.actor_switches = a.switches
    row.owner_requests = key.owned - a.owned
    row.owner_expected = expected_by(s, slot, row.ts_us) - a.expected


@kernel
def observe_surge(s: Any, slot: int) -> None:
    """Judges the open cell's count; two comparisons for nearly every event."""
    v = s.volume[slot]
    if v.count < surge.COUNT_MIN or v.count < surge.THREE * v.mean:
        return
    if volume.speaks(v, s.keys[slot].cell):
        surge.evaluate(s.surge[slot], float(v.count), v.mean)
