"""From a row of numbers to an episode a person can act on in a minute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from detector.core.actions import advice_of
from detector.core.episodes import STOLEN, Actor, Episode, Grounds, Reason
from detector.core.sentences import DESCRIBE, Texts
from detector.core.silence import expected_scores, silencer_of
from models import fusion, novelty
from models.families import FAMILIES

REASONS_MAX = 5
REASON_NATS_MIN = 0.3
SEPARABLE_NATS = 1.0  # a network at least this surprising is none of the key's own
POOL_MIN = 3  # new networks in a cell: a pool of proxies, of which no single one can be blocked


def actor_of(row: Any, texts: Texts) -> Actor | None:
    """The source a row points at, if it is one the key has not established."""
    if not row["actor"]:
        return None
    return Actor(
        network=texts.network(int(row["network"])),
        client=texts.client(int(row["client"])),
        first_seen_us=int(row["actor_first_us"]),
        requests=int(row["actor_requests"]),
    )


def reasons_of(row: Any, texts: Texts, weights: tuple[float, ...]) -> tuple[Reason, ...]:
    """The families that carry the score, largest first, with the counts behind them."""
    shares = [
        (weights[j] * min(float(row["z"][j]), fusion.CAPS[j]), j) for j in range(fusion.N_FAMILIES)
    ]
    shares = _without_nested(shares)
    shares.sort(key=lambda s: (-s[0], s[1]))
    kept = [s for s in shares if s[0] >= REASON_NATS_MIN][:REASONS_MAX]
    return tuple(_reason(row, texts, family, round(nats, 3)) for nats, family in kept)


def _without_nested(shares: list[tuple[float, int]]) -> list[tuple[float, int]]:
    route, area = shares[fusion.F_ROUTE], shares[fusion.F_AREA]
    dropped = min(route, area, key=lambda s: s[0])[1]
    return [s for s in shares if s[1] != dropped]


def _reason(row: Any, texts: Texts, family: int, nats: float) -> Reason:
    observed, expected, text = DESCRIBE[family](row, texts)
    return Reason(
        signal=FAMILIES[family],
        nats=nats,
        observed=round(float(observed), 3),
        expected=round(float(expected), 3),
        text=text,
    )


def severity_of(score: float, threshold: float) -> str:
    """How far above (or below) its threshold a score is, in five steps."""
    ratio = score / threshold
    for least, word in ((1.6, "critical"), (1.25, "high"), (1.0, "medium"), (0.75, "low")):
        if ratio >= least:
            return word
    return "info"


def grounds_of(row: Any, weights: tuple[float, ...]) -> Grounds:
    """What silencer and action follow from."""
    z = [float(v) for v in row["z"]]
    shares = tuple(w * min(v, cap) for w, v, cap in zip(weights, z, fusion.CAPS, strict=True))
    signs = (*z, *(float(v) for v in row["context"])) if row["corrected"] else ()
    if not row["actor"] or row["channel"] != STOLEN:
        return Grounds(shares, signs)
    is_alone = int(row["fresh"][novelty.NETWORK]) < POOL_MIN
    is_separable = z[fusion.F_NETWORK] >= SEPARABLE_NATS and is_alone
    return Grounds(shares, signs, expected_scores(row, weights, signs), is_separable)


def advised(episode: Episode) -> Episode:
    """With the action and the silencer that its score, threshold, severity and reasons call for."""
    action, why = advice_of(episode)
    silencer = silencer_of(episode)
    return replace(episode, action=action, action_reason=why, silenced_by=silencer)
