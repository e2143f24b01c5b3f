"""Undecoded values of a batch as spans of one byte buffer: what every reader makes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.events import I16, I64, U8
from detector.decode.bytes import PAD

TS, KEY_ID, API_KEY, METHOD, PATH, ROUTE, SOURCE_IP, USER_AGENT, AUTH, OWNER, CREDENTIAL = range(11)
STATUS, BYTES = 11, 12  # numbers, in the first half of their cell
CHAIN = 13  # a combined line's forwarded-for, until it is joined with its address
N_FIELDS = 14


@dataclass(slots=True)
class Rows:
    """n events before interpretation.

    Text field f of event i is ``n`` bytes at ``buf[start]`` with ``start, n = cells[i, f]``;
    0 bytes are a missing value. ``buf`` ends with ``PAD``. ``fault`` is 0 or a number of
    ``faults.py``.
    """

    buf: U8
    cells: I64
    fault: I16

    @classmethod
    def of(cls, buf: U8, n: int) -> Rows:
        """N events without any value yet."""
        return cls(buf, np.zeros((n, N_FIELDS, 2), np.int64), np.zeros(n, np.int16))

    def append(self, tail: U8) -> None:
        """Makes the buffer longer. ``tail`` ends with ``PAD``."""
        self.buf = np.concatenate([self.buf, tail])
        self.buf.flags.writeable = False  # as every other buffer: one kernel serves all

    def value(self, row: int, field: int) -> bytes:
        """The bytes of one field; empty for a missing one."""
        first, n = self.cells[row, field].tolist()
        return self.buf[first : first + n].tobytes()

    def values(self, rows: I64, field: int) -> list[bytes]:
        """The bytes of one field of many rows."""
        view = self.buf.data
        return [bytes(view[first : first + n]) for first, n in self.cells[rows, field].tolist()]

    def text(self, row: int, field: int, bytes_max: int = 1 << 30) -> str:
        """The text of one field, cut to ``bytes_max``; never fails."""
        return self.value(row, field)[:bytes_max].decode("utf-8", "replace")


class Extra:
    """Values that are not verbatim in the input: appended to the buffer when done."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._bytes = bytearray()
        self._places: list[tuple[int, int]] = []
        self._spans: list[tuple[int, int]] = []

    def put(self, row: int, field: int, value: bytes) -> None:
        """Sets one text field of one event; visible after ``close``."""
        self._places.append((row, field))
        self._spans.append((len(self._bytes), len(value)))
        self._bytes += value

    def close(self) -> None:
        """Makes the values part of the rows' buffer."""
        if self._places:
            row, field = np.array(self._places, np.int64).T
            base = np.array([len(self._rows.buf), 0])
            self._rows.cells[row, field] = np.array(self._spans, np.int64) + base
            self._rows.append(np.frombuffer(bytes(self._bytes) + PAD, np.uint8))
