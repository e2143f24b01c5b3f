"""Looking into a state directory, also while a service is using it."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

import msgspec

from detector.controls import Request
from detector.core.errors import ConfigError, KeywatchError
from detector.core.ports import CheckpointStore
from detector.stores.local import LocalStore


class ReadOnlyStore(LocalStore):
    """A state directory as it is on disk; takes no lock and changes nothing.

    Values are whole or absent at any moment, so a running service does not disturb a reader.
    Raises ``ConfigError`` when there is no such directory.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise ConfigError(f"there is no state directory {directory}")
        self._root = directory
        self._lock_fd = -1

    def put_if_absent(self, key: str, value: bytes) -> bool:
        """Refuses."""
        raise NotImplementedError("read-only")

    def delete(self, key: str) -> None:
        """Refuses."""
        raise NotImplementedError("read-only")


class RequestStore(LocalStore):
    """A state directory into which requests can be put, also while a service is using it.

    Takes no lock: a request is a file of its own, whole or absent, and only the service changes
    anything else. Raises ``ConfigError`` when there is no such directory.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise ConfigError(f"there is no state directory {directory}")
        super().__init__(directory, takes_lock=False)

    def ask(self, request: Request) -> str:
        """Stores a request under a name that sorts by wall time; returns its key."""
        key = f"request/{time.time_ns():020}-{secrets.token_hex(4)}"
        if not self.put_if_absent(key, msgspec.json.encode(request)):
            raise KeywatchError(f"{key} exists already")
        return key


def find_alert(store: CheckpointStore, alert_id: str) -> dict[str, Any] | None:
    """The journalled alert, or ``None``."""
    from detector.stores.keys import is_segment

    text = store.get(f"alert/{alert_id}") if is_segment(alert_id) else None
    return None if text is None else json.loads(text)


def find_record(store: CheckpointStore, alert_id: str) -> dict[str, Any] | None:
    """The alert as of its event, or else the closed episode."""
    from detector.stores.keys import is_segment

    if not is_segment(alert_id):
        return None
    for kind in ("alert", "episode"):
        text = store.get(f"{kind}/{alert_id}")
        if text is not None:
            record: dict[str, Any] = json.loads(text)
            return record
    return None


def list_alerts(store: CheckpointStore) -> list[dict[str, Any]]:
    """All alerts in order of their time, each with ``closed_at`` once its episode has closed."""
    alerts = []
    for key in store.list("alert/"):
        alert = json.loads(store.get(key) or b"null")
        if alert is None:
            continue
        closed = store.get(f"episode/{alert['alert_id']}")
        if closed is not None:
            alert["state"], alert["closed_at"] = "closed", json.loads(closed)["closed_at"]
        alerts.append(alert)
    return sorted(alerts, key=lambda a: (a.get("alerted_at") or "", a["alert_id"]))
