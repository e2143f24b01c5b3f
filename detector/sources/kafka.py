"""The input topic through kafka-python 3.0: the only module that imports ``kafka`` to consume.

Facts of this client that shape the code:

- Rebalance listeners run on its IO thread, where every blocking call raises. They only pause
  and note; the owner seeks and resumes between two polls.
- Kept partitions keep their in-memory position over a rebalance, so ``start`` always seeks.
- A join that completes outside ``poll`` is thrown away and sent again. While the group is not
  stable, polls are long and the caller is told to do nothing in between (``Polled.settled``).
- ``auto_offset_reset`` is ``none``: a position is never changed silently, by nobody but us.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import structlog
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.structs import MemberState

from detector.config import KafkaSection
from detector.core.errors import ConfigError, TemporaryError
from detector.core.events import RecordBatch
from detector.core.ports import Polled
from detector.sources.kafka_options import consumer_options

_JOIN_POLL_MS = 500  # long enough that a join completes inside a poll
_LIST_OFFSETS_TIMEOUT_MS = 15_000

_log = structlog.get_logger("keywatch.kafka")


class KafkaSource:
    """A consumer group member behind the ``Source`` port. One thread owns it.

    Connects when built. Raises ``TemporaryError`` when no broker answers within
    ``connect_timeout_s`` and ``ConfigError`` for a missing topic or refused options.
    """

    def __init__(self, section: KafkaSection) -> None:
        self._section = section
        self._changes: deque[frozenset[int]] = deque()  # filled on the IO thread
        self._next: dict[int, int] = {}  # started partitions and their next offset
        self._held = False
        self._consumer = _connect(section)
        self.partition_count = self._count_partitions()
        self._consumer.subscribe([section.topic], listener=_Listener(self))

    def poll(self, timeout_s: float) -> Polled:
        """Waits up to ``timeout_s`` for records; not interrupted by signals.

        Raises ``TemporaryError`` or ``ConfigError`` for what waiting here cannot repair.
        """
        stable = self._is_stable()
        timeout_ms = int(timeout_s * 1000) if stable else max(_JOIN_POLL_MS, int(timeout_s * 1000))
        moved: dict[int, int] = {}
        polled: Mapping[TopicPartition, Sequence[Any]] = {}
        try:
            polled = self._consumer.poll(timeout_ms)
        except kafka_errors.NoOffsetForPartitionError:
            pass  # a new assignment: nothing was sought yet
        except kafka_errors.OffsetOutOfRangeError as e:
            moved = self._moved(e.args[0])
        except kafka_errors.LogTruncationError as e:
            moved = self._moved(e.divergent_offsets)
        except kafka_errors.KafkaError as e:
            self._judge(e)
        assigned = self._take_change()
        return Polled(assigned, moved, self._batches(polled), settled=self._is_stable())

    def start(self, offsets: Mapping[int, int | None]) -> dict[int, int]:
        """Seeks and resumes. Raises ``ConfigError`` where the offset policy says ``error``."""
        first = self._bounds(list(offsets), end=False) if offsets else {}
        started: dict[int, int] = {}
        for partition, wanted in sorted(offsets.items()):
            if wanted is None:
                started[partition] = self._fresh_start(partition, first[partition])
            elif wanted < first[partition]:
                started[partition] = self._after_gap(partition, wanted, first[partition])
            else:
                started[partition] = wanted
        for partition, offset in started.items():
            self._seek(partition, offset)
        return started

    def hold(self) -> None:
        """Pauses all started partitions; polls keep the membership alive."""
        self._held = True
        self._consumer.pause(*map(self._tp, self._next))

    def release(self) -> None:
        """Ends ``hold``."""
        self._held = False
        self._consumer.resume(*map(self._tp, self._next))

    def commit(self, offsets: Mapping[int, int], wait_s: float = 0.0) -> None:
        """Commits for lag tools. A failure only shows that a rebalance is near."""
        commits = {
            self._tp(p): OffsetAndMetadata(o, "", -1) for p, o in offsets.items() if p in self._next
        }
        if not commits:
            return
        if wait_s <= 0:
            self._consumer.commit_async(commits, callback=_log_commit)
            return
        try:
            self._consumer.commit(commits, timeout_ms=max(1, int(wait_s * 1000)))
        except kafka_errors.KafkaError as e:
            _log_commit(commits, e)

    def lag(self) -> dict[int, int]:
        """High-water mark minus next offset, from the last fetches; no request is sent."""
        lags: dict[int, int] = {}
        assigned = self._consumer.assignment()
        for partition, offset in sorted(self._next.items()):
            tp = self._tp(partition)
            highwater = self._consumer.highwater(tp) if tp in assigned else None
            if highwater is not None:
                lags[partition] = max(0, highwater - offset)
        return lags

    def close(self, timeout_s: float) -> None:
        """Leaves the group. Never raises: what could be lost is in the snapshots."""
        try:
            self._consumer.close(autocommit=False, timeout_ms=max(1, int(timeout_s * 1000)))
        except (kafka_errors.KafkaError, RuntimeError, OSError) as e:
            _log.warning("kafka close failed", error=_sentence(e))

    def note_assignment(self, partitions: frozenset[int]) -> None:
        """Called on the IO thread: silences the partitions and notes them. No I/O here."""
        for partition in partitions:
            self._consumer.pause(self._tp(partition))
        self._changes.append(partitions)

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self._section.topic, partition)

    def _is_stable(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    def _take_change(self) -> frozenset[int] | None:
        change: frozenset[int] | None = None
        while self._changes:  # only the last assignment counts
            change = self._changes.popleft()
        if change is not None:
            self._next.clear()
        return change

    def _seek(self, partition: int, offset: int) -> None:
        tp = self._tp(partition)
        self._consumer.seek(tp, offset)
        self._next[partition] = offset
        if not self._held:
            self._consumer.resume(tp)

    def _batches(self, polled: Mapping[TopicPartition, Sequence[Any]]) -> list[RecordBatch]:
        batches = []
        for tp, records in sorted(polled.items()):
            expected = self._next.get(tp.partition)
            if expected is None:
                continue  # not started: a fetch that was under way when the group changed
            if records[0].offset < expected:
                records = [r for r in records if r.offset >= expected]
            if records:
                batches.append(_record_batch(tp, records))
                self._next[tp.partition] = records[-1].offset + 1
        return batches

    def _bounds(self, partitions: list[int], *, end: bool) -> dict[int, int]:
        ask = self._consumer.end_offsets if end else self._consumer.beginning_offsets
        try:
            found = ask([self._tp(p) for p in partitions], timeout_ms=_LIST_OFFSETS_TIMEOUT_MS)
        except kafka_errors.KafkaError as e:
            raise TemporaryError(
                f"Kafka did not tell the offsets of its log: {_sentence(e)}"
            ) from e
        return {tp.partition: int(offset) for tp, offset in found.items()}

    def _fresh_start(self, partition: int, first: int) -> int:
        policy = self._section.offset_reset
        if policy == "error":
            raise ConfigError(
                f"partition {partition} of {self._section.topic} has no snapshot and "
                'kafka.offset_reset is "error"'
            )
        return first if policy == "earliest" else self._bounds([partition], end=True)[partition]

    def _after_gap(self, partition: int, wanted: int, first: int) -> int:
        """Says loudly what is gone, then follows the policy."""
        gone, topic = first - wanted, self._section.topic
        _log.critical(
            "offsets lost",
            topic=topic,
            partition=partition,
            expected_offset=wanted,
            first_offset=first,
            offsets_gone=gone,
        )
        if self._section.offset_reset == "error":
            raise ConfigError(
                f"{gone} offsets of partition {partition} of {topic} are gone (expected {wanted}, "
                f'the log begins at {first}) and kafka.offset_reset is "error"'
            )
        if self._section.offset_reset == "latest":
            return self._bounds([partition], end=True)[partition]
        return first

    def _moved(self, positions: Mapping[TopicPartition, object]) -> dict[int, int]:
        """New positions of partitions whose next offset is not in the log any more."""
        partitions = sorted(tp.partition for tp in positions)
        first = self._bounds(partitions, end=False)
        moved = {}
        for partition in partitions:
            expected = self._next.get(partition, first[partition])
            if expected < first[partition]:
                moved[partition] = self._after_gap(partition, expected, first[partition])
            else:
                moved[partition] = self._after_truncation(partition, expected, first[partition])
            self._seek(partition, moved[partition])
        return moved

    def _after_truncation(self, partition: int, expected: int, first: int) -> int:
        """The log ends before our offset: it was truncated, or the topic was made anew."""
        end = self._bounds([partition], end=True)[partition]
        topic = self._section.topic
        _log.critical(
            "log is shorter than what was read",
            topic=topic,
            partition=partition,
            expected_offset=expected,
            end_offset=end,
            offsets_gone=expected - end,
        )
        if self._section.offset_reset == "error":
            raise ConfigError(
                f"partition {partition} of {topic} ends at {end}, before the expected offset "
                f'{expected} (truncated, or made anew), and kafka.offset_reset is "error"'
            )
        return first if self._section.offset_reset == "earliest" else end

    def _count_partitions(self) -> int:
        try:
            partitions = self._consumer.partitions_for_topic(self._section.topic)
        except kafka_errors.KafkaError as e:
            self._consumer.close(autocommit=False, timeout_ms=1000)
            raise TemporaryError(f"Kafka did not list its topics: {_sentence(e)}") from e
        if not partitions:
            self._consumer.close(autocommit=False, timeout_ms=1000)
            raise ConfigError(
                f"topic {self._section.topic!r} does not exist on {_servers(self._section)}, "
                "or this user may not read it"
            )
        return len(partitions)

    def _judge(self, error: Exception) -> None:
        """Lets a passing trouble pass; raises what the operator must know."""
        if isinstance(
            error,
            kafka_errors.TopicAuthorizationFailedError | kafka_errors.GroupAuthorizationFailedError,
        ):
            raise ConfigError(
                f"this user may not read topic {self._section.topic!r} as group "
                f"{self._section.group_id!r}: {_sentence(error)}"
            ) from error
        if not getattr(error, "retriable", False):
            raise TemporaryError(f"Kafka: {_sentence(error)}") from error
        _log.warning("kafka trouble", error=_sentence(error))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # the client is untyped
    """Runs on the client's IO thread, which also sends the heartbeats."""

    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._source.note_assignment(frozenset(tp.partition for tp in assigned))

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing: the client fetches no more from them, and the next assignment is complete."""

    def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        """Nothing, on purpose: the inherited one would call ``on_partitions_revoked``."""


def _connect(section: KafkaSection) -> KafkaConsumer:
    options = consumer_options(section)
    with _LastComplaint() as last:
        try:
            return KafkaConsumer(**options)
        except (kafka_errors.KafkaConfigurationError, TypeError, ValueError, AssertionError) as e:
            raise ConfigError(f"kafka: {_sentence(e)}") from e
        except (kafka_errors.KafkaError, OSError) as e:
            if isinstance(e, FileNotFoundError | PermissionError):
                raise ConfigError(f"kafka: {e.strerror}: {e.filename}") from e
            why = f" ({last.text})" if last.text else ""
            raise TemporaryError(
                f"no Kafka broker answers at {_servers(section)} within "
                f"{section.connect_timeout_s:g} s{why}"
            ) from e


class _LastComplaint(logging.Handler):
    """Keeps the client's last warning while it connects, and keeps it off the log.

    The client warns several times a second; one sentence with the last reason is better.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        self._logger = logging.getLogger("kafka")

    def emit(self, record: logging.LogRecord) -> None:
        self.text = " ".join(record.getMessage().split())[:200]

    def __enter__(self) -> _LastComplaint:
        self._propagate, self._logger.propagate = self._logger.propagate, False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagate


def _record_batch(tp: TopicPartition, records: Sequence[Any]) -> RecordBatch:
    """Columns of the client's records; a tombstone is an empty value, which no format accepts."""
    return RecordBatch(
        source=tp.topic,
        partition=tp.partition,
        values=[r.value if r.value is not None else b"" for r in records],
        offsets=np.fromiter((r.offset for r in records), np.int64, len(records)),
        timestamp_ms=np.fromiter((r.timestamp for r in records), np.int64, len(records)),
    )


def _log_commit(offsets: object, response: object) -> None:
    del offsets
    if isinstance(response, Exception):
        _log.debug("commit for lag tools failed", error=_sentence(response))


def _servers(section: KafkaSection) -> str:
    return ", ".join(section.bootstrap_servers)


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
