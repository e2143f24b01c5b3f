"""Rejected records, on file by their position.

The content is left out on purpose: a record that could not be read may hold a raw secret.
Position and partition lead back to it in the log itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import msgspec

from detector.core.errors import ConfigError
from detector.core.events import Rejected


class DeadLetterFile:
    """Appends one JSON line per rejected record, at most ``records_max`` in the file.

    Created with mode 0600. Lines already there count towards the bound. After a crash the
    same record may be written twice (at least once, never lost while there is room). A full
    disk does not stop the stream: what cannot be written counts as dropped.

    ``written`` counts the file's lines, ``dropped`` the records beyond the bound or lost to
    I/O errors. Raises ``ConfigError`` when the file cannot be opened.
    """

    def __init__(self, path: Path, records_max: int) -> None:
        self._records_max = records_max
        self.dropped = 0
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.fdopen(os.open(path, flags, 0o600), "ab+", buffering=0)
            self.written, ends_whole = _lines(path)
            if not ends_whole:  # a crash tore the last line
                self._file.write(b"\n")
        except OSError as e:
            raise ConfigError(f"cannot open dead letter file {path}: {e.strerror}") from e

    def append(self, records: Iterable[Rejected]) -> None:
        """Writes records until the bound is reached; counts the others."""
        lines = [msgspec.json.encode(asdict(record)) + b"\n" for record in records]
        fitting = lines[: max(0, self._records_max - self.written)]
        self.dropped += len(lines) - len(fitting)
        if not fitting:
            return
        data = b"".join(fitting)
        try:
            done = self._file.write(data) or 0
        except OSError:
            done = 0
        whole = data[:done].count(b"\n")
        if done < len(data):
            self.dropped += len(fitting) - whole
        self.written += whole

    def close(self) -> None:
        """Closes the file; the last lines may still be in the operating system's cache."""
        self._file.close()

    def __enter__(self) -> DeadLetterFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _lines(path: Path) -> tuple[int, bool]:
    """How many lines a file has, and whether its last one is ended."""
    count, last = 0, b"\n"
    if not path.is_file():  # a device or a pipe has no end to read to
        return 0, True
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n"), last == b"\n"
