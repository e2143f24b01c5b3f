"""Parquet files of canonical events: columns of the same names, into the same pipeline.

Text columns go over as they are (dictionary-encoded ones too). ``ts`` may be text, a number
or a timestamp of any unit; one without a zone counts as UTC. ``status`` and ``bytes`` may be
whole numbers, floats or text. ``credential`` may be a struct, a map-free JSON text or null.
What does not fit refuses the row, not the file. ``offset`` is the row's number in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detector.core.errors import ConfigError
from detector.core.events import I64, Decoded
from detector.decode import faults
from detector.decode.bytes import PAD
from detector.decode.columns import ColumnMaker, Places
from detector.decode.rows import BYTES, CREDENTIAL, STATUS, TS, Extra, Rows
from detector.decode.settings import DecodeSettings
from detector.decode.tolerant import Refused, whole_number

ROWS_PER_BATCH = 20_000


def read_parquet(path: Path, settings: DecodeSettings) -> Iterator[Decoded]:
    """Decodes a file in batches of 20,000 rows.

    Raises ``ConfigError`` when it cannot be read as Parquet, has no ``ts`` column, or holds
    raw keys and there is no pepper.
    """
    maker = ColumnMaker(settings)
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as e:
        raise ConfigError(f"cannot read {path} as Parquet") from e
    with file:
        wanted = [name for name in faults.FIELD_NAMES if name in file.schema_arrow.names]
        if "ts" not in wanted:
            raise ConfigError(f"{path} has no column named ts")
        first = 0
        try:
            for batch in file.iter_batches(ROWS_PER_BATCH, columns=wanted):
                yield _decode(batch, str(path), first, maker, settings)
                first += batch.num_rows
        except (OSError, pa.ArrowException) as e:
            raise ConfigError(f"{path} is damaged after row {first}") from e


def _decode(
    batch: Any, source: str, first: int, maker: ColumnMaker, settings: DecodeSettings
) -> Decoded:
    n = batch.num_rows
    rows = Rows.of(np.frombuffer(PAD, np.uint8), n)
    sizes = np.zeros(n, np.int64)
    for name in batch.schema.names:
        field, column = faults.FIELD_NAMES.index(name), batch.column(name)
        if field in (STATUS, BYTES):
            _numbers(rows, field, column)
        else:
            _texts(rows, field, _as_text(field, column))
            sizes += rows.cells[:, field, 1]
    rows.fault[sizes > settings.value_bytes_max] = faults.TOO_LARGE
    offsets = np.arange(first, first + n, dtype=np.int64)
    index, no_broker = np.zeros(n, np.int16), np.full(n, -1, np.int64)
    return maker.make(rows, Places(source, 0, offsets, index, sizes, no_broker))


def _as_text(field: int, column: Any) -> Any:
    """The column as text, or as a list of texts and faults where Arrow has no rule for it."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if field == TS and pa.types.is_timestamp(kind):
        micros = pc.cast(column, pa.timestamp("us", kind.tz), safe=False)
        return pc.cast(pc.cast(micros, pa.int64()), pa.large_string())
    if field == TS and pa.types.is_integer(kind):
        return pc.cast(column, pa.large_string())
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.large_string())
    if field != CREDENTIAL and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return pc.cast(column, pa.large_string())
    return [_one_text(field, value) for value in column.to_pylist()]


def _one_text(field: int, value: Any) -> bytes | int:
    """A value's text, or the number of its fault."""
    if value is None:
        return b""
    if field == CREDENTIAL and isinstance(value, dict):
        return msgspec.json.encode({k: v for k, v in value.items() if isinstance(v, str | int)})
    if field == CREDENTIAL and isinstance(value, str):
        return value.encode() if value.startswith("{") else faults.FIELD_TYPE + field
    if isinstance(value, str):
        return value.encode()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if field == TS and is_number:
        return repr(value).encode()
    if isinstance(value, int) and is_number and faults.FIELD_NAMES[field] in ("key_id", "owner"):
        return str(value).encode()
    return faults.FIELD_TYPE + field


def _texts(rows: Rows, field: int, column: Any) -> None:
    if isinstance(column, list):
        extra = Extra(rows)
        for row, value in enumerate(column):
            if isinstance(value, int):
                rows.fault[row] = rows.fault[row] or value
            elif value and value != b"-":
                extra.put(row, field, value)
        extra.close()
        return
    data, starts, lengths = _spans(pc.fill_null(column, ""))
    is_dash = np.flatnonzero(lengths == 1)
    lengths[is_dash[data[starts[is_dash]] == ord("-")]] = 0
    rows.cells[:, field, 0] = starts + len(rows.buf)
    rows.cells[:, field, 1] = lengths
    rows.append(np.concatenate([data, np.frombuffer(PAD, np.uint8)]))


def _spans(column: Any) -> tuple[Any, I64, I64]:
    """Bytes of a large_string array, where each value starts, and its length."""
    _, ends, data = column.buffers()
    bounds = np.frombuffer(ends, np.int64)[column.offset : column.offset + len(column) + 1]
    low, high = int(bounds[0]), int(bounds[-1])
    raw = np.frombuffer(data, np.uint8)[low:high] if data is not None else np.empty(0, np.uint8)
    return raw, bounds[:-1] - low, np.diff(bounds)


def _numbers(rows: Rows, field: int, column: Any) -> None:
    if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
        values = pc.fill_null(pc.cast(column, pa.int64()), 0)
        rows.cells[:, field, 0] = values.to_numpy(zero_copy_only=False)
        return
    for row, value in enumerate(column.to_pylist()):
        try:
            rows.cells[row, field, 0] = _one_number(field, value)
        except Refused as refused:
            rows.fault[row] = rows.fault[row] or refused.fault


def _one_number(field: int, value: Any) -> int:
    if value is None or value in ("", "-"):
        return 0
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refused(faults.FIELD_TYPE + field)
    return whole_number(field, str(value).encode())
