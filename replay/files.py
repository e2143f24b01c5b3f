"""Log files as blocks of lines: plain, gzip, Zstandard or Parquet, in bounded memory."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
import numpy as np
import zstandard

from detector.core.errors import UsageError
from detector.core.events import RecordBatch

ROWS_PER_BLOCK = 20_000
# A longer line is cut here and the rest skipped: the decoder refuses it as too large anyway.
LINE_BYTES_MAX = 4 << 20
NAMES = (".ndjson", ".jsonl", ".log", ".parquet")
RESULT_NAMES = ("alerts.ndjson", "episodes.ndjson", "rejected.ndjson")

_READ_BYTES = 1 << 20
# Zstandard has no output limit per call; 4 kB in are at most some 130 MB out, hostile or not.
_ZSTD_READ_BYTES = 4 << 10
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class InputFile:
    """One input and how far it has been read.

    ``bytes_done`` of ``bytes_total`` are bytes as stored, so compressed files progress evenly;
    the total of a pipe is 0. ``lines`` counts delivered lines. ``damage`` is one sentence when
    the file could not be read to its end; all that was readable has been delivered before.
    """

    path: Path
    number: int
    bytes_total: int
    bytes_done: int = 0
    lines: int = 0
    damage: str | None = None

    def blocks(self, rows: int = ROWS_PER_BLOCK) -> Iterator[RecordBatch]:
        """The file's lines in order; ``offsets`` are line numbers from 0."""
        if self.path.suffix == ".parquet":
            yield from self._batches(_parquet_lines(self, rows))
            return
        yield from self._batches(_line_blocks(_inflated(self), rows))

    def _batches(self, blocks: Iterable[list[bytes]]) -> Iterator[RecordBatch]:
        for values in blocks:
            offsets = np.arange(self.lines, self.lines + len(values), dtype=np.int64)
            self.lines += len(values)
            none = np.full(len(values), -1, np.int64)
            yield RecordBatch(str(self.path), self.number, values, offsets, none)


def open_inputs(paths: Iterable[Path]) -> list[InputFile]:
    """The files to read, in the given order; a folder gives its logs by name, sub-folders too.

    In a folder, files named ``*.ndjson``, ``*.jsonl``, ``*.log`` (each plain, ``.gz`` or
    ``.zst``) and ``*.parquet`` count; a file given by name is read whatever it is called.
    A file reached twice is read once. Raises ``UsageError`` for what does not exist, cannot
    be read, or for a folder without logs.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _expand(Path(path)):
            found.setdefault(file.resolve(), file)
    return [InputFile(p, i, _checked_size(p)) for i, p in enumerate(found.values())]


def read_blocks(path: Path, rows: int = ROWS_PER_BLOCK) -> Iterator[RecordBatch]:
    """The lines of one file; raises ``UsageError`` at its end when it was damaged."""
    file = open_inputs([path])[0]
    yield from file.blocks(rows)
    if file.damage:
        raise UsageError(file.damage)


def _expand(path: Path) -> list[Path]:
    if not os.path.isdir(path):  # Path.is_dir raises below a folder that may not be entered
        return [path]
    try:
        files = sorted(
            p for p in path.rglob("*") if p.is_file() and is_log_name(p.name) and not _is_result(p)
        )
    except OSError as e:
        raise UsageError(f"cannot list {path}: {e.strerror}") from e
    if not files:
        raise UsageError(f"folder {path} holds no logs ({', '.join(NAMES)}, also .gz and .zst)")
    return files


def _is_result(path: Path) -> bool:
    """True for what an earlier replay wrote, perhaps below the folder it read."""
    return path.name in RESULT_NAMES and (path.parent / "summary.json").is_file()


def is_log_name(name: str) -> bool:
    """True for what is read out of a folder.

    >>> [is_log_name(n) for n in ("a.ndjson.gz", "access.log", "labels.json", ".hidden.log")]
    [True, True, False, False]
    """
    stem = name.removesuffix(".gz").removesuffix(".zst")
    return stem.endswith(NAMES) and not name.startswith(".")


def _checked_size(path: Path) -> int:
    try:
        size = path.stat().st_size
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}") from e
    # asked, not tried: opening a pipe for a test would lose what is in it
    if not os.access(path, os.R_OK):
        raise UsageError(f"cannot read {path}: permission denied")
    return size


class _Inflater(Protocol):
    """What zlib's and Zstandard's decompressors have in common."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, /) -> bytes: ...


class _Gzip:
    """zlib with a bound on what one call returns; the rest waits in ``pending``."""

    def __init__(self) -> None:
        self._z = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._z.eof

    @property
    def unused_data(self) -> bytes:
        return self._z.unused_data

    @property
    def pending(self) -> bytes:
        return self._z.unconsumed_tail

    def decompress(self, data: bytes, /) -> bytes:
        return self._z.decompress(data, 8 * _READ_BYTES)


def _inflated(file: InputFile) -> Iterator[bytes]:
    """The file's content in pieces; a fault ends it and is kept in ``file.damage``."""
    try:
        with file.path.open("rb") as raw:
            if file.path.suffix == ".gz":
                yield from _members(file, raw, _Gzip, _READ_BYTES // 4)
            elif file.path.suffix == ".zst":
                make = zstandard.ZstdDecompressor().decompressobj
                yield from _members(file, raw, make, _ZSTD_READ_BYTES)
            else:
                while data := _read(file, raw, _READ_BYTES):
                    yield data
    except OSError as e:
        file.damage = f"{file.path}: reading stopped after {file.lines} lines: {e.strerror}"


def _read(file: InputFile, raw: BinaryIO, n_bytes: int) -> bytes:
    data = raw.read(n_bytes)
    file.bytes_done += len(data)
    return data


def _members(file: InputFile, raw: BinaryIO, make: Any, n_bytes: int) -> Iterator[bytes]:
    """Decompresses member after member (files may be concatenated)."""
    inflater: _Inflater = make()
    fresh, data = True, _read(file, raw, n_bytes)
    while data:
        try:
            out = inflater.decompress(data)
        except (zlib.error, zstandard.ZstdError) as e:
            file.damage = f"{file.path}: the compressed data is damaged: {e}"
            return
        if out:
            yield out
        fresh = False
        data = getattr(inflater, "pending", b"")
        if inflater.eof:
            data, inflater, fresh = inflater.unused_data.lstrip(b"\0"), make(), True
        data = data or _read(file, raw, n_bytes)
    if not fresh:
        file.damage = f"{file.path}: the compressed data ends too early (a truncated file)"


def _line_blocks(pieces: Iterable[bytes], rows: int) -> Iterator[list[bytes]]:
    """Lines without their ends, at most ``rows`` at a time; an unfinished last line counts."""
    lines: list[bytes] = []
    for line_set in _line_sets(pieces):
        lines = lines + line_set if lines else line_set
        while len(lines) >= rows:
            yield lines[:rows]
            lines = lines[rows:]
    if lines:
        yield lines


def _line_sets(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest, first = b"", True
    for piece in pieces:
        if first and piece.startswith(_BOM):
            piece = piece[len(_BOM) :]
        first = False
        *lines, tail = piece.split(b"\n")
        if not lines:
            # what is beyond the limit is dropped: a file without line ends must not fill memory
            rest = (rest + tail)[: LINE_BYTES_MAX + 1] if len(rest) <= LINE_BYTES_MAX else rest
            continue
        lines[0] = (rest + lines[0])[: LINE_BYTES_MAX + 1]
        rest = tail
        yield lines
    if rest:
        yield [rest]


def _with_utc_times(batch: Any) -> Any:
    """Time columns as UTC microseconds: a time without a zone would be refused as ambiguous."""
    import pyarrow as pa

    utc = pa.timestamp("us", tz="UTC")
    for i, kind in enumerate(batch.schema.types):
        if pa.types.is_timestamp(kind):
            column = batch.column(i).cast(utc, safe=False)
            batch = batch.set_column(i, batch.schema.names[i], column)
    return batch


def _parquet_lines(file: InputFile, rows: int) -> Iterator[list[bytes]]:
    """Rows of a Parquet file as canonical lines, so that one decoder serves all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file.path)
        done = 0
        for batch in table.iter_batches(batch_size=rows):
            done += batch.num_rows
            file.bytes_done = file.bytes_total * done // max(table.metadata.num_rows, 1)
            rows_ = _with_utc_times(batch).to_pylist()
            yield [msgspec.json.encode(row, enc_hook=str) for row in rows_]
    except (pa.ArrowException, OSError) as e:
        file.damage = f"{file.path}: not a readable Parquet file: {str(e).splitlines()[0]}"
    file.bytes_done = file.bytes_total
