"""Control records in the checkpoint store: asked for by a command, journalled, then applied.

- ``request/{time}-{random}``  what somebody asks for; written by a command, deleted when done
- ``control/{sequence}``       the record, and at which offset of each partition it takes effect

A record is journalled before it is applied. Shards and fleet stage keep the sequence of the last
one applied in their snapshots, so a restart applies the others again at the same offsets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import structlog

from detector.core.control import Alert, Control, Expected, Verdict, about, end_of, said, shares_of
from detector.core.episodes import CHANNELS, STOLEN
from detector.core.errors import KeywatchError
from detector.core.ports import CheckpointStore
from detector.decode.timestamp import parse_timestamp

REQUEST_BYTES_MAX = 1 << 16

_log = structlog.get_logger("keywatch.control")


class Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a command asks for: a verdict on an alert or on a key's source, or a reset."""

    verdict: Literal["expected", "confirmed", "withdrawn", "reset"]
    alert_id: str = ""
    key: str = ""
    network: str = ""
    client: str = ""
    until_us: int | None = None


class Journalled(msgspec.Struct, frozen=True):
    """A record with its place: the offset in each partition before which it takes effect."""

    sequence: int
    request: str
    offsets: dict[int, int]
    record: Control


class ControlLog:
    """The records of one state directory. Raises what the store raises."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self.records: list[Journalled] = []

    def load(self) -> None:
        """Reads the journal. Raises ``KeywatchError`` where a record of it cannot be read."""
        self.records = []
        for key in self._store.list("control/"):
            try:
                self.records.append(
                    msgspec.json.decode(self._store.get(key) or b"", type=Journalled)
                )
            except msgspec.MsgspecError as e:
                raise KeywatchError(f"control record {key} cannot be read: {e}") from e

    def requests(self) -> list[str]:
        """Keys of what is asked for, oldest first; what is journalled already is deleted."""
        found = self._store.list("request/")
        done = {r.request for r in self.records[-len(found) - 1 :]} if found else set()
        for key in found:
            if key in done:
                self._store.delete(key)
        return [key for key in found if key not in done]

    def refuse(self, key: str, why: str) -> None:
        """Deletes a request that cannot be done, and says so."""
        _log.error("request refused", request=key, why=why)
        self._store.delete(key)

    def read(self, key: str) -> Request | None:
        """The request; ``None`` when it is not one, and then it is refused."""
        text = self._store.get(key) or b""
        try:
            if len(text) <= REQUEST_BYTES_MAX:
                return msgspec.json.decode(text, type=Request)
            self.refuse(key, "it is too long")
        except (msgspec.MsgspecError, RecursionError) as e:
            self.refuse(key, str(e))
        return None

    def alert(self, alert_id: str) -> Alert | None:
        """The journalled alert a request names."""
        try:
            text = self._store.get(f"alert/{alert_id}")
            return None if text is None else alert_of(msgspec.json.decode(text))
        except ValueError:  # no alert's id looks like that, or its record is not readable
            return None

    def journal(self, record: Control, request: str, offsets: dict[int, int]) -> Journalled:
        """Makes a record durable; from now on it will be applied there, whatever happens."""
        sequence = self.records[-1].sequence + 1 if self.records else 0
        made = Journalled(sequence, request, offsets, record)
        if not self._store.put_if_absent(f"control/{sequence:012}", msgspec.json.encode(made)):
            raise KeywatchError(f"control record {sequence} was written by somebody else")
        self.records.append(made)
        return made

    def done(self, request: str) -> None:
        """Deletes a request whose record is journalled."""
        if request:
            self._store.delete(request)

    def ends_by(self, watermark_us: int) -> list[Expected]:
        """Acceptances whose end has come, and about which nothing was said since."""
        last = {r.record.name: r.record for r in self.records}
        return [
            record
            for record in last.values()
            if isinstance(record, Expected)
            and record.until_us is not None
            and record.until_us <= watermark_us
        ]


def resolved(
    request: Request,
    alert: Alert | None,
    at_us: int,
    factors_at: Callable[[int, int], tuple[float, ...]],
) -> Control | None:
    """The record of a request as of an event time; ``None`` when its alert is not known.

    ``factors_at(ts_us, channel)`` are those in force when the alert was raised.
    """
    if not request.alert_id:
        fields = Verdict(
            at_us=at_us, key=request.key, network=request.network, client=request.client
        )
        return said(request.verdict, fields, request.until_us)
    if alert is None:
        return None
    factors = factors_at(alert.peak_us, CHANNELS.index(alert.channel))
    return about(request.verdict, alert, at_us, factors, request.until_us)


def ended(record: Expected, at_us: int) -> Control:
    """The record that ends an acceptance now."""
    return msgspec.structs.replace(end_of(record), at_us=at_us)


def alert_of(record: dict[str, Any]) -> Alert:
    """What a verdict needs of an alert's JSON record; the same as of its episode."""
    actor, since = record["actor"], record["first_suspicious_at"]
    if actor is not None and record["channel"] == CHANNELS[STOLEN]:
        since = actor["first_seen"]
    return Alert(
        alert_id=record["alert_id"],
        key=record["key"],
        channel=record["channel"],
        network=actor["network"] if actor is not None else "",
        client=actor["client"] if actor is not None else "",
        peak_us=parse_timestamp(record["peak_at"].encode()),
        since_us=parse_timestamp(since.encode()),
        shares=shares_of(
            ((r["signal"], r["nats"]) for r in record["reasons"]), record.get("combined_nats", 0.0)
        ),
    )
