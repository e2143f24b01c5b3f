"""The partitions a process holds in memory: state, and the offset it is the state of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from detector.controls import Journalled
from detector.core.control import Control
from detector.core.episodes import Episode
from detector.core.events import RecordBatch
from detector.core.fleet_silences import Silence
from detector.core.ports import Decoder
from detector.core.registry import KeyRegistry
from detector.core.settings import ShardSettings
from detector.core.shard import Shard


@dataclass(frozen=True, slots=True)
class Engine:
    """How to make the state of a partition."""

    make_decoder: Callable[[], Decoder]
    settings: ShardSettings
    false_alerts_per_week: float
    registry: KeyRegistry | None = None
    simulated: bool = True  # no live response is configured: alerts say so


@dataclass(slots=True)
class Partition:
    """One partition. ``changed`` = not in the newest snapshot set as it is now."""

    shard: Shard
    decoder: Decoder
    next_offset: int
    last_data_s: float
    changed: bool = False
    controls: deque[tuple[int, int, Control]] = field(default_factory=deque)

    def due_offset(self) -> int | None:
        """Offset before which the next control record takes effect; ``None`` without one."""
        return self.controls[0][0] if self.controls else None

    def parts(self, records: RecordBatch) -> Iterator[RecordBatch]:
        """The batch, cut where control records take effect.

        Each is applied once the part before it has been folded by the caller.
        """
        low, last = 0, int(records.offsets[-1])
        while (due := self.due_offset()) is not None and due <= last:
            high = int(np.searchsorted(records.offsets, due, "left"))
            if high > low:
                yield records.part(low, high)
            self.next_offset, low = max(self.next_offset, due), high
            self.catch_up()
        if low < len(records):
            yield records.part(low, len(records))

    def catch_up(self) -> bool:
        """Applies the control records whose offset is reached; True when one knew its key."""
        is_known = False
        while self.controls and self.controls[0][0] <= self.next_offset:
            _, sequence, record = self.controls.popleft()
            if sequence > self.shard.sequence:
                is_known |= self.shard.control(record, sequence)
                self.changed = True
        return is_known


@dataclass(slots=True)
class Partitions:
    """The assigned partitions, and the parked ones.

    A partition that is taken away stays in memory, parked: the state directory is this
    process's alone, so what is in memory stays the truth and is gone on from when the
    partition comes back. Parked memory is freed with the process only.

    Parameters
    ----------
    idle_after_s
        Wall time without a record after which a partition no longer holds back the watermark.
        Longer keeps the fleet's order strict; shorter delays alerts less when one dries up.
    """

    engine: Engine
    load: Callable[[int], tuple[int, bytes] | None]
    monotonic: Callable[[], float]
    idle_after_s: float
    assigned: dict[int, Partition] = field(default_factory=dict)
    journal: list[Journalled] = field(default_factory=list)  # what was recorded before this start
    _parked: dict[int, Partition] = field(default_factory=dict)

    def __getitem__(self, partition: int) -> Partition:
        return self.assigned[partition]

    def __len__(self) -> int:
        return len(self.assigned)

    def take_over(
        self,
        assigned: frozenset[int],
        start: Callable[[Mapping[int, int | None]], dict[int, int]],
    ) -> bool:
        """Makes a new assignment ours; True when a partition begins blank.

        What is in memory or in the newest snapshot set goes on at its own offset.
        """
        everything = {**self._parked, **self.assigned}
        found = {p: everything.pop(p, None) or self._loaded(p) for p in sorted(assigned)}
        wanted = {p: None if s is None else s.next_offset for p, s in found.items()}
        started = start(wanted)
        now_s = self.monotonic()
        self.assigned, self._parked = {}, everything
        for partition, offset in sorted(started.items()):
            state = found[partition] or self._blank(partition, offset)
            state.changed = state.changed or state.next_offset != offset
            state.next_offset, state.last_data_s = offset, now_s
            state.catch_up()
            self.assigned[partition] = state
        return None in wanted.values()

    def move(self, partition: int, offset: int) -> None:
        """The log's position was changed by the offset policy."""
        state = self.assigned[partition]
        state.next_offset, state.changed = offset, True

    def reached_us(self, lag: Callable[[], Mapping[int, int]]) -> int:
        """The watermark: event time that no partition is expected to go back before.

        The least clock of the partitions that are not idle. One that is known to be empty
        holds nobody back, one of which nothing is known yet does.
        """
        now_s = self.monotonic()
        live = {p: s for p, s in self.assigned.items() if now_s - s.last_data_s < self.idle_after_s}
        if not live:  # nothing has come for a while: everything seen may be decided
            return max((s.shard.clock_us for s in self.assigned.values()), default=-1) + 1
        clocks = {p: s.shard.clock_us for p, s in live.items()}
        if 0 in clocks.values():
            behind = lag()
            clocks = {p: c for p, c in clocks.items() if c or behind.get(p) != 0}
        return min(clocks.values(), default=0)

    def control(self, made: Journalled) -> bool:
        """Applies a record that was journalled for this very moment; True when its key is here."""
        is_known = False
        for partition, state in {**self._parked, **self.assigned}.items():
            if partition in made.offsets:
                state.controls.append((made.offsets[partition], made.sequence, made.record))
                is_known |= state.catch_up()
        return is_known

    def silences(self, after_us: int, until_us: int) -> list[Silence]:
        """Silences of all keys that are due in ``(after_us, until_us]`` and last."""
        return [s for state in self._all() for s in state.shard.silences(after_us, until_us)]

    def factors_at(self, ts_us: int, channel: int) -> tuple[float, ...]:
        """What verdicts multiply weights by for an event of that time: the same everywhere."""
        return self._all()[0].shard.factors_at(ts_us, channel)

    @property
    def offsets(self) -> dict[int, int]:
        """Next offset of every partition in memory."""
        return {p: s.next_offset for p, s in sorted({**self._parked, **self.assigned}.items())}

    def keys_by(self, ts_us: int) -> int:
        """Keys the partitions here had shown by an event time."""
        return sum(state.shard.keys_by(ts_us) for state in self._all())

    def mark_alerted(self, alert: Episode) -> None:
        """Writes the fleet's decision into whichever shard holds the episode."""
        for state in self._all():
            if state.shard.mark_alerted(alert):
                state.changed = True
                return

    def take_closed(self, watermark_us: int) -> list[Episode]:
        """Episodes that closed before the watermark, each once; a silent partition's too."""
        closed = []
        for state in self._all():
            state.shard.advance(watermark_us)
            taken = state.shard.take_closed(watermark_us)
            state.changed = state.changed or bool(taken)
            closed += taken
        return closed

    def take_changes(self) -> dict[int, tuple[int, bytes]]:
        """Next offset and state of what changed since the last call."""
        changes = {}
        for partition, state in sorted({**self._parked, **self.assigned}.items()):
            if state.changed:
                changes[partition] = (state.next_offset, state.shard.to_state())
                state.changed = False
        return changes

    def take_back(self, partitions: Iterable[int]) -> None:
        """These were not saved after all."""
        for partition in partitions:
            ({**self._parked, **self.assigned})[partition].changed = True

    @property
    def any_changed(self) -> bool:
        """True when a snapshot would say something new."""
        return any(s.changed for s in self._all())

    @property
    def next_offsets(self) -> dict[int, int]:
        """Of the assigned ones."""
        return {p: s.next_offset for p, s in sorted(self.assigned.items())}

    def _all(self) -> list[Partition]:
        return [*self._parked.values(), *self.assigned.values()]

    def _loaded(self, partition: int) -> Partition | None:
        found = self.load(partition)
        if found is None:
            return None
        next_offset, state = found
        shard = Shard.from_state(state, self.engine.settings, self.engine.registry)
        loaded = Partition(shard, self.engine.make_decoder(), next_offset, self.monotonic())
        return self._to_be_told(partition, loaded)

    def _to_be_told(self, partition: int, state: Partition) -> Partition:
        """Queues the records this partition's state does not have yet.

        One that was made before the partition was ever read here has no place in it: it is
        applied at once, for what it teaches.
        """
        state.controls.extend(
            (made.offsets.get(partition, state.next_offset), made.sequence, made.record)
            for made in self.journal
            if made.sequence > state.shard.sequence
        )
        return state

    def _blank(self, partition: int, offset: int) -> Partition:
        shard = Shard(self.engine.settings, self.engine.registry)
        decoder = self.engine.make_decoder()
        blank = Partition(shard, decoder, offset, self.monotonic(), changed=True)
        return self._to_be_told(partition, blank)
