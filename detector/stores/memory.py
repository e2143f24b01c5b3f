"""A checkpoint store in memory: for tests, and for replays that keep nothing."""

from __future__ import annotations

from threading import Lock

from detector.stores.keys import check_key, check_prefix, check_value


class MemoryStore:
    """Implements ``CheckpointStore`` with a dictionary. Nothing survives the process."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._lock = Lock()

    def put_if_absent(self, key: str, value: bytes) -> bool:
        """Stores ``value`` unless the key exists; False when it does."""
        check_key(key)
        content = bytes(check_value(value))
        with self._lock:
            if key in self._values:
                return False
            self._values[key] = content
            return True

    def get(self, key: str) -> bytes | None:
        """The value, or ``None`` when there is no such key."""
        check_key(key)
        return self._values.get(key)

    def list(self, prefix: str) -> list[str]:
        """All keys that start with ``prefix``, sorted."""
        check_prefix(prefix)
        with self._lock:
            return sorted(k for k in self._values if k.startswith(prefix))

    def delete(self, key: str) -> None:
        """Removes the key; a missing key is no error."""
        check_key(key)
        with self._lock:
            self._values.pop(key, None)
