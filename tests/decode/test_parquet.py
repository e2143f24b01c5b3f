"""Parquet in, the same columns out."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detector.core.errors import ConfigError
from detector.core.events import EventBatch
from detector.decode import parquet as parquet_module
from detector.decode import read_parquet

from .helpers import TS, TS_US, decode, event, same, settings, shown

ROWS = [
    {
        "key_id": "k1",
        "path": "/v1/orders/8812",
        "method": "GET",
        "status": 200,
        "bytes": 10,
        "source_ip": "203.0.113.7",
        "user_agent": "x/1",
        "owner": "o",
    },
    {"key_id": "-", "path": "/é", "status": 401, "auth": "failed", "source_ip": "2001:db8::1"},
    {"api_key": "raw", "route": "/v1/:id", "method": "POST"},
    {},
    {"key_id": "k1", "status": 99},
    {"key_id": "k1", "bytes": -5},
    {"key_id": "k2", "owner": "", "credential": {"id": "c1"}},
]


def write(path, columns) -> object:
    pq.write_table(pa.table(columns), path)
    return path


def read(path, **changes):
    parts = list(read_parquet(path, settings(**changes)))
    batch = EventBatch.concat([p.batch for p in parts])
    return batch, [r for p in parts for r in p.rejected], sum(p.no_key for p in parts)


@pytest.mark.parametrize("rows_per_batch", [2, 20_000])
@pytest.mark.parametrize("dictionary", [False, True])
def test_same_columns_as_json(tmp_path, monkeypatch, rows_per_batch, dictionary):
    """The same events as NDJSON and as Parquet give the same columns and refusals."""
    monkeypatch.setattr(parquet_module, "ROWS_PER_BATCH", rows_per_batch)
    names = sorted({name for row in ROWS for name in row} - {"credential"})
    columns = {name: pa.array([row.get(name) for row in ROWS]) for name in names}
    if dictionary:
        columns = {
            n: c.dictionary_encode() if c.type == pa.string() else c for n, c in columns.items()
        }
    columns["ts"] = pa.array([TS] * len(ROWS))
    columns["credential"] = pa.array([row.get("credential") for row in ROWS])
    columns["unknown"] = pa.array(range(len(ROWS)))
    batch, rejected, no_key = read(write(tmp_path / "f.parquet", columns))
    expected = decode(*[event(**row) for row in ROWS])
    assert same(batch, expected.batch)
    assert no_key == expected.no_key == 2
    assert [(r.offset, r.reason) for r in rejected] == [(4, "out_of_range"), (5, "out_of_range")]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([datetime(2026, 9, 21, 14, 15, 23, tzinfo=UTC)], pa.timestamp("ns", "UTC")),
        pa.array([datetime(2026, 9, 21, 14, 15, 23)], pa.timestamp("ms")),  # noqa: DTZ001
        pa.array(
            [datetime(2026, 9, 21, 14, 15, 23, tzinfo=UTC)], pa.timestamp("s", "Europe/Paris")
        ),
        pa.array([TS_US // 1000]),
        pa.array([TS_US / 1e6]),
        pa.array([TS]),
        pa.array([TS], pa.large_string()),
    ],
    ids=str,
)
def test_kinds_of_time(tmp_path, column):
    """Timestamps of any unit and zone, epoch numbers and text."""
    batch, rejected, _ = read(write(tmp_path / "f.parquet", {"ts": column}))
    assert not rejected
    assert batch.ts_us.tolist() == [TS_US]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"ts": pa.array([None], pa.string())}, "missing_ts"),
        ({"ts": pa.array([float("nan")])}, "bad_ts"),
        ({"ts": pa.array([True])}, "wrong_type"),
        ({"ts": [TS], "status": pa.array(["boom"])}, "wrong_type"),
        ({"ts": [TS], "status": pa.array([True])}, "wrong_type"),
        ({"ts": [TS], "status": pa.array([float("inf")])}, "wrong_type"),
        ({"ts": [TS], "bytes": pa.array([-2])}, "out_of_range"),
        ({"ts": [TS], "source_ip": pa.array([7])}, "wrong_type"),
        ({"ts": [TS], "key_id": pa.array([1.5])}, "wrong_type"),
        ({"ts": [TS], "key_id": pa.array(["x" * 2000])}, "too_large"),
    ],
)
def test_refusals(tmp_path, columns, reason):
    """A value that does not fit refuses its row, by the same list of reasons."""
    _, rejected, _ = read(write(tmp_path / "f.parquet", columns), value_bytes_max=1024)
    assert [r.reason for r in rejected] == [reason]


def test_numbers_of_other_types(tmp_path):
    """Whole floats, text and unsigned numbers are numbers; whole keys are text."""
    columns = {
        "ts": [TS],
        "status": pa.array([404.0]),
        "bytes": pa.array([2**63], pa.uint64()),
        "key_id": pa.array([12345]),
        "path": pa.nulls(1),
    }
    batch, _, _ = read(write(tmp_path / "f.parquet", columns))
    (only,) = shown(batch)
    assert (only["status"], only["size_bytes"], only["key"]) == (404, 1 << 50, "12345")


def test_files_that_cannot_be_read(tmp_path):
    """No Parquet, no ts column, damaged pages, raw keys without a pepper: one sentence each."""
    garbage = tmp_path / "g.parquet"
    garbage.write_bytes(b"PAR1 nothing")
    with pytest.raises(ConfigError, match="as Parquet"):
        read(garbage)
    with pytest.raises(ConfigError, match="no column named ts"):
        read(write(tmp_path / "n.parquet", {"time": [TS]}))
    with pytest.raises(ConfigError, match="pepper"):
        read(write(tmp_path / "r.parquet", {"ts": [TS], "api_key": ["raw"]}), pepper=None)
    good = write(
        tmp_path / "d.parquet", {"ts": [TS] * 1000, "key_id": [str(i) for i in range(1000)]}
    )
    data = bytearray(good.read_bytes())
    data[60:2000] = b"\xff" * 1940
    good.write_bytes(bytes(data))
    with pytest.raises(ConfigError, match="damaged"):
        read(good)
