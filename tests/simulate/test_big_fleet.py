"""The benchmark log: the asked size, order and skew."""

import json
from collections import Counter, defaultdict

import pytest

from detector.core.errors import UsageError
from replay.simulate import big_fleet, write_big_fleet


def test_size_order_and_skew(tmp_path):
    """As many lines as asked, sorted, Zipf-skewed keys with at most 50 addresses each."""
    path = tmp_path / "big.ndjson"
    assert write_big_fleet(path, n_keys=500, n_events=120_000, seed=1) == 120_000
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    stamps = [r["ts"] for r in records]
    assert stamps == sorted(stamps)
    counts = Counter(r["key_id"] for r in records).most_common()
    assert 6 < counts[0][1] / counts[9][1] < 20  # rank 1 against rank 10: 10^1.05 = 11
    addresses = defaultdict(set)
    for record in records:
        addresses[record["key_id"]].add(record["source_ip"])
    assert max(map(len, addresses.values())) <= 50
    assert 220 < path.stat().st_size / 120_000 < 310


def test_equal_seeds_equal_files(tmp_path):
    """The same arguments give the same bytes."""
    a, b = (b"".join(c.block() for c in big_fleet(50, 3000, 7)) for _ in range(2))
    assert a == b


def test_impossible_sizes_are_refused():
    """A log of no keys is a usage error."""
    with pytest.raises(UsageError):
        next(big_fleet(0, 10, 1))
