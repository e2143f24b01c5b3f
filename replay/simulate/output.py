"""Simulated events into a file."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from detector.core.errors import UsageError
from replay.simulate.columns import EventColumns

ROWS_PER_BLOCK = 50_000


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to write lines to, compressed as its name says (.gz, .zst): same bytes every time."""
    try:
        raw = path.open("wb")
    except OSError as e:
        raise UsageError(f"cannot write {path}: {e.strerror}") from e
    with raw:
        if path.suffix == ".gz":
            # no file name and no time in the header: they would differ from run to run
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        elif path.suffix == ".zst":
            with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as writer:
                yield cast(BinaryIO, writer)
        else:
            yield raw


def write_ndjson(path: Path, chunks: Iterable[EventColumns]) -> int:
    """Writes one canonical JSON object a line; returns the number of lines."""
    lines = 0
    with opened(path) as out:
        for chunk in chunks:
            lines += len(chunk)
            for start in range(0, len(chunk), ROWS_PER_BLOCK):
                out.write(chunk.take(slice(start, start + ROWS_PER_BLOCK)).block())
    return lines
