"""The ports: what the core needs from the world, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from detector.core.events import Decoded, RecordBatch


class Decoder(Protocol):
    """Bytes to columns. Never raises on bad input: a bad record is a ``Rejected``.

    A message may hold 0..n events (gateways batch). Results do not depend on how the
    log is cut into record batches.
    """

    def decode(self, records: RecordBatch) -> Decoded:
        """Decodes the messages of one batch, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll brought. To be handled in the order of the fields.

    - ``assigned``  the whole new assignment when it changed, else ``None``; each of these
      partitions is silent until ``Source.start`` names the offset to go on from
    - ``moved``     partitions whose position the offset policy had to change: new position
    - ``batches``   records of started partitions, in offset order within a partition
    - ``settled``   False while a group is forming: poll again at once and do nothing else
    - ``ended``     nothing will ever come again (a finite source)
    """

    assigned: frozenset[int] | None = None
    moved: Mapping[int, int] = field(default_factory=dict)
    batches: Sequence[RecordBatch] = ()
    settled: bool = True
    ended: bool = False


class Source(Protocol):
    """Where record batches come from. One thread owns it.

    The caller keeps the offsets: what a source remembers about them by itself is a hint for
    lag tools and never decides where reading goes on.
    """

    def poll(self, timeout_s: float) -> Polled:
        """Waits up to ``timeout_s`` for something to happen."""
        ...

    def start(self, offsets: Mapping[int, int | None]) -> dict[int, int]:
        """Reads assigned partitions from these offsets; ``None`` = by the offset policy.

        Returns where each really starts, which is later than asked where the log's beginning
        is gone and the policy allows it.
        """
        ...

    def hold(self) -> None:
        """Delivers nothing until ``release``, but stays a member of its group (back-pressure)."""
        ...

    def release(self) -> None:
        """Ends ``hold``."""
        ...

    def commit(self, offsets: Mapping[int, int], wait_s: float = 0.0) -> None:
        """Publishes next offsets, for lag tools; waits up to ``wait_s`` and never raises."""
        ...

    def lag(self) -> dict[int, int]:
        """Records behind the log's end, for each started partition where it is known."""
        ...

    def close(self, timeout_s: float) -> None:
        """Leaves the group and frees what is held. Never raises."""
        ...


class Sink(Protocol):
    """One delivery attempt of one alert record; retry belongs to the outbox.

    Raises ``DeliveryError``. Must be idempotent on ``alert_id`` as far as the receiver allows.
    ``name`` is stable: it is part of the outbox's ``sent/{alert_id}/{name}`` record.
    """

    name: str

    def deliver(self, alert: dict[str, Any]) -> None:
        """Tries once to deliver."""
        ...


class CheckpointStore(Protocol):
    """A small durable key-value store. Keys are ``/``-separated ASCII paths.

    A value is visible whole or not at all, and durable when the call returns.
    """

    def put_if_absent(self, key: str, value: bytes) -> bool:
        """Stores the value; False, and nothing stored, where the key exists."""
        ...

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Keys that begin with the prefix, sorted."""
        ...

    def delete(self, key: str) -> None:
        """Removes the key; nothing happens where there is none."""
        ...
