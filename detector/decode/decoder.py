"""The decoders behind ``core.ports.Decoder``: canonical events, combined lines, and either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from detector.core.events import I16, I64, U8, Decoded, EventBatch, RecordBatch
from detector.decode import faults
from detector.decode.bytes import PAD
from detector.decode.columns import ColumnMaker, Places
from detector.decode.kernel_json import scan_json
from detector.decode.kernel_line import mark_not_ascii, scan_lines
from detector.decode.rows import BYTES, CHAIN, SOURCE_IP, STATUS, Extra, Rows
from detector.decode.settings import DecodeSettings
from detector.decode.tolerant import Refused, events_of, parse_event

_DETECT_BYTES_MAX = 65_536


@dataclass(slots=True)
class _Units:
    """What is decoded one by one: messages, or the members of their arrays."""

    values: Sequence[bytes]
    lengths: I64
    places: Places
    fault: I16


def _units(records: RecordBatch, settings: DecodeSettings) -> _Units:
    n, values = len(records), records.values
    sizes = np.fromiter(map(len, values), np.int64, n)
    fault = np.zeros(n, np.int16)
    large = np.flatnonzero(sizes > settings.value_bytes_max)
    lengths = sizes
    if len(large):
        fault[large] = faults.TOO_LARGE
        lengths = sizes.copy()
        lengths[large] = 0
        values = list(values)
        for row in large.tolist():
            values[row] = b""
    index = np.zeros(n, np.int16)
    broker_ms = np.array(records.timestamp_ms, np.int64)  # a copy: one kernel for all callers
    places = Places(records.source, records.partition, records.offsets, index, sizes, broker_ms)
    return _Units(values, lengths, places, fault)


def _buffer(values: Sequence[bytes], lengths: I64) -> tuple[U8, I64]:
    bounds = np.zeros(len(values) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return np.frombuffer(b"".join([*values, PAD]), np.uint8), bounds


class CanonicalDecoder:
    """JSON events; a JSON array is several events of one message, in its order.

    The fast scanner reads what is plain; ``tolerant.py`` reads the rest, value by value.
    """

    def __init__(self, settings: DecodeSettings, maker: ColumnMaker | None = None) -> None:
        self._settings = settings
        self.maker = maker or ColumnMaker(settings)

    def decode(self, records: RecordBatch) -> Decoded:
        """Columns of a record batch. Raises ``ConfigError`` for raw keys without a pepper."""
        units = _units(records, self._settings)
        rows = self._scan(units)
        slow = np.flatnonzero(rows.fault == faults.SLOW)
        if any(_may_be_array(units.values[row]) for row in slow.tolist()):
            units = _exploded(units, slow)
            rows = self._scan(units)
            slow = np.flatnonzero(rows.fault == faults.SLOW)
        extra = Extra(rows)
        for row in slow.tolist():
            _read_tolerantly(rows, extra, row, units.values[row])
        extra.close()
        return self.maker.make(rows, units.places)

    @staticmethod
    def _scan(units: _Units) -> Rows:
        buf, bounds = _buffer(units.values, units.lengths)
        rows = Rows.of(buf, len(units.values))
        rows.fault[:] = units.fault
        scan_json(buf, bounds, rows.cells, rows.fault)
        return rows


def _may_be_array(value: bytes) -> bool:
    return value[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"")


def _exploded(units: _Units, slow: I64) -> _Units:
    """Arrays replaced by their members, in place; a broken array is one refused unit."""
    members: dict[int, list[bytes]] = {}
    fault = units.fault.copy()
    for row in slow.tolist():
        try:
            members[row] = events_of(units.values[row])
        except Refused as refused:
            fault[row] = refused.fault
    counts = np.ones(len(fault), np.int64)
    for row, events in members.items():
        counts[row] = len(events)
    values: list[bytes] = []
    for row, value in enumerate(units.values):
        values += members.get(row, (value,))
    source = np.repeat(np.arange(len(fault)), counts)
    first = np.cumsum(counts) - counts
    index = (np.arange(len(source)) - first[source]).astype(np.int16)
    old = units.places
    places = Places(
        old.source,
        old.partition,
        old.offsets[source],
        index,
        old.size_bytes[source],
        old.broker_ms[source],
    )
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    return _Units(values, lengths, places, fault[source])


def _read_tolerantly(rows: Rows, extra: Extra, row: int, value: bytes) -> None:
    try:
        event = parse_event(value)
    except Refused as refused:
        rows.fault[row] = refused.fault
        return
    rows.fault[row] = faults.OK
    for field, text in event.texts.items():
        extra.put(row, field, text)
    rows.cells[row, STATUS, 0], rows.cells[row, BYTES, 0] = event.status, event.size_bytes


class CombinedDecoder:
    """nginx combined lines: key = ``$remote_user``, address by ``trusted_proxies``."""

    def __init__(self, settings: DecodeSettings, maker: ColumnMaker | None = None) -> None:
        self._settings = settings
        self.maker = maker or ColumnMaker(settings)

    def decode(self, records: RecordBatch) -> Decoded:
        """Columns of a record batch; a line that does not match is ``bad_line``."""
        units = _units(records, self._settings)
        buf, bounds = _buffer(units.values, units.lengths)
        rows = Rows.of(buf, len(units.values))
        rows.fault[:] = units.fault
        _refuse_not_utf8(units.values, buf, bounds, rows)
        if scan_lines(buf, bounds, rows.cells, rows.fault) and self._settings.trusted_proxies:
            _join_chains(rows)
        return self.maker.make(rows, units.places, is_log=True)


def _refuse_not_utf8(values: Sequence[bytes], buf: U8, bounds: I64, rows: Rows) -> None:
    marks = np.zeros(len(values), np.uint8)
    if not mark_not_ascii(buf, bounds, marks):
        return
    for row in np.flatnonzero(marks).tolist():
        try:
            values[row].decode()
        except UnicodeDecodeError:
            rows.fault[row] = faults.NOT_UTF8


def _join_chains(rows: Rows) -> None:
    """The forwarded list with the peer at its right end, which is how it is walked."""
    extra = Extra(rows)
    for row in np.flatnonzero((rows.cells[:, CHAIN, 1] > 0) & (rows.fault == faults.OK)).tolist():
        peer = rows.value(row, SOURCE_IP)
        if peer:
            extra.put(row, SOURCE_IP, rows.value(row, CHAIN) + b", " + peer)
    extra.close()


class AutoDecoder:
    """Decides by the first record that is one or the other, and sticks to it.

    A JSON object or array means canonical; otherwise a line that matches means combined.
    Records before that are rejected. ``chosen`` is None until then.
    """

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self.maker = ColumnMaker(settings)
        self.chosen: str | None = None
        self._decoder: CanonicalDecoder | CombinedDecoder | None = None

    def decode(self, records: RecordBatch) -> Decoded:
        """Columns of a record batch."""
        if self._decoder is not None:
            return self._decoder.decode(records)
        for row, value in enumerate(records.values):
            decoder = self._choose(value)
            if decoder is not None:
                self._decoder = decoder
                decoded = decoder.decode(_part(records, slice(row, None)))
                head = self._undecided(_part(records, slice(0, row)))
                return Decoded(decoded.batch, [*head.rejected, *decoded.rejected], decoded.no_key)
        return self._undecided(records)

    def _choose(self, value: bytes) -> CanonicalDecoder | CombinedDecoder | None:
        if len(value) > self._settings.value_bytes_max:
            return None
        if _is_json(value):
            self.chosen = "canonical"
            return CanonicalDecoder(self._settings, self.maker)
        head = value[:_DETECT_BYTES_MAX]
        buf, bounds = _buffer([head], np.array([len(head)]))
        rows = Rows.of(buf, 1)
        scan_lines(buf, bounds, rows.cells, rows.fault)
        if rows.fault[0] != faults.OK:
            return None
        self.chosen = "combined"
        return CombinedDecoder(self._settings, self.maker)

    @staticmethod
    def _undecided(records: RecordBatch) -> Decoded:
        rejected = [
            faults.rejected(
                faults.UNDECIDED if value.strip() else faults.EMPTY,
                records.source,
                records.partition,
                offset,
                0,
                len(value),
            )
            for value, offset in zip(records.values, records.offsets.tolist(), strict=True)
        ]
        return Decoded(EventBatch.empty(), rejected, 0)


def _is_json(value: bytes) -> bool:
    if value[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
        return False
    try:
        msgspec.json.decode(value.removeprefix(b"\xef\xbb\xbf"), type=msgspec.Raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _part(records: RecordBatch, rows: slice) -> RecordBatch:
    return RecordBatch(
        records.source,
        records.partition,
        records.values[rows],
        records.offsets[rows],
        records.timestamp_ms[rows],
    )
