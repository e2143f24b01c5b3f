"""The ports: what the core needs from the world, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from detector.core.events import Decoded, RecordBatch


class Decoder(Protocol):
    """Bytes to columns. Never raises on bad input: a bad record is a ``Rejected``.

    A message may hold 0..n events (gateways batch). Results do not depend on how the
    log is cut into record batches.
    """

    def decode(self, records: RecordBatch) -> Decoded: ...


class Source(Protocol):
    """Where record batches come from. One thread owns it."""

    def poll(self, timeout_s: float) -> Sequence[RecordBatch]: ...

    def close(self) -> None: ...


class Sink(Protocol):
    """One delivery attempt of one alert record; retry belongs to the outbox.

    Raises ``DeliveryError``. Must be idempotent on ``alert_id`` as far as the receiver allows.
    ``name`` is stable: it is part of the outbox's ``sent/{alert_id}/{name}`` record.
    """

    name: str

    def deliver(self, alert: dict[str, Any]) -> None: ...


class CheckpointStore(Protocol):
    """A small durable key-value store. Keys are ``/``-separated ASCII paths.

    A value is visible whole or not at all, and durable when the call returns.
    """

    def put_if_absent(self, key: str, value: bytes) -> bool: ...

    def get(self, key: str) -> bytes | None: ...

    def list(self, prefix: str) -> list[str]: ...

    def delete(self, key: str) -> None: ...
