"""Every checkpoint store behaves the same: whole values, first put wins, sorted lists."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from detector.core.ports import CheckpointStore
from detector.stores.local import LocalStore
from detector.stores.memory import MemoryStore


@pytest.fixture(params=["memory", "local"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryStore()
    else:
        with LocalStore(tmp_path / "state") as local:
            yield local


def test_a_value_reads_back_as_it_was_put(store: CheckpointStore):
    """Any bytes, empty ones too, come back unchanged."""
    for key, value in (("a", b""), ("b/c", b"\x00\xff\r\n"), ("d/e/f", bytes(300_000))):
        assert store.put_if_absent(key, value) is True
        assert store.get(key) == value


def test_the_first_put_wins(store: CheckpointStore):
    """A second put says False and changes nothing, even with equal content."""
    assert store.put_if_absent("k", b"first")
    assert not store.put_if_absent("k", b"second")
    assert not store.put_if_absent("k", b"first")
    assert store.get("k") == b"first"


@pytest.mark.parametrize("value", [b"", b"x"])
def test_equal_small_values_are_still_a_second_put(store: CheckpointStore, value):
    """Interned bytes objects are not mistaken for the caller's own put."""
    assert store.put_if_absent("k", value)
    assert not store.put_if_absent("k", value)


def test_missing_keys_read_as_none(store: CheckpointStore):
    """Neither an absent key, nor one below or above an existing one, has a value."""
    store.put_if_absent("a/b", b"1")
    assert store.get("a") is None
    assert store.get("a/b/c") is None
    assert store.get("x/y") is None


def test_a_key_may_be_the_directory_of_another(store: CheckpointStore):
    """``a`` and ``a/b`` are two keys that do not disturb each other."""
    assert store.put_if_absent("a/b", b"2")
    assert store.put_if_absent("a", b"1")
    assert (store.get("a"), store.get("a/b")) == (b"1", b"2")
    store.delete("a")
    assert store.list("") == ["a/b"]


def test_list_is_sorted_and_by_text_prefix(store: CheckpointStore):
    """A prefix is text, not a directory; the order is that of the whole keys."""
    for key in ("p/2", "p/10", "p-x", "p/a/b", "pq", "q"):
        store.put_if_absent(key, b"")
    assert store.list("p") == sorted(["p/2", "p/10", "p-x", "p/a/b", "pq"])
    assert store.list("p/") == ["p/10", "p/2", "p/a/b"]
    assert store.list("p/1") == ["p/10"]
    assert store.list("nothing/here") == []
    assert len(store.list("")) == 6


def test_delete_removes_and_a_missing_key_is_no_error(store: CheckpointStore):
    """After a delete the key can be put anew."""
    store.put_if_absent("a/b", b"1")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/there")
    assert store.get("a/b") is None
    assert store.list("") == []
    assert store.put_if_absent("a/b", b"2")


BAD_KEYS = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a b", "a\n", "a\x00",
    "ä", "a,v", "a:b", "a\\b", "~", "%2e", "x" * 201, "/".join(["y" * 100] * 6),
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_refused_by_every_call(store: CheckpointStore, key):
    """No key leaves the store's directory or depends on the file system's encoding."""
    for call in (lambda: store.put_if_absent(key, b""), lambda: store.get(key)):
        with pytest.raises(ValueError, match="not a store key"):
            call()
    with pytest.raises(ValueError, match="not a store key"):
        store.delete(key)


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", "a//", "a b", "./", ",tmp/"])
def test_bad_prefixes_are_refused(store: CheckpointStore, prefix):
    """A list cannot be made to walk somewhere else."""
    with pytest.raises(ValueError, match="not a store prefix"):
        store.list(prefix)


def test_of_many_threads_exactly_one_puts(store: CheckpointStore):
    """put_if_absent is atomic: 8 threads, 20 keys, one winner each, whose value stays."""

    def put(job: tuple[int, int]) -> tuple[int, int] | None:
        key, worker = job
        return job if store.put_if_absent(f"race/{key}", b"%d" % worker) else None

    jobs = [(k, w) for k in range(20) for w in range(8)]
    with ThreadPoolExecutor(8) as pool:
        winners = [j for j in pool.map(put, jobs) if j is not None]
    assert sorted(k for k, _ in winners) == list(range(20))
    assert all(store.get(f"race/{k}") == b"%d" % w for k, w in winners)
