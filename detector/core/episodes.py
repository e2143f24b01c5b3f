"""Episode, reason, actor, candidate: the few rows that come out of the fold.

The JSON of one episode is the contract other tools read (docs/schema/episode.schema.json).
Times are event time in microseconds here and RFC 3339 UTC in JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

from detector.core.references import references_of
from models.families import FAMILIES

# Throttle is no accusation: its episodes propose a reversible limit, under a budget of their own.
Channel = Literal["stolen", "abused", "throttle"]
CHANNELS: tuple[Channel, ...] = ("stolen", "abused", "throttle")
STOLEN, ABUSED, THROTTLE = 0, 1, 2

HARD_FACTS = ("out_of_grant", "decoy", "revoked", "rotated")
COMMON_CAUSES = ("campaign", "common_cause")  # what many keys share, from the fleet stage
SIGNALS = (*FAMILIES, *HARD_FACTS, *COMMON_CAUSES)
ACTIONS = ("none", "notify", "throttle", "block_actor", "suspend", "revoke")
SEVERITIES = ("info", "low", "medium", "high", "critical")
CURVE_POINTS_MAX = 64
NORMAL_MAX = 5  # sentences about what stayed normal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(ts_us: int) -> str:
    """Event time as text, always UTC, microseconds only where there are any.

    >>> rfc3339(1_790_000_123_000_000), rfc3339(1_790_000_123_456_000)
    ('2026-09-21T14:15:23Z', '2026-09-21T14:15:23.456000Z')
    """
    at = _EPOCH + timedelta(microseconds=ts_us)
    return at.isoformat().replace("+00:00", "Z")


def _time(ts_us: int | None) -> str | None:
    return None if ts_us is None else rfc3339(ts_us)


@dataclass(frozen=True, slots=True)
class Reason:
    """One family's share of a score, with the counts behind it. ``nats`` is weighted."""

    signal: str
    nats: float
    observed: float
    expected: float
    text: str


@dataclass(frozen=True, slots=True)
class Actor:
    """The not yet established source (network x client) an episode points at."""

    network: str
    client: str
    first_seen_us: int
    requests: int


@dataclass(frozen=True, slots=True)
class OwnerTraffic:
    """What the key's established sources did since the actor came.

    ``turns``: how often actor and another network of the key took turns within minutes.
    """

    requests: int
    expected: float
    turns: int
    text: str


@dataclass(frozen=True, slots=True)
class Silencer:
    """The smallest set of signals without which the score stays below the threshold.

    ``score`` is what is left without them, nats; ``text`` says so, and which accepted value
    would have done the same.
    """

    signals: tuple[str, ...]
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Grounds:
    """What an explanation is derived from; kept with the episode, not published.

    ``shares``: weighted nats by family, which may be negative; empty where there is no score.
    ``signs``: what the trees of ``models.combination`` asked about, in the order of ``FEATURES``;
    empty where they corrected nothing.
    ``expected``: ``(network or client, score)`` if that of the actor were accepted as the key's.
    ``is_separable``: the actor comes from a network of its own, which a block can name.
    """

    shares: tuple[float, ...] = ()
    signs: tuple[float, ...] = ()
    expected: tuple[tuple[str, float], ...] = ()
    is_separable: bool = False


@dataclass(frozen=True, slots=True)
class Episode:
    """A (key, channel) under suspicion, as of one event."""

    alert_id: str
    key: str
    owner: str | None
    channel: Channel
    severity: str
    state: str  # open | closed
    opened_us: int
    first_suspicious_us: int
    peak_us: int
    last_seen_us: int
    closed_us: int | None
    alerted_us: int | None
    score: float
    threshold: float
    return_period_days: float | None
    reasons: tuple[Reason, ...]
    actor: Actor | None
    requests_leaked: int
    bytes_leaked: int
    action: str
    simulated: bool
    curve: tuple[tuple[int, float, int, int], ...]
    credential: tuple[tuple[str, str], ...] = ()
    normal: tuple[str, ...] = ()
    silenced_by: Silencer | None = None
    owner_carries_on: OwnerTraffic | None = None
    action_reason: str = ""
    combined_nats: float = 0.0
    grounds: Grounds = Grounds()

    @property
    def is_hard(self) -> bool:
        """True for a deterministic fact, which is outside the statistical budget."""
        return any(r.signal in HARD_FACTS for r in self.reasons)

    def to_record(self) -> dict[str, Any]:
        """The contract's JSON object, keys in the contract's order."""
        actor = self.actor
        return {
            "alert_id": self.alert_id,
            "key": self.key,
            "owner": self.owner,
            "channel": self.channel,
            "severity": self.severity,
            "state": self.state,
            "opened_at": rfc3339(self.opened_us),
            "first_suspicious_at": rfc3339(self.first_suspicious_us),
            "peak_at": rfc3339(self.peak_us),
            "last_seen_at": rfc3339(self.last_seen_us),
            "closed_at": _time(self.closed_us),
            "alerted_at": _time(self.alerted_us),
            "score": self.score,
            "threshold": self.threshold,
            "combined_nats": self.combined_nats,
            "return_period_days": self.return_period_days,
            "reasons": [
                {
                    "signal": r.signal,
                    "nats": r.nats,
                    "observed": r.observed,
                    "expected": r.expected,
                    "text": r.text,
                }
                for r in self.reasons
            ],
            "actor": actor
            and {
                "network": actor.network,
                "client": actor.client,
                "first_seen": rfc3339(actor.first_seen_us),
                "requests": actor.requests,
            },
            "requests_leaked": self.requests_leaked,
            "bytes_leaked": self.bytes_leaked,
            "action": self.action,
            "simulated": self.simulated,
            "credential": dict(self.credential),
            "curve": [[rfc3339(t), s, r, b] for t, s, r, b in self.curve],
            **self._explanation(),
        }

    def _explanation(self) -> dict[str, Any]:
        silencer, owner = self.silenced_by, self.owner_carries_on
        references = references_of(r.signal for r in self.reasons)
        return {
            "normal": list(self.normal),
            "silenced_by": silencer
            and {
                "signals": list(silencer.signals),
                "score": silencer.score,
                "text": silencer.text,
            },
            "owner_carries_on": owner
            and {
                "requests": owner.requests,
                "expected": owner.expected,
                "turns": owner.turns,
                "text": owner.text,
            },
            "references": [
                {"framework": r.framework, "id": r.id, "name": r.name} for r in references
            ],
            "action_reason": self.action_reason,
        }


@dataclass(frozen=True, slots=True)
class Candidate:
    """An episode that may become an alert, as of the event that raised it.

    Ordered for the fleet stage by ``(ts_us, key, ordinal)``. ``hard`` marks a
    deterministic fact outside the statistical budget, ``throttle`` a recommendation to limit
    the rate, which has a budget of its own. With ``change`` it is no suspicion but says that
    the log may have changed for its key (``core.changes``); of a hard fact, that it would be
    none before that change.
    """

    ts_us: int
    ordinal: int
    hard: bool
    over_threshold: bool
    episode: Episode
    throttle: bool = False
    change: str = ""

    @property
    def order(self) -> tuple[int, str, int, str]:
        """Sort key of the fleet stage: says nothing of hashes, so of no seed."""
        return self.ts_us, self.episode.key, self.ordinal, self.episode.alert_id


def alert_id(key: str, channel: str, opened_us: int, ordinal: int) -> str:
    """Identity of an episode: independent of partition, offset, machine, seed and version.

    >>> alert_id("acme", "stolen", 1, 2) == alert_id("acme", "stolen", 1, 2)
    True
    """
    text = f"{len(key)}|{key}|{channel}|{opened_us}|{ordinal}"
    return blake2b(text.encode(), digest_size=10).hexdigest()


def alerted(episode: Episode, at_us: int, return_period_days: float | None) -> Episode:
    """The episode as an alert, still open as of that event: never rewritten afterwards."""
    return replace(
        episode,
        state="open",
        closed_us=None,
        alerted_us=at_us,
        return_period_days=return_period_days,
    )
