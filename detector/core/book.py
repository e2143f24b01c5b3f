"""The open episodes of a shard and those closed since they were last collected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from detector.core.episodes import (
    CHANNELS,
    CURVE_POINTS_MAX,
    THROTTLE,
    Candidate,
    Episode,
    Reason,
    alert_id,
)
from detector.core.events import KeyName
from detector.core.explain import actor_of, advised, grounds_of, reasons_of, severity_of
from detector.core.kernel_episodes import CLOSE_AFTER_US, EPISODE_MAX_US
from detector.core.normal import normal_of, owner_of
from detector.core.sentences import Texts

CurvePoint = tuple[int, float, int, int]
HARD_SCORE_NATS = 20.0


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose key a row is about."""

    name: KeyName
    owner: str | None


@dataclass(slots=True)
class EpisodeBook:
    """Builds episodes from the fold's rows; the only mutable copy of each."""

    open: dict[tuple[int, int], Episode] = field(default_factory=dict)
    closed: list[Episode] = field(default_factory=list)
    hard: dict[str, Episode] = field(default_factory=dict)  # facts the fleet has yet to decide

    def apply(self, row: Any, who: Subject, texts: Texts, weights: tuple[float, ...]) -> Candidate:
        """Opens or raises the episode of an OPEN or PEAK row; the candidate is as of it."""
        at = (int(row["slot"]), int(row["channel"]))
        before = self.open.get(at)
        bare = _episode(row, who, before)
        episode = advised(
            replace(
                bare,
                reasons=reasons_of(row, texts, weights),
                actor=actor_of(row, texts),
                normal=normal_of(row, texts),
                owner_carries_on=owner_of(row),
                combined_nats=round(float(row["combined"]), 3),
                grounds=grounds_of(row, weights),
            )
        )
        self.open[at] = episode
        return Candidate(
            ts_us=int(row["ts_us"]),
            ordinal=int(row["ordinal"]),
            hard=False,
            over_threshold=bool(row["over"]),
            throttle=at[1] == THROTTLE,
            episode=replace(episode, alerted_us=None, return_period_days=None),
        )

    def close(self, slot: int, channel: int, e: Any) -> None:
        """Closes an episode with the fold's final counts (``e``: EPISODE or ROW fields)."""
        episode = self.open.pop((slot, channel))
        end_us = min(int(e["above_us"]) + CLOSE_AFTER_US, int(e["opened_us"]) + EPISODE_MAX_US)
        final = as_of(episode, e)
        self.closed.append(replace(final, state="closed", closed_us=end_us))

    def end(self, slot: int, channel: int, e: Any, at_us: int) -> None:
        """Closes an open episode by a word from outside, not earlier than its last evidence."""
        episode = self.open.pop((slot, channel), None)
        if episode is not None:
            end_us = max(int(e["above_us"]), at_us)
            self.closed.append(replace(as_of(episode, e), state="closed", closed_us=end_us))

    def add_hard(
        self, row: Any, who: Subject, signal: str, what: str, change: str = ""
    ) -> Candidate:
        """A deterministic fact: an episode of its own, closed at once.

        It is kept when the fleet stage makes an alert of it; one that is collapsed into the
        notice about the registry is not.
        """
        ts_us, ordinal = int(row["ts_us"]), int(row["ordinal"])
        leak = (int(row["leak_requests"]), int(row["leak_bytes"]))
        reason = Reason(signal, HARD_SCORE_NATS, 1.0, 0.0, what)
        episode = Episode(
            alert_id=alert_id(who.name.text, f"abused/{signal}", ts_us, ordinal),
            key=who.name.text,
            owner=who.owner,
            channel="abused",
            severity="high",
            state="closed",
            opened_us=ts_us,
            first_suspicious_us=ts_us,
            peak_us=ts_us,
            last_seen_us=ts_us,
            closed_us=ts_us,
            alerted_us=None,
            score=HARD_SCORE_NATS,
            threshold=HARD_SCORE_NATS,
            return_period_days=None,
            reasons=(reason,),
            actor=None,
            requests_leaked=leak[0],
            bytes_leaked=leak[1],
            action="notify",
            simulated=True,
            curve=((ts_us, HARD_SCORE_NATS, *leak),),
            credential=who.name.credential,
        )
        episode = advised(episode)
        self.hard[episode.alert_id] = episode
        return Candidate(ts_us, ordinal, True, True, episode, change=change)

    def mark_alerted(self, alert: Episode) -> bool:
        """Writes the fleet's decision into its episode; False when it is not one of these."""
        fact = self.hard.pop(alert.alert_id, None)
        if fact is not None:
            self.closed.append(_decided(fact, alert))
            return True
        for at, episode in self.open.items():
            if episode.alert_id == alert.alert_id:
                self.open[at] = _decided(episode, alert)
                return True
        for i, episode in enumerate(self.closed):
            if episode.alert_id == alert.alert_id:
                self.closed[i] = _decided(episode, alert)
                return True
        return False

    def take_closed(self, watermark_us: int) -> list[Episode]:
        """Removes and returns what closed before the watermark, up to which all is decided."""
        gone = [e for e in self.closed if _end(e) < watermark_us]
        self.closed = [e for e in self.closed if _end(e) >= watermark_us]
        self.hard = {i: e for i, e in self.hard.items() if _end(e) >= watermark_us}
        return sorted(gone, key=lambda e: (_end(e), e.alert_id))

    def map_open(self, change: Callable[[tuple[int, int], Episode], Episode]) -> list[Episode]:
        """Open episodes as ``change`` sees them, in opening order."""
        seen = [change(at, episode) for at, episode in self.open.items()]
        return sorted(seen, key=lambda e: (e.opened_us, e.alert_id))


def as_of(episode: Episode, e: Any) -> Episode:
    """The episode with the fold's running counts."""
    return replace(
        episode,
        last_seen_us=int(e["above_us"]),
        first_suspicious_us=int(e["suspect_us"]) or episode.first_suspicious_us,
        requests_leaked=int(e["leak_requests"]),
        bytes_leaked=int(e["leak_bytes"]),
    )


def _decided(episode: Episode, alert: Episode) -> Episode:
    """From its alert on, an episode is measured by the threshold that raised it."""
    decided = replace(
        episode, alerted_us=alert.alerted_us, return_period_days=alert.return_period_days
    )
    if episode.is_hard:
        return decided
    severity = severity_of(episode.score, alert.threshold)
    return advised(replace(decided, threshold=alert.threshold, severity=severity))


def _end(episode: Episode) -> int:
    assert episode.closed_us is not None
    return episode.closed_us


def _episode(row: Any, who: Subject, before: Episode | None) -> Episode:
    """Times, scores and counts as of a row; its explanation is yet to come."""
    channel, ts_us, score = int(row["channel"]), int(row["ts_us"]), float(row["score"])
    threshold = float(row["threshold"])
    if before is not None and before.alerted_us is not None:
        threshold = before.threshold
    point = (ts_us, score, int(row["leak_requests"]), int(row["leak_bytes"]))
    peak, peak_us, curve = score, ts_us, _curve(before.curve if before else (), point)
    if before is not None and score <= before.score:
        # a crossing without a new maximum: a cold key's threshold came down to the score
        peak, peak_us, curve = before.score, before.peak_us, before.curve
    severity = severity_of(peak, threshold)
    opened_us, ordinal = int(row["opened_us"]), int(row["opened_ordinal"])
    return Episode(
        alert_id=alert_id(who.name.text, CHANNELS[channel], opened_us, ordinal),
        key=who.name.text,
        owner=who.owner,
        channel=CHANNELS[channel],
        severity=severity,
        state="open",
        opened_us=opened_us,
        first_suspicious_us=int(row["suspect_us"]),
        peak_us=peak_us,
        last_seen_us=max(ts_us, before.last_seen_us) if before else ts_us,
        closed_us=None,
        alerted_us=before.alerted_us if before else None,
        score=peak,
        threshold=round(threshold, 3),
        return_period_days=before.return_period_days if before else None,
        reasons=(),
        actor=None,
        requests_leaked=point[2],
        bytes_leaked=point[3],
        action="none",
        simulated=True,
        curve=curve,
        credential=who.name.credential,
    )


def _curve(points: tuple[CurvePoint, ...], point: CurvePoint) -> tuple[CurvePoint, ...]:
    """Adds a maximum; at the limit the inner point that adds least is dropped."""
    longer = (*points, point)
    if len(longer) <= CURVE_POINTS_MAX:
        return longer
    gains = [longer[i + 1][1] - longer[i - 1][1] for i in range(1, len(longer) - 1)]
    drop = 1 + gains.index(min(gains))
    return longer[:drop] + longer[drop + 1 :]
