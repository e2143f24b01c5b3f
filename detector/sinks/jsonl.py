"""Alerts appended to a file, one JSON line each."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from detector.core.errors import ConfigError, DeliveryError
from detector.journal import encode


class JsonlSink:
    """Appends, flushes and fsyncs one line per alert; an ``alert_id`` in the file is not repeated.

    The file is opened for each alert, so that it may be rotated away under the sink. A last
    line that a crash cut off is removed at the start. A pipe or device is written to and not
    read back. A new file has mode 0600, as alerts hold networks and key names; the mode of one
    that is there stays. Remembers one id per alert (about 100 bytes each). Raises
    ``ConfigError`` when the file cannot be opened for writing.
    """

    name = "jsonl"

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._seen: set[str] = set()
        try:
            if self._path.is_file() or not self._path.exists():
                with open(self._path, "a+b", opener=_open_private) as file:
                    self._read_back(file)
        except OSError as e:
            raise ConfigError(f"cannot write alerts to {self._path}: {e.strerror}") from e

    def deliver(self, alert: dict[str, Any]) -> None:
        """Appends the alert's line unless the file has it."""
        if alert["alert_id"] in self._seen:
            return
        try:
            with open(self._path, "ab", opener=_open_private) as file:
                self._append(file, encode(alert) + b"\n")
        except OSError as e:
            raise DeliveryError(f"cannot write {self._path}: {e.strerror}", retriable=True) from e
        self._seen.add(alert["alert_id"])

    def _append(self, file: Any, line: bytes) -> None:
        """Writes the whole line or, on a full disk, nothing of it."""
        is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        end = file.tell() if is_regular else 0
        try:
            file.write(line)
            file.flush()
            if is_regular:
                os.fsync(file.fileno())
        except OSError:
            if is_regular:
                os.ftruncate(file.fileno(), end)
            raise

    def _read_back(self, file: Any) -> None:
        file.seek(0)
        good_end = 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            good_end += len(line)
            alert_id = _alert_id(line)
            if alert_id is not None:
                self._seen.add(alert_id)
        file.truncate(good_end)
        os.fsync(file.fileno())


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _alert_id(line: bytes) -> str | None:
    try:
        alert_id = json.loads(line)["alert_id"]
    except (ValueError, KeyError, TypeError):
        return None
    return alert_id if isinstance(alert_id, str) else None
