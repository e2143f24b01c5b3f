"""Metrics: one frozen dataclass per happening, emitted once per batch, never once per event.

``received = accepted + no_key + rejected``, always. A key's name is
never a label: labels are partitions, sinks and closed lists only.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from detector.core.episodes import Episode
from detector.core.events import Rejected

_FOLD_BUCKETS_NS = (250, 500, 1000, 2000, 4000, 8000, 16_000, 64_000, 256_000)
_DURATION_BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


class Metrics:
    """All metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        self.received = Counter("keywatch_events_received", "Events and bad records", registry=r)
        self.accepted = Counter("keywatch_events_accepted", "Events with a key", registry=r)
        self.no_key = Counter("keywatch_events_no_key", "Good events without key", registry=r)
        self.rejected = Counter("keywatch_events_rejected", "By reason", ["reason"], registry=r)
        self.dropped = Gauge(
            "keywatch_dead_letters_dropped", "Rejected records over the file's limit", registry=r
        )
        self.late = Gauge("keywatch_events_late", "Too late for their cell", registry=r)
        self.over_cap = Gauge(
            "keywatch_over_cap", "Events or values past a limit", ["limit"], registry=r
        )
        self.heirs = Gauge(
            "keywatch_heirs", "Keys that replace another one", ["baseline"], registry=r
        )
        self.candidates = Counter("keywatch_candidates", "Evidence over the floor", registry=r)
        self.alerts = Counter("keywatch_alerts", "Alerts", ["channel", "severity"], registry=r)
        self.throttles = Counter("keywatch_throttles", "Rate limits recommended", registry=r)
        self.controls = Counter("keywatch_controls", "Records applied", ["verdict"], registry=r)
        self.silences = Counter("keywatch_silences", "Silences told", registry=r)
        self.closed = Counter("keywatch_episodes_closed", "Episodes closed", registry=r)
        self.lag = Gauge("keywatch_lag_records", "Behind the log's end", ["partition"], registry=r)
        self.partitions = Gauge("keywatch_partitions", "Partitions assigned", registry=r)
        self.watermark = Gauge("keywatch_watermark_seconds", "Event time reached", registry=r)
        self.keys = Gauge("keywatch_keys", "Live keys", registry=r)
        self.state_bytes = Gauge("keywatch_state_bytes", "Memory of the shards", registry=r)
        self.held = Gauge("keywatch_input_held", "1 while back-pressure holds input", registry=r)
        self.fold_ns = Histogram(
            "keywatch_fold_ns_per_event",
            "Nanoseconds of fold per event, by batch",
            buckets=_FOLD_BUCKETS_NS,
            registry=r,
        )
        self.snapshot_s = Histogram(
            "keywatch_snapshot_seconds",
            "Writing a snapshot",
            buckets=_DURATION_BUCKETS_S,
            registry=r,
        )
        self.snapshot_bytes = Gauge("keywatch_snapshot_bytes", "Last snapshot", registry=r)
        self.snapshot_age = Gauge("keywatch_snapshot_age_seconds", "Since the last", registry=r)
        self.snapshots_failed = Counter("keywatch_snapshots_failed", "Not written", registry=r)
        self.outbox = Gauge("keywatch_outbox", "Deliveries", ["sink", "outcome"], registry=r)


class Happening(Protocol):
    """Something worth counting."""

    def emit(self, metrics: Metrics) -> None:
        """Writes it into the metrics."""
        ...


@dataclass(frozen=True, slots=True)
class BatchFolded:
    """A record batch went through decoder and fold. ``fold_ns`` is of the whole batch.

    ``events`` are the good ones, with those that have no key.
    """

    events: int
    no_key: int
    rejected: Sequence[Rejected]
    candidates: int
    fold_ns: int

    def emit(self, metrics: Metrics) -> None:
        """Adds to the counters."""
        metrics.received.inc(self.events + len(self.rejected))
        metrics.accepted.inc(self.events - self.no_key)
        metrics.no_key.inc(self.no_key)
        for reason, n in sorted(Tally(r.reason for r in self.rejected).items()):
            metrics.rejected.labels(reason).inc(n)
        metrics.candidates.inc(self.candidates)
        if self.events:
            metrics.fold_ns.observe(self.fold_ns / self.events)


@dataclass(frozen=True, slots=True)
class Alerted:
    """An alert was journalled for the first time."""

    alert: Episode

    def emit(self, metrics: Metrics) -> None:
        """Adds to the counter of its channel and severity."""
        metrics.alerts.labels(self.alert.channel, self.alert.severity).inc()


@dataclass(frozen=True, slots=True)
class Recommended:
    """A recommendation to limit a key's rate was journalled for the first time."""

    def emit(self, metrics: Metrics) -> None:
        """Adds to the counter; it is no alert."""
        metrics.throttles.inc()


@dataclass(frozen=True, slots=True)
class Controlled:
    """A control record was journalled and applied."""

    verdict: str

    def emit(self, metrics: Metrics) -> None:
        """Adds to the counter of its kind."""
        metrics.controls.labels(self.verdict).inc()


@dataclass(frozen=True, slots=True)
class Silent:
    """A key, or many at once, were told to have fallen silent."""

    def emit(self, metrics: Metrics) -> None:
        """Adds to the counter; it is no alert."""
        metrics.silences.inc()


@dataclass(frozen=True, slots=True)
class Assigned:
    """The partitions of this process changed."""

    partitions: frozenset[int]

    def emit(self, metrics: Metrics) -> None:
        """Sets the gauge and forgets the lag of partitions that are gone."""
        metrics.partitions.set(len(self.partitions))
        metrics.lag.clear()


@dataclass(frozen=True, slots=True)
class SnapshotWritten:
    """A consistent set is durable."""

    size_bytes: int
    duration_s: float
    episodes: int

    def emit(self, metrics: Metrics) -> None:
        """Sets the gauges of the last snapshot."""
        metrics.snapshot_bytes.set(self.size_bytes)
        metrics.snapshot_s.observe(self.duration_s)
        metrics.closed.inc(self.episodes)


@dataclass(frozen=True, slots=True)
class SnapshotFailed:
    """A set could not be written; the one before stays in force."""

    def emit(self, metrics: Metrics) -> None:
        """Adds to the counter."""
        metrics.snapshots_failed.inc()


@dataclass(frozen=True, slots=True)
class Pulse:
    """The state of the process, about once a second."""

    lag: Mapping[int, int]
    watermark_us: int
    keys: int
    state_bytes: int
    late: int
    over_cap: Mapping[str, int]
    heirs: Mapping[str, int]
    snapshot_age_s: float
    held: bool
    dead_letters_dropped: int
    outbox: Mapping[str, Mapping[str, int]]

    def emit(self, metrics: Metrics) -> None:
        """Sets the gauges."""
        for partition, lag in self.lag.items():
            metrics.lag.labels(str(partition)).set(lag)
        metrics.watermark.set(self.watermark_us / 1e6)
        metrics.keys.set(self.keys)
        metrics.state_bytes.set(self.state_bytes)
        metrics.late.set(self.late)
        for what, n in self.over_cap.items():
            metrics.over_cap.labels(what).set(n)
        for baseline, n in self.heirs.items():
            metrics.heirs.labels(baseline).set(n)
        metrics.snapshot_age.set(self.snapshot_age_s)
        metrics.held.set(self.held)
        metrics.dropped.set(self.dead_letters_dropped)
        for sink, counts in self.outbox.items():
            for outcome, n in counts.items():
                metrics.outbox.labels(sink, outcome).set(n)
