"""What would have silenced an episode: a small set of signals that its score needs.

The score is a sum and its correction, which is worked out anew without some of the signals
(``models.combination``). Those whose absence alone lowers the score most are taken first. Routes
and areas are nested (``models.fusion.fuse``): without the larger of the two the smaller counts,
so taking one, or both, is tried beside taking neither.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import floor
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.core.episodes import (
    CHANNELS,
    COMMON_CAUSES,
    HARD_FACTS,
    STOLEN,
    Actor,
    Episode,
    Silencer,
)
from models import actor as actors_
from models import combination, fusion
from models.families import FAMILIES

MARGIN_NATS = 0.01  # below the threshold by this: scores are rounded where they are shown
# In words, after "without": nothing here comes from a log.
WITHOUT = {
    "new_network": "the new network",
    "new_client": "the new client",
    "new_route": "the new routes",
    "new_area": "the new parts of the API",
    "foreign_mix": "the requests to where the key had never been",
    "actor_volume": "the new source's volume",
    "volume": "the volume",
    "probing": "the refusing routes",
    "dormancy": "the long silence before",
    "concurrency": "the turns with other networks",
    "enumeration": "the new object ids",
    "sequence": "the consecutive ids",
    "additive": "the owner's traffic beside it",
    "off_hours": "the unusual hour",
    "slow_drift": "the drift over days",
    "errors": "the failed authentications",
    "surge": "the surge",
    "travel": "the impossible move",
    "denied": "the routes answered 403",
    "misses": "the objects refused or not there",
    "roaming": "the networks before this one",
    "slow_objects": "the new objects, day after day",
    "actor_excess": "the new source's share of the load",
    "out_of_grant": "the fact",
    "decoy": "the fact",
    "revoked": "the fact",
    "rotated": "the fact",
    "campaign": "the other keys on the same network",
    "common_cause": "the other keys that show the same",
}
_FACTS = {
    "out_of_grant": "Quiet if the key registry granted this route to the key.",
    "decoy": "Quiet if this route were not listed in detection.decoy_routes.",
    "revoked": "Quiet if the key registry gave no revocation or expiry before this request.",
    "rotated": "Quiet if the key registry named no successor older than 24 h.",
}
_NOTICES = {
    "campaign": "Quiet if this network were expected for these keys.",
    "common_cause": "Quiet if fewer keys showed the same; each would then be judged alone.",
}
_NOTICE_OF_FACTS = "Quiet if the key registry agreed with what these keys do."
_NESTED = ("new_route", "new_area")
DRIFT = "slow_drift"  # what a correction leaves of a score at least
# what counts less from a network of the key's own
_BY_ALIEN = (fusion.F_MIX, fusion.F_ACTOR_VOLUME, fusion.F_EXCESS, fusion.F_CONCURRENCY)


def without(shares: dict[str, float], removed: tuple[str, ...] = ()) -> float:
    """The score that these shares make without some of them, nats; as ``fuse`` would say.

    >>> without({"new_route": 4.0, "new_area": 3.0, "new_client": 1.0}, ("new_route",))
    4.0
    """
    kept = {name: nats for name, nats in shares.items() if name not in removed}
    nested = max(kept.pop("new_route", 0.0), kept.pop("new_area", 0.0))
    total = nested + sum(kept.values())
    return max(0.0, floor(total * fusion.QUANTUM + 0.5) / fusion.QUANTUM)


def score_without(episode: Episode, removed: tuple[str, ...] = ()) -> float:
    """The same for an episode, nats: the correction included, a campaign's nats on top."""
    shares, signs = _shares(episode), episode.grounds.signs
    if not signs:
        return without(shares, removed)
    causes = sum(shares.get(name, 0.0) for name in COMMON_CAUSES if name not in removed)
    total = without(shares, (*removed, *COMMON_CAUSES))
    x = np.array(signs)
    x[[i for i, family in enumerate(FAMILIES) if family in removed]] = 0.0
    drift = 0.0 if DRIFT in removed else shares.get(DRIFT, 0.0)
    return _corrected(total, drift, x, CHANNELS.index(episode.channel)) + causes


def score_left(episode: Episode, explained: tuple[str, ...]) -> float:
    """What a score is worth if these signals have another cause; of nested ones neither counts."""
    return score_without(episode, (*explained, *(_NESTED if set(explained) & set(_NESTED) else ())))


def _corrected(total: float, drift: float, x: npt.NDArray[np.float64], channel: int) -> float:
    return float(combination.corrected(total, drift, x, combination.shipped(), channel))


def expected_scores(
    row: Any, weights: tuple[float, ...], signs: tuple[float, ...]
) -> tuple[tuple[str, float], ...]:
    """The STOLEN score if the actor's network, or its client, were accepted as the key's own.

    Where nothing else about the source is new, it is no actor any more, and STOLEN is 0. From a
    known network an actor's own behaviour counts less (``models.actor.alien``).
    """
    w = np.array([*weights, *weights], np.float64)
    z = np.array(signs or row["z"], np.float64)
    network, client = float(z[fusion.F_NETWORK]), float(z[fusion.F_CLIENT])
    found = []
    if network > 0.0:
        known = z.copy()
        known[fusion.F_NETWORK] = known[fusion.F_ROAMING] = 0.0
        keep = actors_.alien(0.0) / actors_.alien(network)
        for family in _BY_ALIEN:
            known[family] *= keep
        found.append(("network", _stolen_score(known, w) if client > 0.0 else 0.0))
    if client > 0.0:
        known = z.copy()
        known[fusion.F_CLIENT] = 0.0
        found.append(("client", _stolen_score(known, w) if network > 0.0 else 0.0))
    return tuple(found)


def _stolen_score(z: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    total = float(fusion.fuse(z, weights, 1.0))
    drift = float(fusion.weighted(fusion.F_SLOW, weights, 1.0, z[fusion.F_SLOW]))
    return total if len(z) == fusion.N_FAMILIES else _corrected(total, drift, z, STOLEN)


def silencer_of(episode: Episode) -> Silencer | None:
    """What would have kept an episode below its threshold; None where it is below anyway."""
    signal = episode.reasons[0].signal if episode.reasons else ""
    if episode.key == "*":
        return Silencer((signal,), 0.0, _NOTICES.get(signal, _NOTICE_OF_FACTS))
    if episode.is_hard:
        fact = next(r.signal for r in episode.reasons if r.signal in HARD_FACTS)
        return Silencer((fact,), 0.0, _FACTS[fact])
    if episode.score < episode.threshold:
        return None
    limit = episode.threshold - MARGIN_NATS
    removed = smallest(_shares(episode), limit, partial(score_without, episode))
    if removed is None:
        return None
    left = round(score_without(episode, removed), 3)
    text = f"Without {_listed(removed)} it would score {_pair(left, episode.threshold)}."
    accepted = _accepted(episode)
    return Silencer(removed, left, f"{text} {accepted}" if accepted else text)


def _shares(episode: Episode) -> dict[str, float]:
    """Of all families where they are known, else of the reasons; common causes added."""
    given = episode.grounds.shares
    shares = dict(zip(FAMILIES, given, strict=True)) if given else {}
    for reason in episode.reasons:
        if not given or reason.signal in COMMON_CAUSES:
            shares[reason.signal] = reason.nats
    return shares


def smallest(
    shares: dict[str, float], limit: float, score: Callable[[tuple[str, ...]], float] | None = None
) -> tuple[str, ...] | None:
    """A small set of signals, at least one, without which the score is at most ``limit``.

    Those first that alone lower it most; ``score`` is what is left without some, by default
    ``without``, with which no smaller set would do. None when even all are not enough.

    >>> smallest({"new_network": 6.0, "new_client": 2.0, "misses": 5.0}, 7.0)
    ('new_network',)
    >>> smallest({"new_route": 6.0, "new_area": 5.0, "misses": 2.0}, 2.0)
    ('new_route', 'new_area')
    """
    left = score or partial(without, shares)
    counts = [n for n, nats in shares.items() if nats > 0.0]
    ranked = sorted(counts, key=lambda n: (left((n,)), -shares[n]))
    nested = [n for n in ranked if n in _NESTED]
    others = [n for n in ranked if n not in _NESTED]
    for k in range(1, len(ranked) + 1):
        sets = [
            (*nested[:j], *others[: k - j])
            for j in range(min(k, len(nested)) + 1)
            if k - j <= len(others)
        ]
        best = min(sets, key=left)
        if left(best) <= limit:
            return tuple(n for n in ranked if n in best)
    return None


def _listed(signals: tuple[str, ...]) -> str:
    words = [WITHOUT[s] for s in signals]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _pair(score: float, threshold: float) -> str:
    digits = 1 if f"{score:.1f}" != f"{threshold:.1f}" else 2
    return f"{score:.{digits}f}, below {threshold:.{digits}f}"


def _accepted(episode: Episode) -> str:
    """The accepted value that would have done the same; in STOLEN there always is one."""
    if episode.channel != "stolen" or episode.actor is None:
        return ""
    named = _named(episode.actor)
    limit = episode.threshold - MARGIN_NATS
    enough = [named[what] for what, score in episode.grounds.expected if score <= limit]
    known = [named[what] for what, _ in episode.grounds.expected]
    if enough:
        return f"Quiet too if {' or '.join(enough)} were expected for this key."
    return f"Quiet too if {' and '.join(known)} were both expected for this key." if known else ""


def _named(actor: Actor) -> dict[str, str]:
    return {"network": actor.network, "client": f"client {actor.client}"}
