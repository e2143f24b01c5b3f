"""Notices: one row about many keys, with key ``*``, in the place of an alert for each."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from detector.core.episodes import Actor, Candidate, Episode, Grounds, Reason, alert_id, alerted
from detector.core.explain import advised
from detector.core.fleet_window import DAY_US, HOUR_US, Finding, Notice

HARD_KEYS_MAX = 20
HARD_KEPT_US = 2 * DAY_US


class HardFacts(msgspec.Struct):
    """Facts of the last two days, and the keys that had one within the last hour."""

    known: dict[str, int] = {}  # alert_id -> time; a key reports each fact once a day
    keys: dict[str, int] = {}  # key -> time of its latest one, oldest first

    def decide(self, c: Candidate) -> Episode | None:
        """A fact is an alert at once; more than HARD_KEYS_MAX keys an hour are one notice a day."""
        episode = c.episode
        if episode.alert_id in self.known:
            return None
        self.known[episode.alert_id] = c.ts_us
        self.keys.pop(episode.key, None)
        self.keys[episode.key] = c.ts_us
        while next(iter(self.keys.values())) <= c.ts_us - HOUR_US:
            del self.keys[next(iter(self.keys))]
        if len(self.keys) <= HARD_KEYS_MAX:
            return alerted(episode, c.ts_us, None)
        notice = _registry_notice(c, len(self.keys))
        if notice.alert_id in self.known:
            return None
        self.known[notice.alert_id] = c.ts_us
        return notice

    def forget(self, now_us: int) -> None:
        """Drops what can no longer be repeated."""
        self.known = {k: t for k, t in self.known.items() if t > now_us - HARD_KEPT_US}


def as_episode(known: Finding, notice: Notice, c: Candidate, now_us: int) -> Episode:
    """A notice about a cause, raised by this candidate, in the form of an alert."""
    e = c.episode
    channel = e.channel if known.is_of_channel else "stolen"
    reason = Reason(notice.signal, e.score, notice.keys, notice.expected, notice.text)
    actor = Actor(notice.network, "several", now_us, 0) if notice.network else None
    if actor is not None and e.actor is not None and e.actor.network == notice.network:
        actor = replace(e.actor, client="several")
    its_id = alert_id("*", f"{channel}/{known.about}", now_us // DAY_US, 0)
    return advised(
        replace(
            _about_many(e, its_id, now_us),
            channel=channel,
            severity=notice.severity,
            reasons=(reason,),
            actor=actor,
        )
    )


def _registry_notice(c: Candidate, n_keys: int) -> Episode:
    """One notice for a registry, grants or decoys that look wrong, per day and fact."""
    fact = c.episode.reasons[0].signal
    what = {
        "out_of_grant": "succeeded outside their grants",
        "decoy": "touched a decoy",
        "revoked": "were used after they had been revoked",
        "rotated": "were used after they had been replaced",
    }
    text = f"{n_keys} keys {what.get(fact, fact)} within an hour: check the registry"
    day_us = c.ts_us // DAY_US * DAY_US
    return advised(
        replace(
            _about_many(c.episode, alert_id("*", f"abused/{fact}", day_us, 0), c.ts_us),
            severity="medium",
            reasons=(Reason(fact, c.episode.score, n_keys, 0.0, text),),
        )
    )


def _about_many(e: Episode, its_id: str, now_us: int) -> Episode:
    """An episode without what belongs to the one key that happened to raise it."""
    return replace(
        alerted(e, now_us, None),
        alert_id=its_id,
        key="*",
        owner=None,
        opened_us=now_us,
        first_suspicious_us=now_us,
        peak_us=now_us,
        last_seen_us=now_us,
        actor=None,
        requests_leaked=0,
        bytes_leaked=0,
        curve=((now_us, e.score, 0, 0),),
        credential=(),
        normal=(),
        owner_carries_on=None,
        grounds=Grounds(),
    )
