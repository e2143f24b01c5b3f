"""Snapshots: the newest good one is found whatever is damaged, and never a mix of two."""

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


def damage(store: MemoryStore, key: str, content: bytes) -> None:
    store.delete(key)
    store.put_if_absent(key, content)


def test_the_newest_snapshot_comes_back(snapshots):
    """Offset and body are one unit."""
    assert snapshots.load_newest("orders-0") is None
    for offset in (5, 40, 1_000_000_000_000):
        snapshots.save("orders-0", offset, b"state at %d" % offset)
    snapshots.save("orders-1", 7, b"other")
    assert snapshots.load_newest("orders-0") == (1_000_000_000_000, b"state at 1000000000000", ())
    assert snapshots.load_newest("orders-1") == (7, b"other", ())


def test_partitions_whose_names_begin_alike_are_apart(snapshots):
    """``orders-1`` is no prefix of ``orders-10``."""
    snapshots.save("orders-10", 3, b"ten")
    assert snapshots.load_newest("orders-1") is None


def test_the_same_offset_may_be_saved_again(snapshots, store):
    """Equal content is a no-op; other content at an equal offset is newer."""
    first = snapshots.save("p", 9, b"a")
    assert snapshots.save("p", 9, b"a") == first
    assert len(store.list("snapshot/")) == 1
    for n in range(12):
        snapshots.save("p", 9, b"b%d" % n)
    assert snapshots.load_newest("p").body == b"b11"


@pytest.mark.parametrize("kept", [3, 5])
def test_only_the_newest_are_kept(store, kept):
    """Older ones are pruned, other partitions' are not touched."""
    snapshots = SnapshotStore(store, kept)
    snapshots.save("q", 1, b"q")
    for offset in range(10):
        snapshots.save("p", offset, b"%d" % offset)
    assert len(store.list("snapshot/p/")) == kept
    assert len(store.list("snapshot/q/")) == 1
    assert snapshots.load_newest("p").next_offset == 9


def test_fewer_than_three_are_refused(store):
    """A promise about damage needs something to fall back on."""
    with pytest.raises(ConfigError, match="at least 3"):
        SnapshotStore(store, KEPT_MIN - 1)


def test_a_damaged_newest_falls_back_and_is_told(snapshots, store):
    """The newest good one is loaded; each damaged one has its sentence."""
    snapshots.save("p", 10, b"old")
    newer = [snapshots.save("p", 20, b"mid"), snapshots.save("p", 30, b"new")]
    for key in newer:
        damage(store, key, store.get(key)[:-1])
    loaded = snapshots.load_newest("p")
    assert (loaded.next_offset, loaded.body) == (10, b"old")
    assert len(loaded.damaged) == 2
    assert newer[1] in loaded.damaged[0]


def test_damaged_snapshots_do_not_push_out_good_ones(snapshots, store):
    """After a fallback the next saves come before the damaged one and are still kept."""
    for offset in (10, 20, 30):
        key = snapshots.save("p", offset, b"%d" % offset)
    damage(store, key, b"")
    assert snapshots.load_newest("p").next_offset == 20
    for offset in (22, 24, 30):
        snapshots.save("p", offset, b"again %d" % offset)
        assert snapshots.load_newest("p").next_offset == offset
    good = [k for k in store.list("snapshot/p/") if store.get(k)]
    assert len(good) == 3


def test_with_none_good_there_is_no_blank_start(snapshots, store):
    """Only an explicit cold start begins without state."""
    for offset in (1, 2, 3):
        damage(store, snapshots.save("p", offset, BODY), b"junk" * 20)
    with pytest.raises(SnapshotError, match="none of the 3 snapshots of p is good"):
        snapshots.load_newest("p")
    assert snapshots.load_newest("p", cold_start=True) is None
    snapshots.save("p", 0, b"blank")
    assert snapshots.load_newest("p").body == b"blank"


def test_a_cold_start_does_not_throw_good_state_away(snapshots):
    """The flag allows a blank start, it does not ask for one; discarding is its own call."""
    snapshots.save("p", 5, b"good")
    assert snapshots.load_newest("p", cold_start=True).body == b"good"
    assert snapshots.discard("p") == 1
    assert snapshots.load_newest("p") is None


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


def test_another_partitions_snapshot_is_refused(snapshots, store):
    """A file copied to the wrong place does not load."""
    key = snapshots.save("p", 3, b"mine")
    damage(store, key, pack("q", 3, b"theirs"))
    with pytest.raises(SnapshotError, match="belongs to partition 'q'"):
        snapshots.load_newest("p")


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
