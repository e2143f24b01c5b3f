"""From a row of numbers to an episode a person can act on in a minute."""

from __future__ import annotations

from typing import Any

from detector.core.episodes import CHANNELS, Actor, Reason
from detector.core.sentences import DESCRIBE, Texts
from models import fusion
from models.families import FAMILIES

REASONS_MAX = 5
REASON_NATS_MIN = 0.3


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


def action_of(channel: int, severity: str, reasons: tuple[Reason, ...], actor: Actor | None) -> str:
    """The cheapest action that would stop it; a proposal, never an order."""
    if CHANNELS[channel] == "throttle":
        return "throttle"
    if severity in ("info", "low"):
        return "none"
    if CHANNELS[channel] == "stolen":
        if severity == "medium" and actor is not None:
            return "block_actor"
        return "revoke" if severity in ("high", "critical") else "notify"
    top = reasons[0].signal if reasons else ""
    if top in ("volume", "actor_volume", "enumeration"):
        return "throttle"
    return "suspend" if severity in ("high", "critical") else "notify"
