"""Stand-ins for tests of the real loop: scripted input, remembered output, a clock by hand.

Public: whoever builds on keywatch may test with them. None is used by the service.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from detector.core.errors import DeliveryError
from detector.core.events import RecordBatch
from detector.core.ports import Polled


class _Marker:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


ABORT: Final = _Marker("ABORT")
"""Raises ``ScriptAborted`` when reached the first time, as if the process had died there."""
EOF: Final = _Marker("EOF")
"""Nothing will ever come again; what follows is not read."""


class ScriptAborted(BaseException):
    """An ``ABORT`` in a script. Not an ``Exception``: nobody may handle it as a mistake."""


@dataclass(slots=True)
class ScriptedSource:
    """Plays a list of record batches, one per poll, behind the ``Source`` port.

    It can be resumed: a second runner over the same object is assigned the same partitions
    again and gets every record from the offsets it asks for. Without an ``EOF`` it goes on
    returning nothing at the end. ``max_records`` cuts batches as a client would.
    """

    script: Sequence[RecordBatch | _Marker]
    partitions: frozenset[int] = frozenset({0})
    max_records: int = 1_000_000
    committed: dict[int, int] = field(default_factory=dict)
    held: bool = False
    closed: bool = False
    _at: int = 0
    _row: int = 0
    _next: dict[int, int] = field(default_factory=dict)
    _aborted: set[int] = field(default_factory=set)
    _assigned: bool = False

    @property
    def partition_count(self) -> int:
        """How many partitions the scripted topic has."""
        return len(self.partitions)

    def poll(self, timeout_s: float) -> Polled:
        """The next batch of the script."""
        del timeout_s
        if not self._assigned:
            self._assigned, self.closed, self.held = True, False, False
            self._next, self._at, self._row = {}, 0, 0
            return Polled(assigned=self.partitions)
        if self.held:
            return Polled()
        while self._at < len(self.script):
            step = self.script[self._at]
            if step is EOF:
                return Polled(ended=True)
            if isinstance(step, RecordBatch):
                batch = self._cut(step)
                if batch is not None:
                    return Polled(batches=[batch])
                continue
            self._at += 1
            if self._at not in self._aborted:
                self._aborted.add(self._at)
                self._assigned = False
                raise ScriptAborted
        return Polled()

    def start(self, offsets: Mapping[int, int | None]) -> dict[int, int]:
        """Goes on from these offsets; ``None`` = from the script's beginning."""
        started = {p: o if o is not None else 0 for p, o in offsets.items()}
        self._next.update(started)
        return started

    def hold(self) -> None:
        """Delivers nothing until ``release``."""
        self.held = True

    def release(self) -> None:
        """Ends ``hold``."""
        self.held = False

    def commit(self, offsets: Mapping[int, int], wait_s: float = 0.0) -> None:
        """Remembers what was committed."""
        del wait_s
        self.committed.update(offsets)

    def lag(self) -> dict[int, int]:
        """Records of the script still to come, per started partition."""
        behind = dict.fromkeys(self._next, 0)
        for step in self.script:
            if isinstance(step, RecordBatch) and step.partition in behind:
                behind[step.partition] += int((step.offsets >= self._next[step.partition]).sum())
        return behind

    def close(self, timeout_s: float) -> None:
        """Ends this run; the next poll begins a new one."""
        del timeout_s
        self._assigned, self.closed = False, True

    def _cut(self, batch: RecordBatch) -> RecordBatch | None:
        """The next rows of this batch at or past the expected offset; None = used up."""
        expected = self._next.get(batch.partition)
        if expected is None:
            self._at, self._row = self._at + 1, 0
            return None
        row = max(self._row, int((batch.offsets < expected).sum()))
        end = min(row + self.max_records, len(batch))
        self._row = end
        if end >= len(batch):
            self._at, self._row = self._at + 1, 0
        if row >= end:
            return None
        self._next[batch.partition] = int(batch.offsets[end - 1]) + 1
        return RecordBatch(
            batch.source,
            batch.partition,
            batch.values[row:end],
            batch.offsets[row:end],
            batch.timestamp_ms[row:end],
        )


@dataclass(slots=True)
class ListSink:
    """Remembers every delivery, repeated ones too."""

    name: str = "list"
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def deliver(self, alert: dict[str, Any]) -> None:
        """Takes the alert."""
        self.alerts.append(alert)


class FlakySink(ListSink):
    """Fails a given share of attempts, chosen by a seed: before taking the alert or after it.

    ``failures`` counts both kinds; after the second kind the alert arrives twice.
    """

    def __init__(self, seed: int, failing_share: float = 0.5, name: str = "flaky") -> None:
        super().__init__(name)
        self._random = random.Random(seed)
        self._failing_share = failing_share
        self.failures = 0

    def deliver(self, alert: dict[str, Any]) -> None:
        """Takes the alert, or raises ``DeliveryError``, or both."""
        fails = self._random.random() < self._failing_share
        if not fails or self._random.random() < 0.5:
            super().deliver(alert)
        if fails:
            self.failures += 1
            raise DeliveryError("flaky", retriable=True)


@dataclass(slots=True)
class ManualClock:
    """A clock that moves only when told. Call it for the time in seconds."""

    now_s: float = 0.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Moves the clock, forwards only."""
        if seconds < 0:
            raise ValueError("a clock does not go back")
        self.now_s += seconds

    def sleep(self, seconds: float) -> None:
        """Stands in for ``time.sleep``: the time passes at once."""
        self.advance(seconds)
