"""What people said about alerts and keys, as a file, in the order of event time.

One JSON object a line: ``at`` (RFC 3339), ``verdict`` (``expected``, ``confirmed``,
``withdrawn``, ``reset``), and either ``alert_id``, or ``key`` with ``network`` or ``client`` or
both; ``until`` ends an ``expected``. A ``reset`` has only ``key``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Literal

import msgspec

from detector.core.control import Control, Verdict, said
from detector.core.errors import UsageError
from replay.labels import time_us

END_US = (1 << 63) - 1
WISHES_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class Wish:
    """A verdict as a person gives it; what it means follows from the alert it names."""

    at_us: int
    verdict: str
    alert_id: str = ""
    key: str = ""
    network: str = ""
    client: str = ""
    until_us: int | None = None

    def record(self) -> Control:
        """The control record of a wish that names no alert."""
        fields = Verdict(at_us=self.at_us, key=self.key, network=self.network, client=self.client)
        return said(self.verdict, fields, self.until_us)


class Agenda:
    """Wishes and records to come, by event time; of one time, in the order in which they came."""

    def __init__(self, wishes: Iterable[Wish] = ()) -> None:
        self._heap: list[tuple[int, int, Wish | Control]] = [
            (wish.at_us, i, wish) for i, wish in enumerate(wishes)
        ]
        self._added = len(self._heap)
        heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_us(self) -> int:
        """Event time of the first one; beyond all time when there is none."""
        return self._heap[0][0] if self._heap else END_US

    def add(self, item: Wish | Control) -> None:
        """Adds one."""
        heappush(self._heap, (item.at_us, self._added, item))
        self._added += 1

    def pop(self) -> Wish | Control:
        """Takes the first one out."""
        return heappop(self._heap)[2]


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    at: str
    verdict: Literal["expected", "confirmed", "withdrawn", "reset"]
    alert_id: str = ""
    key: str = ""
    network: str = ""
    client: str = ""
    until: str | None = None


def read_wishes(path: Path) -> list[Wish]:
    """The file's wishes. Raises ``UsageError`` that names the line."""
    try:
        if path.stat().st_size > WISHES_BYTES_MAX:
            raise UsageError(f"{path} is over {WISHES_BYTES_MAX >> 20} MiB")
        lines = path.read_bytes().splitlines()
    except OSError as e:
        raise UsageError(f"cannot read verdicts {path}: {e.strerror}") from e
    return [_wish(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]


def _wish(line: bytes, where: str) -> Wish:
    try:
        parsed = msgspec.json.decode(line, type=_Line)
        at_us = time_us(parsed.at)
        until_us = None if parsed.until is None else time_us(parsed.until)
    except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as e:
        raise UsageError(f"{where}: not a verdict: {e}") from e
    if fault := _fault(parsed, at_us, until_us):
        raise UsageError(f"{where}: {fault}")
    named = parsed.alert_id, parsed.key, parsed.network, parsed.client
    return Wish(at_us, parsed.verdict, *named, until_us)


def _fault(line: _Line, at_us: int, until_us: int | None) -> str:
    """What is wrong with a line, "" when nothing is."""
    source = bool(line.network or line.client)
    if line.verdict == "reset" and (not line.key or line.alert_id or source):
        return "a reset names a key, and nothing else"
    if bool(line.alert_id) == bool(line.key):
        return "give alert_id or key, one of them"
    if line.alert_id and source:
        return "network and client are those of the alert"
    if line.verdict != "reset" and line.key and not source:
        return "a verdict on a key names a network or a client"
    if until_us is not None and (line.verdict != "expected" or until_us <= at_us):
        return "until belongs to expected, and is later than at"
    return ""
