"""Snapshots: the newest are kept in order, and no damage goes unnoticed."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.errors import ConfigError, SnapshotError
from detector.stores.memory import MemoryStore
from detector.stores.snapshots import KEPT_MIN, SnapshotStore, pack, unpack

BODY = bytes(range(256)) * 4


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def snapshots(store) -> SnapshotStore:
    return SnapshotStore(store)


def newest(store: MemoryStore, partition: str) -> tuple[int, bytes]:
    """Next offset and body of the last key, as names sort by offset and serial."""
    key = store.list(f"snapshot/{partition}/")[-1]
    return unpack(store.get(key) or b"", partition)


def test_the_newest_snapshot_sorts_last(snapshots, store):
    """Offset and body are one unit, under the key that ``save`` returned."""
    for offset in (5, 40, 1_000_000_000_000):
        key = snapshots.save("orders-0", offset, b"state at %d" % offset)
        assert store.list("snapshot/orders-0/")[-1] == key
    snapshots.save("orders-1", 7, b"other")
    assert newest(store, "orders-0") == (1_000_000_000_000, b"state at 1000000000000")
    assert newest(store, "orders-1") == (7, b"other")


def test_partitions_whose_names_begin_alike_are_apart(snapshots, store):
    """``orders-1`` is no prefix of ``orders-10``: its saves push nothing out there."""
    for offset in range(3):
        snapshots.save("orders-10", offset, b"ten")
    for offset in range(9):
        snapshots.save("orders-1", offset, b"one")
    assert len(store.list("snapshot/orders-10/")) == len(store.list("snapshot/orders-1/")) == 3


def test_the_same_offset_may_be_saved_again(snapshots, store):
    """Equal content is a no-op; other content at an equal offset is newer."""
    first = snapshots.save("p", 9, b"a")
    assert snapshots.save("p", 9, b"a") == first
    assert len(store.list("snapshot/")) == 1
    for n in range(12):
        snapshots.save("p", 9, b"b%d" % n)
    assert newest(store, "p") == (9, b"b11")


@pytest.mark.parametrize("kept", [3, 5])
def test_only_the_newest_are_kept(store, kept):
    """Older ones are pruned, other partitions' are not touched."""
    snapshots = SnapshotStore(store, kept)
    snapshots.save("q", 1, b"q")
    for offset in range(10):
        snapshots.save("p", offset, b"%d" % offset)
    assert len(store.list("snapshot/p/")) == kept
    assert len(store.list("snapshot/q/")) == 1
    left = [unpack(store.get(key), "p") for key in store.list("snapshot/p/")]
    assert left == [(offset, b"%d" % offset) for offset in range(10 - kept, 10)]


def test_fewer_than_three_are_refused(store):
    """A promise about damage needs something to fall back on."""
    with pytest.raises(ConfigError, match="at least 3"):
        SnapshotStore(store, KEPT_MIN - 1)


def test_every_truncation_is_noticed():
    """No prefix of an envelope is an envelope."""
    envelope = pack("p", 12, BODY[:64])
    for length in range(len(envelope)):
        with pytest.raises(SnapshotError):
            unpack(envelope[:length], "p")


def test_every_flipped_bit_is_noticed():
    """A single wrong bit anywhere is refused, never loaded as something else."""
    envelope = pack("p", 12, BODY[:32])
    for bit in range(8 * len(envelope)):
        bad = bytearray(envelope)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SnapshotError):
            unpack(bytes(bad), "p")


def test_zeroed_pages_and_swapped_halves_are_noticed():
    """Damage as disks make it: 512-byte pages lost, moved or repeated."""
    envelope = pack("p", 12, random.Random(4).randbytes(8192))
    pages = [envelope[i : i + 512] for i in range(0, len(envelope), 512)]
    for i in range(len(pages) - 1):
        zeroed = [*pages[:i], bytes(512), *pages[i + 1 :]]
        swapped = [*pages[:i], pages[i + 1], pages[i], *pages[i + 2 :]]
        repeated = [*pages[:i], pages[i], *pages[i:]]
        for bad in (zeroed, swapped, repeated):
            with pytest.raises(SnapshotError):
                unpack(b"".join(bad), "p")


def test_another_partitions_snapshot_is_refused():
    """A file copied to the wrong place does not load."""
    with pytest.raises(SnapshotError, match="belongs to partition 'q'"):
        unpack(pack("q", 3, b"theirs"), "p")


def test_a_version_of_another_build_is_named():
    """It is refused by its version, never guessed at."""
    envelope = bytearray(pack("p", 3, b"x"))
    struct.pack_into("<H", envelope, 8, 2)
    with pytest.raises(SnapshotError, match="format version 2, this build reads 1"):
        unpack(bytes(envelope), "p")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(junk):
    """Random content is refused with a SnapshotError and nothing else."""
    with pytest.raises(SnapshotError):
        unpack(junk, "p")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**62), st.binary(max_size=2000))
def test_pack_and_unpack_are_inverse(next_offset, body):
    """Any offset and body survive the envelope."""
    assert unpack(pack("a.b-0", next_offset, body), "a.b-0") == (next_offset, body)
