"""Control records: what people say, in the form in which it is journalled and applied. Pure data.

Each is applied at one place in the log, by every shard; the shard that has the key changes it.

- ``expected``   that source, or that behaviour of the key, is fine. Undone by ``withdrawn``, or
  by its own end ``until_us``: what was accepted is news again then. Evidence that was cleared
  does not come back
- ``confirmed``  the alert was a true one. Undone by ``withdrawn``, but for the budget it gave back
- ``withdrawn``  takes an ``expected`` or ``confirmed`` back, the lesson from it too
- ``reset``      the key's baseline starts anew. Cannot be undone: it is gone
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from detector.core.episodes import CHANNELS, STOLEN, Episode
from models.families import FAMILIES

COMBINED = "combination"  # among the shares: what the signs mean together
EVERYONE = "*"  # the key of a notice: about many keys, so about no baseline


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the verdicts have in common.

    ``network`` and ``client`` as alerts write them; ``since_us``: what came from then on came with
    them. ``shares``: nats by signal of the alert it is about, as the configured weights would give
    them; empty without.
    ``channel`` is "" for a verdict that names no alert.
    """

    at_us: int
    key: str
    alert_id: str = ""
    channel: str = ""
    network: str = ""
    client: str = ""
    since_us: int = 0
    shares: dict[str, float] = {}

    @property
    def name(self) -> str:
        """What a later ``withdrawn`` calls it."""
        return self.alert_id or f"{self.key}|{self.network}|{self.client}"


class Expected(Verdict, frozen=True, tag="expected", tag_field="verdict"):
    """It was the owner, or what the owner wants; for good, or until an event time."""

    until_us: int | None = None


class Confirmed(Verdict, frozen=True, tag="confirmed", tag_field="verdict"):
    """It was what the alert said."""


class Withdrawn(Verdict, frozen=True, tag="withdrawn", tag_field="verdict"):
    """The verdict of the same name does not stand any more."""


class Reset(Verdict, frozen=True, tag="reset", tag_field="verdict"):
    """Nothing that was learned of the key counts any more."""


Control = Expected | Confirmed | Withdrawn | Reset
KINDS: dict[str, type[Expected | Confirmed | Withdrawn | Reset]] = {
    "expected": Expected,
    "confirmed": Confirmed,
    "withdrawn": Withdrawn,
    "reset": Reset,
}


@dataclass(frozen=True, slots=True)
class Alert:
    """What a verdict needs of the alert it is about; ``shares`` are nats by signal, weighted."""

    alert_id: str
    key: str
    channel: str
    network: str
    client: str
    peak_us: int
    since_us: int
    shares: Mapping[str, float]

    @classmethod
    def of(cls, e: Episode) -> Alert:
        """Of an episode as it was raised."""
        actor, since_us = e.actor, e.first_suspicious_us
        if actor is not None and e.channel == CHANNELS[STOLEN]:
            since_us = actor.first_seen_us
        network, client = (actor.network, actor.client) if actor is not None else ("", "")
        shares = shares_of(((r.signal, r.nats) for r in e.reasons), e.combined_nats)
        return cls(e.alert_id, e.key, e.channel, network, client, e.peak_us, since_us, shares)


def about(
    verdict: str, alert: Alert, at_us: int, factors: Sequence[float], until_us: int | None = None
) -> Control:
    """A verdict on an alert; ``factors`` are those of its channel when it was raised."""
    fields = Verdict(
        at_us=at_us,
        key=alert.key,
        alert_id=alert.alert_id,
        channel=alert.channel,
        network=alert.network,
        client=alert.client,
        since_us=alert.since_us,
        shares=unlearned(alert.shares, factors),
    )
    return said(verdict, fields, until_us)


def said(verdict: str, fields: Verdict, until_us: int | None = None) -> Control:
    """The record of that kind with these fields; only an ``expected`` has an end."""
    values: dict[str, Any] = msgspec.structs.asdict(fields)
    if verdict == "expected":
        return Expected(**values, until_us=until_us)
    return KINDS[verdict](**values)


def end_of(record: Expected) -> Withdrawn:
    """The record that ends an acceptance at its ``until_us``."""
    assert record.until_us is not None
    return Withdrawn(
        at_us=record.until_us,
        key=record.key,
        alert_id=record.alert_id,
        network=record.network,
        client=record.client,
    )


def shares_of(reasons: Iterable[tuple[str, float]], combined_nats: float) -> dict[str, float]:
    """Nats by signal of an alert's reasons, with what they mean together."""
    shares = dict(reasons)
    return {**shares, COMBINED: combined_nats} if combined_nats else shares


def unlearned(shares: Mapping[str, float], factors: Sequence[float]) -> dict[str, float]:
    """Shares as they were before any verdict, of those signals that have a weight.

    What they mean together has none; it stays, because it is part of what was alerted.

    >>> unlearned({"new_network": 2.0, "decoy": 20.0}, [0.5] * len(FAMILIES))
    {'new_network': 4.0}
    """
    of = dict(zip(FAMILIES, factors, strict=True))
    of[COMBINED] = 1.0
    return {s: round(n / of[s], 6) for s, n in shares.items() if s in of}
