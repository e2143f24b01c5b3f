"""Shards and fleet stage as the live service has them, fed in event-time order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from zlib import crc32

import numpy as np
import numpy.typing as npt

from detector.core.control import EVERYONE, Alert, Control, Expected, about, end_of
from detector.core.episodes import CHANNELS, THROTTLE, Episode
from detector.core.events import EventBatch
from detector.core.fleet import FleetStage
from detector.core.fleet_silences import Silence, grid
from detector.core.shard import Shard
from replay.agenda import Agenda, Wish

END_US = (1 << 63) - 1


@dataclass(slots=True)
class Engine:
    """The whole pipeline behind the decoder.

    ``agenda`` holds control records to come; ``review`` may answer an alert with one.
    """

    shards: Sequence[Shard]
    fleet: FleetStage
    alerts: list[Episode] = field(default_factory=list)
    notices: list[Episode] = field(default_factory=list)  # about no single key
    throttles: list[Episode] = field(default_factory=list)  # recommended, no alerts
    surges: list[Episode] = field(default_factory=list)  # all of the throttle channel, at the end
    silences: list[Silence] = field(default_factory=list)  # in no budget, no alerts
    last_us: int = 0
    agenda: Agenda = field(default_factory=Agenda)
    review: Callable[[Episode], Wish | None] = lambda _: None
    _raised: dict[str, Episode] = field(default_factory=dict)
    _home: dict[int, int] = field(default_factory=dict)  # shard by key hash
    _told: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.fleet.population = self.keys_by

    def fold(self, batch: EventBatch) -> None:
        """Folds a batch; batches follow each other in event time, but for late shipments.

        A late event is treated as the service treats it: by its key's own time. What it raises
        is decided at once.
        """
        if not len(batch):
            return
        self.fleet.start(int(batch.ts_us[0]))
        low, last_us = 0, int(batch.ts_us.max())
        while self.agenda.next_us <= last_us:
            due_us = self.agenda.next_us
            reached = np.maximum.accumulate(batch.ts_us[low:])  # a late event is its neighbours'
            high = low + int(np.searchsorted(reached, due_us, "left"))
            self._fold(batch.take(slice(low, high)))
            low = high
            self._decide(due_us)
            self._tell(self.agenda.pop())
        self._fold(batch.take(slice(low, None)))
        self._decide(self.last_us)

    def finish(self) -> list[Episode]:
        """Decides what is left; returns all episodes, in opening order."""
        for shard in self.shards:
            shard.finish(self.last_us)
        self._decide(END_US)
        self._listen(self.last_us, is_end=True)
        episodes = [e for shard in self.shards for e in shard.close_all()] + self.notices
        episodes.sort(key=lambda e: (e.opened_us, e.alert_id))
        self.surges = [e for e in episodes if e.channel == CHANNELS[THROTTLE]]
        return [e for e in episodes if e.channel != CHANNELS[THROTTLE]]

    def requests(self) -> dict[str, int]:
        """Events by key, those that were too late included."""
        return {key: n for shard in self.shards for key, n in shard.requests()}

    def keys_by(self, ts_us: int) -> int:
        """Keys the log had shown by an event time."""
        return sum(shard.keys_by(ts_us) for shard in self.shards)

    def told(self) -> dict[str, int]:
        """Control records by what became of them; ``not_reached`` are later than the log."""
        counts = {name: self._told[name] for name in ("applied", "unknown")}
        return {**counts, "not_reached": len(self.agenda)}

    def _fold(self, batch: EventBatch) -> None:
        if not len(batch):
            return
        if len(self.shards) == 1:
            self.fleet.offer(self.shards[0].fold(batch))
        else:
            owner = self._homes(batch)
            for i, shard in enumerate(self.shards):
                self.fleet.offer(shard.fold(batch.take(np.flatnonzero(owner == i))))
        self.last_us = max(self.last_us, int(batch.ts_us.max()))
        for shard in self.shards:
            shard.advance(self.last_us)
        self._listen(grid(self.last_us))

    def _listen(self, until_us: int, *, is_end: bool = False) -> None:
        """Takes the silences that are due by then."""
        silences = self.fleet.silences
        found = [s for shard in self.shards for s in shard.take_silences()]
        if until_us > silences.swept_us:
            after_us = silences.swept_us
            found += [s for shard in self.shards for s in shard.silences(after_us, until_us)]
        silences.hear(found)
        if until_us > silences.swept_us:
            self.silences += silences.take(until_us, is_end=is_end)

    def _homes(self, batch: EventBatch) -> npt.NDArray[np.int64]:
        """The shard of each event: a key and its successors are always in the same one."""
        n, registry = len(self.shards), self.shards[0].registry
        owner = (batch.key_lo % np.uint64(n)).astype(np.int64)
        if registry is None or not registry.has_successors:
            return owner
        lows, first, which = np.unique(batch.key_lo, return_index=True, return_inverse=True)
        homes = owner[first]
        for i, low in enumerate(lows.tolist()):
            if low not in self._home:
                key = int(batch.key_hi[first[i]]) << 64 | low
                family = registry.family(batch.names.keys[key].text) if key else None
                self._home[low] = int(homes[i]) if family is None else crc32(family.encode()) % n
            homes[i] = self._home[low]
        return homes[which]

    def _decide(self, watermark_us: int) -> None:
        raised = self.fleet.release(watermark_us)
        self.throttles += self.fleet.take_throttles()
        for alert in raised:
            self.alerts.append(alert)
            self._raised[alert.alert_id] = alert
            if not any(shard.mark_alerted(alert) for shard in self.shards):
                self.notices.append(replace(alert, state="closed", closed_us=alert.opened_us))
            wish = self.review(alert)
            if wish is not None:
                self.agenda.add(wish)

    def _tell(self, wish: Wish | Control) -> None:
        """Applies what was said, everywhere, as of its event time."""
        record = self._resolved(wish) if isinstance(wish, Wish) else wish
        if record is None:
            self._told["unknown"] += 1
            return
        self.fleet.tell(record)
        if isinstance(record, Expected) and record.until_us is not None:
            self.agenda.add(end_of(record))
        known = [shard.control(record) for shard in self.shards]
        self._told["applied" if any(known) or record.key == EVERYONE else "unknown"] += 1

    def _resolved(self, wish: Wish) -> Control | None:
        if not wish.alert_id:
            return wish.record()
        alert = self._raised.get(wish.alert_id)
        if alert is None:
            return None
        channel = CHANNELS.index(alert.channel)
        factors = self.shards[0].factors_at(alert.peak_us, channel)
        return about(wish.verdict, Alert.of(alert), wish.at_us, factors, wish.until_us)
