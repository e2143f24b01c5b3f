"""Consistent snapshots of everything one process owns, written while the loop goes on.

A barrier between two polls gives the state of all partitions and of the fleet stage at one
moment. Each partition's snapshot is an object of its own; the fleet's object is written last
and names the exact partition snapshots that belong to it, so it is the commit point: after a
crash the newest complete set is loaded, never a mix.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec
import structlog

from detector.core.episodes import Episode
from detector.core.errors import ConfigError, SnapshotError
from detector.core.fleet_silences import Silence
from detector.core.ports import CheckpointStore
from detector.stores.snapshots import SnapshotStore, unpack

_FLEET = "fleet"
_MANIFEST = "manifest"

_log = structlog.get_logger("keywatch.snapshot")


class _Set(msgspec.Struct):
    """Body of the fleet's object: which partition snapshots belong together."""

    partitions: dict[int, tuple[int, str]]  # partition -> (next offset, key of its snapshot)
    fleet: bytes
    watermark_us: int


@dataclass(frozen=True, slots=True)
class Barrier:
    """State of one moment: what a snapshot is made of. Bytes only, so any thread may write it.

    ``partitions`` holds those that changed since the last snapshot.
    """

    partitions: Mapping[int, tuple[int, bytes]]
    fleet: bytes
    watermark_us: int
    closed: Sequence[Episode] = ()
    silences: Sequence[Silence] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What a finished snapshot was: next offsets for lag tools, size and time for telemetry."""

    offsets: Mapping[int, int]
    size_bytes: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restart begins with. ``damaged`` has a sentence for each newer set skipped."""

    partitions: int = 0
    fleet: bytes | None = None
    watermark_us: int = 0
    damaged: tuple[str, ...] = ()


class Checkpointer:
    """Writes barriers in one background thread, one at a time, and restores the newest set.

    Raises what the store raises; ``SnapshotError`` when there are sets and none is good.
    """

    def __init__(
        self,
        store: CheckpointStore,
        kept: int,
        step_hook: Callable[[str], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._snapshots = SnapshotStore(store, kept)
        self._step = step_hook
        self._monotonic = monotonic
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._known: dict[int, tuple[int, str]] = {}
        self._loaded: dict[int, tuple[int, bytes]] = {}
        self._serial = 0
        self._is_complete = True

    def claim(self, topic: str, partition_count: int) -> None:
        """Ties the store to a topic. Raises ``ConfigError`` when it belongs to another one.

        A key is tied to its partition, so state cannot follow a changed partition count.
        """
        mine = {"topic": topic, "partitions": partition_count}
        self._store.put_if_absent(_MANIFEST, json.dumps(mine, sort_keys=True).encode())
        try:
            theirs = json.loads(self._store.get(_MANIFEST) or b"{}")
        except ValueError as e:
            raise SnapshotError("the state directory's manifest is not readable") from e
        if theirs != mine:
            raise ConfigError(
                f"the state directory belongs to topic {theirs.get('topic')!r} with "
                f"{theirs.get('partitions')} partitions, not to {topic!r} with {partition_count}: "
                "use another state.dir"
            )

    def restore(self) -> Restored:
        """Loads the newest complete set and deletes what lies beyond it."""
        found = load_newest_set(self._store)
        self._loaded = dict(found.states)
        self._serial, self._known = found.serial, dict(found.keys)
        self._remove_beyond()
        return Restored(len(found.states), found.fleet, found.watermark_us, found.damaged)

    def load(self, partition: int) -> tuple[int, bytes] | None:
        """Next offset and state of a partition in the restored set, once; ``None`` without."""
        return self._loaded.pop(partition, None)

    def submit(self, barrier: Barrier) -> Future[Written]:
        """Writes in the background. The caller waits for the result before the next one."""
        return self._writer.submit(self.write, barrier)

    def write(self, barrier: Barrier) -> Written:
        """Writes a barrier.

        0. after a failed write: delete what it left, which would count among the newest kept
        1. records of closed episodes and told silences, which the state no longer holds
        2. a snapshot of each changed partition
        3. the fleet's object, which makes them count
        """
        began_s = self._monotonic()
        self._step("run.before_snapshot")
        if not self._is_complete:
            self._remove_beyond()
        self._is_complete = False
        for episode in barrier.closed:
            self._store.put_if_absent(f"episode/{episode.alert_id}", _encode(episode))
        for silence in barrier.silences:
            text = json.dumps(silence.to_record(), separators=(",", ":")).encode("ascii")
            self._store.put_if_absent(f"silence/{silence.silence_id}", text)
        known = dict(self._known)
        size_bytes = len(barrier.fleet)
        for partition, (next_offset, state) in sorted(barrier.partitions.items()):
            key = self._snapshots.save(partition_name(partition), next_offset, state)
            known[partition] = (next_offset, key)
            size_bytes += len(state)
        self._step("run.after_partition_snapshots")
        body = msgspec.msgpack.encode(_Set(known, barrier.fleet, barrier.watermark_us))
        self._snapshots.save(_FLEET, self._serial + 1, body)
        self._step("run.after_fleet_snapshot")
        self._serial, self._known, self._is_complete = self._serial + 1, known, True
        self._step("run.after_snapshot")
        offsets = {p: o for p, (o, _) in known.items()}
        return Written(offsets, size_bytes, self._monotonic() - began_s)

    def close(self) -> None:
        """Ends the thread after the snapshot it is writing."""
        self._writer.shutdown(wait=True, cancel_futures=True)

    def _remove_beyond(self) -> None:
        """Deletes snapshots newer than the chosen set.

        They were never completed by a fleet object, or that one is damaged. Left in place
        they would count among the newest kept and push out what is needed.
        """
        for key in self._store.list("snapshot/"):
            _, name, label = key.split("/")
            if name == _FLEET:
                beyond = int(label.partition("-")[0]) > self._serial
            else:
                known = self._known.get(int(name.removeprefix("p")))
                beyond = known is None or key > known[1]
            if beyond:
                self._store.delete(key)


@dataclass(frozen=True, slots=True)
class SnapshotSet:
    """A complete set: of each partition next offset and shard state, and what it was found in."""

    serial: int = 0
    states: Mapping[int, tuple[int, bytes]] = field(default_factory=dict)
    keys: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    fleet: bytes | None = None
    watermark_us: int = 0
    damaged: tuple[str, ...] = ()


def load_newest_set(store: CheckpointStore) -> SnapshotSet:
    """The newest complete set; an empty one when there never was any. Changes nothing.

    Raises ``SnapshotError`` when there are sets and none is good.
    """
    damaged: list[str] = []
    for key in reversed(store.list(f"snapshot/{_FLEET}/")):
        try:
            serial, body = unpack(store.get(key) or b"", _FLEET)
            found = msgspec.msgpack.decode(body, type=_Set)
            states = {p: _load(store, p, *at) for p, at in found.partitions.items()}
        except SnapshotError as e:
            damaged.append(f"{key}: {e}")
            continue
        except msgspec.MsgspecError:
            damaged.append(f"{key}: not readable")
            continue
        return SnapshotSet(
            serial, states, found.partitions, found.fleet, found.watermark_us, tuple(damaged)
        )
    if damaged:
        raise SnapshotError(
            f"none of the {len(damaged)} snapshots is good ({damaged[0]}): restore the state "
            "directory from a copy, or move it away to start blank"
        )
    return SnapshotSet()


def partition_name(partition: int) -> str:
    """The partition's name in the snapshot store."""
    return f"p{partition:05}"


def _load(store: CheckpointStore, partition: int, next_offset: int, key: str) -> tuple[int, bytes]:
    try:
        offset, state = unpack(store.get(key) or b"", partition_name(partition))
    except SnapshotError as e:
        raise SnapshotError(f"{key}: {e}") from e
    if offset != next_offset:
        raise SnapshotError(f"{key} is of offset {offset}, not {next_offset}")
    return offset, state


def _encode(episode: Episode) -> bytes:
    record = episode.to_record()
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode("ascii")
