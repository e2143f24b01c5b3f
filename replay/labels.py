"""Labels: which key was attacked, how, and when. For judging, never for detecting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from detector.core.episodes import rfc3339
from detector.core.errors import UsageError
from detector.core.events import I64

LABELS_BYTES_MAX = 256 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """One attack on one key from ``start_us`` to ``end_us``, event time, both inclusive.

    ``donor`` is the key whose requests play the thief, where there is one. ``times_us``,
    sorted, are those of the attack's requests, where they are known.
    """

    key: str
    kind: str
    start_us: int
    end_us: int
    requests: int
    donor: str | None = None
    times_us: I64 | None = None

    def to_record(self) -> dict[str, Any]:
        """The label's line: key, kind, start, end, requests."""
        return {
            "key": self.key,
            "kind": self.kind,
            "start": rfc3339(self.start_us),
            "end": rfc3339(self.end_us),
            "requests": self.requests,
        }


def time_us(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time; UTC where it names no zone.

    >>> time_us("2026-09-21T14:15:23.456Z")
    1790000123456000
    """
    at = datetime.fromisoformat(text)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def parse_labels(data: bytes, name: str = "labels") -> list[Label]:
    """Labels from a JSON array, or from one JSON object a line, of either known form.

    The simulator writes ``key, kind, start, end, requests``; key-swap benchmarks write
    ``key_id, kind, start, end, rows, donor`` and more. Raises ``UsageError`` naming the entry.

    >>> line = b'{"key":"a","kind":"flood","start":"2026-01-01T00:00:00Z",'
    >>> line += b'"end":"2026-01-01T01:00:00Z","requests":9}'
    >>> [(l.key, l.kind, l.requests, l.end_us - l.start_us) for l in parse_labels(line)]
    [('a', 'flood', 9, 3600000000)]
    """
    return [
        _label(record, f"{name}: label {i + 1}") for i, record in enumerate(_records(data, name))
    ]


def read_labels(path: Path) -> list[Label]:
    """The labels of a file; see ``parse_labels``."""
    try:
        if path.stat().st_size > LABELS_BYTES_MAX:
            raise UsageError(f"labels {path}: larger than {LABELS_BYTES_MAX >> 20} MiB")
        data = path.read_bytes()
    except OSError as e:
        raise UsageError(f"labels {path}: cannot be read: {e.strerror}") from e
    return parse_labels(data, f"labels {path}")


def write_labels(path: Path, labels: Iterable[Label]) -> None:
    """Writes one label a line, in the given order."""
    lines = [msgspec.json.encode(label.to_record()) + b"\n" for label in labels]
    path.write_bytes(b"".join(lines))


def _records(data: bytes, name: str) -> list[Any]:
    try:
        if data.lstrip()[:1] == b"[":
            return msgspec.json.decode(data, type=list[Any])
        return [msgspec.json.decode(line) for line in data.splitlines() if line.strip()]
    except msgspec.DecodeError as e:
        raise UsageError(f"{name}: not valid JSON: {e}") from e


def _label(record: Any, where: str) -> Label:
    if not isinstance(record, dict):
        raise UsageError(f"{where}: not a JSON object")
    key, donor = record.get("key", record.get("key_id")), record.get("donor")
    requests = record.get("requests", record.get("rows", 0))
    if not isinstance(key, str) or not isinstance(record.get("kind"), str):
        raise UsageError(f"{where}: key and kind must be texts")
    if not isinstance(requests, int) or requests < 0:
        raise UsageError(f"{where}: requests must be a number from 0 up")
    try:
        start_us, end_us = time_us(record["start"]), time_us(record["end"])
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(f"{where}: start and end must be RFC 3339 times") from e
    if end_us < start_us:
        raise UsageError(f"{where}: ends before it starts")
    donor = donor if isinstance(donor, str) else None
    return Label(key, record["kind"], start_us, end_us, requests, donor)


def label_of(key: str, kind: str, times_us: I64) -> Label:
    """The label of an attack's requests, given by their times in any order.

    >>> label_of("a", "flood", np.array([3, 1, 2])).requests
    3
    """
    times = np.sort(times_us)
    return Label(key, kind, int(times[0]), int(times[-1]), len(times), times_us=times)
