"""Reading log files: every line once, with its number, in bounded memory; damage is told."""

import gzip
import os
import threading
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from detector.core.errors import UsageError
from replay import files
from replay.files import InputFile, open_inputs, read_blocks

LINES = [b'{"n":%d,"pad":"%s"}' % (i, b"x" * (i % 300)) for i in range(5000)]
DATA = b"\n".join(LINES) + b"\n"
PACK = {
    "a.ndjson": lambda data: data,
    "a.ndjson.gz": gzip.compress,
    "a.ndjson.zst": zstandard.ZstdCompressor().compress,
}


def read(path, rows=1000) -> tuple[list[bytes], InputFile]:
    file = open_inputs([path])[0]
    blocks = list(file.blocks(rows))
    assert all(0 < len(b) <= rows for b in blocks)
    numbers = [n for b in blocks for n in b.offsets.tolist()]
    assert numbers == list(range(len(numbers)))
    return [line for b in blocks for line in b.values], file


@pytest.mark.parametrize("name", PACK)
def test_lines_come_back_with_their_numbers(tmp_path, name):
    """Plain, gzip and Zstandard give the same lines, and progress ends at the file's size."""
    (tmp_path / name).write_bytes(PACK[name](DATA))
    lines, file = read(tmp_path / name)
    assert lines == LINES
    assert file.damage is None
    assert file.bytes_done == file.bytes_total == (tmp_path / name).stat().st_size


@pytest.mark.parametrize("name", PACK)
def test_concatenated_and_empty_files(tmp_path, name):
    """Members one after the other are one file; an empty file has no lines and no damage."""
    (tmp_path / name).write_bytes(PACK[name](DATA) + PACK[name](DATA))
    assert read(tmp_path / name)[0] == LINES * 2
    (tmp_path / name).write_bytes(b"")
    assert read(tmp_path / name)[0] == []
    (tmp_path / name).write_bytes(PACK[name](b""))
    lines, file = read(tmp_path / name)
    assert (lines, file.damage) == ([], None)


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.ndjson.zst"])
def test_a_truncated_file_gives_what_it_has_and_says_so(tmp_path, name):
    """All whole lines before the cut come first, then one sentence that names the file."""
    noisy = b"\n".join(os.urandom(40).hex().encode() for _ in range(20_000)) + b"\n"
    packed = PACK[name](noisy)
    (tmp_path / name).write_bytes(packed[: len(packed) * 2 // 3])
    lines, file = read(tmp_path / name)
    assert lines[:-1] == noisy.split(b"\n")[: len(lines) - 1]
    assert len(lines) > 1000
    assert file.damage is not None
    assert name in file.damage
    assert "truncated" in file.damage
    with pytest.raises(UsageError, match="truncated"):
        list(read_blocks(tmp_path / name))


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.ndjson.zst"])
def test_garbage_under_a_compressed_name(tmp_path, name):
    """Bytes that are not compressed at all are damage, not a crash."""
    (tmp_path / name).write_bytes(b"this is plain text\n" * 100)
    lines, file = read(tmp_path / name)
    assert lines == []
    assert "damaged" in str(file.damage)


@given(st.lists(st.binary(max_size=30).filter(lambda b: b"\n" not in b), max_size=30), st.data())
def test_any_piece_boundaries_give_the_same_lines(lines, data):
    """Where reads end does not matter, nor whether the last line has its end."""
    content = b"\n".join([b"{", *lines])
    pieces, rest = [], content
    while rest:
        n = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:n])
        rest = rest[n:]
    expected = content.split(b"\n")
    expected = expected if expected[-1] else expected[:-1]
    got = [line for block in files._line_blocks(iter(pieces), 7) for line in block]
    assert got == expected


def test_a_line_without_end_stays_bounded(tmp_path, monkeypatch):
    """A huge line is cut just above the limit and reading goes on after it."""
    monkeypatch.setattr(files, "LINE_BYTES_MAX", 1 << 20)
    (tmp_path / "a.log").write_bytes(b"y" * (5 << 20) + b"\nnext\n")
    lines, _ = read(tmp_path / "a.log")
    assert [len(line) for line in lines] == [(1 << 20) + 1, 4]


def test_a_byte_order_mark_is_not_part_of_the_first_line(tmp_path):
    """Files from other systems may begin with a mark; the first event survives it."""
    (tmp_path / "a.log").write_bytes(b"\xef\xbb\xbf{}\n")
    assert read(tmp_path / "a.log")[0] == [b"{}"]


def test_a_folder_gives_its_logs_by_name_and_nothing_else(tmp_path):
    """Logs of a folder and its sub-folders in order; labels and hidden files stay out."""
    (tmp_path / "sub").mkdir()
    for name in ("b.ndjson", "a.log.gz", "labels.json", ".x.log", "sub/c.jsonl.zst"):
        (tmp_path / name).write_bytes(b"")
    found = open_inputs([tmp_path, tmp_path / "b.ndjson"])
    assert [f.path.name for f in found] == ["a.log.gz", "b.ndjson", "c.jsonl.zst"]
    assert [f.number for f in found] == [0, 1, 2]


def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path):
    """A missing file and a folder without logs are named."""
    with pytest.raises(UsageError, match="no-such-file"):
        open_inputs([tmp_path / "no-such-file"])
    with pytest.raises(UsageError, match="holds no logs"):
        open_inputs([tmp_path])


def test_a_pipe_is_read_once_from_its_beginning(tmp_path):
    """Process substitution works: looking at the input does not eat it."""
    path = tmp_path / "pipe.log"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(DATA))
    inputs = open_inputs([path])
    writer.start()
    lines = [line for block in inputs[0].blocks(999) for line in block.values]
    writer.join()
    assert lines == LINES


def test_parquet_rows_are_canonical_lines(tmp_path):
    """A Parquet table becomes one JSON object a row, its times in UTC."""
    table = pa.table(
        {
            "ts": pa.array([datetime(2026, 3, 2, 1, 2, 3)], pa.timestamp("ns")),  # noqa: DTZ001
            "key_id": ["k"],
            "status": [200],
            "source_ip": pa.array([None], pa.string()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    lines, file = read(tmp_path / "a.parquet")
    assert lines == [b'{"ts":"2026-03-02T01:02:03Z","key_id":"k","status":200,"source_ip":null}']
    assert file.bytes_done == file.bytes_total
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    lines, file = read(tmp_path / "b.parquet")
    assert "not a readable Parquet file" in str(file.damage)
