"""Common causes: what many keys share is not evidence against each of them.

Deterministic, from candidates alone in (event time, key) order. Four rules, each in a module
of its own: a log that changed, a network on many keys, a client release, a storm of one signal.
"""

from __future__ import annotations

import msgspec

from detector.core.episodes import Candidate
from detector.core.fleet_clients import Clients
from detector.core.fleet_log import WAIT_US, LogChanges
from detector.core.fleet_networks import Networks
from detector.core.fleet_storms import NEAR, Storms
from detector.core.fleet_window import DAY_US, Finding, Sight, expire_times, owner_of, put

WEEK_US = 7 * DAY_US
HOLD_US = 60_000_000  # that long others may show the same before a candidate is an alert
ACTIVE_KEYS_MAX = 50_000
# "Nearly all keys": this share of those with candidates in the last week, at least 20 keys, and
# never more than the windows hold.
LOG_CHANGE_SHARE, LOG_CHANGE_MIN, LOG_CHANGE_MAX = 0.3, 20, 200


class Causes(msgspec.Struct):
    """What the rules remember. All of it is bounded by the caps in their modules."""

    week: dict[str, int] = {}  # key -> time of its latest candidate, oldest first
    today: dict[str, int] = {}
    networks: Networks = msgspec.field(default_factory=Networks)
    clients: Clients = msgspec.field(default_factory=Clients)
    storms: Storms = msgspec.field(default_factory=Storms)
    log: LogChanges = msgspec.field(default_factory=LogChanges)

    def hear(self, c: Candidate, now_us: int, start_us: int) -> Finding:
        """Counts a key whose lines changed; has a notice if that completes the evidence."""
        who = c.episode.key, owner_of(c)
        return self.log.observe(c.change, *who, now_us, start_us, len(self.week))

    def observe(self, sight: Sight, start_us: int) -> tuple[Finding, list[tuple[str, float]]]:
        """Counts a candidate.

        Returns a notice about the log itself, if this candidate completes the evidence, and
        ``(alert_id, nats left)`` of the candidates that a storm which began now explains.
        """
        for keys, length_us in ((self.week, WEEK_US), (self.today, DAY_US)):
            expire_times(keys, sight.now_us - length_us)
            put(keys, sight.key, sight.now_us, ACTIVE_KEYS_MAX)
        limit = self._log_change_keys()
        if self.log.judge(sight) is not None:  # spoken for: neither a party nor a storm
            return Finding(), []
        changed = self.networks.observe(sight, limit)
        if changed.notice is None:
            changed = self.clients.observe(sight, limit)
        if self.networks.is_fan(sight.network):  # spoken for: no storm
            return changed, []
        return changed, self.storms.observe(sight, start_us)

    def judge(self, sight: Sight, start_us: int) -> Finding:
        """What common causes make of a candidate."""
        limit = self._log_change_keys()
        shared = self.log.judge(sight) or self.networks.judge(sight, limit)
        if shared is not None:
            return shared
        release = self.clients.judge(sight, len(self.today))
        storm = self.storms.judge(sight, limit, start_us)
        if release.nats < 0.0 and storm.nats < 0.0:
            return msgspec.structs.replace(storm, nats=release.nats + storm.nats)
        return release if release.nats < 0.0 else storm

    def concerns(self, sight: Sight) -> bool:
        """True when a rule may change what becomes of it."""
        return sight.level >= NEAR * sight.bar or self.networks.is_fan(sight.network)

    def wait_us(self, sight: Sight) -> int:
        """How long to wait for others: it rests on what another key has just shown too."""
        if self.log.has_company(sight):
            return WAIT_US
        depends = self.storms.depends(sight) and self.storms.has_company(sight)
        return HOLD_US if depends else 0

    def forget(self, now_us: int) -> None:
        """Drops what no window counts any more, once a day."""
        self.log.forget(now_us)
        self.clients.forget(now_us)
        self.storms.forget(now_us)

    def _log_change_keys(self) -> int:
        share = int(LOG_CHANGE_SHARE * len(self.week))
        return min(max(share, LOG_CHANGE_MIN), LOG_CHANGE_MAX)
