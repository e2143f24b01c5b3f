"""Snapshots of one partition's state in a checkpoint store: checked, versioned, a few kept.

An envelope is ``magic, version (u16), header length (u32), header (JSON), body, blake2b``,
integers little-endian, the 32-byte hash over everything before it.
"""

from __future__ import annotations

import json
import struct
from hashlib import blake2b
from typing import Any

from detector.core.errors import ConfigError, SnapshotError
from detector.core.ports import CheckpointStore
from detector.stores.keys import is_segment

FORMAT_VERSION = 1
KEPT_MIN = 3
HEADER_BYTES_MAX = 65_536

_MAGIC = b"KWSNAP\r\n"  # a transfer that rewrites line ends is noticed at once
_PREFIX = struct.Struct("<8sHI")
_HASH_BYTES = 32


class SnapshotStore:
    """Saves snapshots and keeps the ``kept`` newest of each partition; ``unpack`` reads one.

    The offset to go on from is part of the snapshot: state and offset cannot disagree.
    One writer at a time; it is the caller who owns the partition, and who deletes what he
    found damaged, which would count among the newest.
    """

    def __init__(self, store: CheckpointStore, kept: int = KEPT_MIN) -> None:
        if kept < KEPT_MIN:
            raise ConfigError(f"at least {KEPT_MIN} snapshots must be kept, not {kept}")
        self._store = store
        self._kept = kept

    def save(self, partition: str, next_offset: int, body: bytes) -> str:
        """Stores a snapshot, prunes old ones and returns the new one's key.

        Saving what the newest snapshot of this offset already holds changes nothing.
        """
        if next_offset < 0:
            raise ValueError(f"not an offset: {next_offset}")
        envelope = pack(partition, next_offset, body)
        at_offset = self._store.list(f"{_directory(partition)}{next_offset:016}-")
        if at_offset and self._store.get(at_offset[-1]) == envelope:
            return at_offset[-1]
        serial = int(at_offset[-1].rpartition("-")[2]) + 1 if at_offset else 0
        key = f"{_directory(partition)}{next_offset:016}-{serial:08}"
        if not self._store.put_if_absent(key, envelope):
            raise SnapshotError(f"snapshot {key} was written by someone else")
        self._prune(partition)
        return key

    def _prune(self, partition: str) -> None:
        """Deletes what is older than the ``kept`` newest, the oldest first."""
        for key in self._store.list(_directory(partition))[: -self._kept]:
            self._store.delete(key)


def pack(partition: str, next_offset: int, body: bytes) -> bytes:
    """The envelope of a snapshot."""
    fields = {"partition": partition, "next_offset": next_offset, "body_bytes": len(body)}
    header = json.dumps(fields, sort_keys=True).encode()
    content = _PREFIX.pack(_MAGIC, FORMAT_VERSION, len(header)) + header + body
    return content + blake2b(content, digest_size=_HASH_BYTES).digest()


def unpack(envelope: bytes, partition: str) -> tuple[int, bytes]:
    """Next offset and body. Raises ``SnapshotError`` when anything is not as it was packed."""
    if len(envelope) < _PREFIX.size + _HASH_BYTES:
        raise SnapshotError(f"cut off after {len(envelope)} bytes")
    magic, version, header_bytes = _PREFIX.unpack_from(envelope)
    if magic != _MAGIC:
        raise SnapshotError("not a snapshot")
    if version != FORMAT_VERSION:
        raise SnapshotError(f"format version {version}, this build reads {FORMAT_VERSION}")
    content = memoryview(envelope)[:-_HASH_BYTES]
    if blake2b(content, digest_size=_HASH_BYTES).digest() != envelope[-_HASH_BYTES:]:
        raise SnapshotError("its checksum does not match")
    start = _PREFIX.size + header_bytes
    if header_bytes > HEADER_BYTES_MAX or start > len(content):
        raise SnapshotError("its header is too long")
    body = bytes(content[start:])
    return _next_offset(bytes(content[_PREFIX.size : start]), partition, len(body)), body


def _next_offset(header: bytes, partition: str, body_bytes: int) -> int:
    try:
        fields: dict[str, Any] = json.loads(header)
        next_offset = fields["next_offset"]
        found = fields["partition"], fields["body_bytes"]
    except (ValueError, KeyError, TypeError) as e:
        raise SnapshotError("its header is not readable") from e
    if found != (partition, body_bytes):
        raise SnapshotError(f"belongs to partition {found[0]!r}")
    if not isinstance(next_offset, int) or next_offset < 0:
        raise SnapshotError("its offset is not valid")
    return next_offset


def _directory(partition: str) -> str:
    if not is_segment(partition):
        raise ValueError(f"not a partition name: {partition[:80]!r}")
    return f"snapshot/{partition}/"
