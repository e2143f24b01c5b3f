"""The dead letter file: bounded, private, and without content."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from detector.core.errors import ConfigError
from detector.decode import DeadLetterFile

from .helpers import decode, event


def refusals(n: int):
    return decode(*[event(ts=f"bad{i}") for i in range(n)]).rejected


def test_one_json_line_per_refusal(tmp_path):
    """Position, reason, detail and size; nothing of the record."""
    path = tmp_path / "dead.ndjson"
    with DeadLetterFile(path, 10) as letters:
        letters.append(refusals(2))
        assert (letters.written, letters.dropped) == (2, 0)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[1] == {
        "source": "file.ndjson",
        "partition": 3,
        "offset": 1,
        "index": 0,
        "reason": "bad_ts",
        "detail": "ts is neither RFC 3339 text with an offset nor an epoch number",
        "size_bytes": len(event(ts="bad1")),
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_bound_counts_over_restarts(tmp_path):
    """At most records_max lines in the file, however often it is opened; the rest is counted."""
    path = tmp_path / "dead.ndjson"
    with DeadLetterFile(path, 3) as letters:
        letters.append(refusals(2))
    with DeadLetterFile(path, 3) as letters:
        letters.append(refusals(4))
        letters.append(refusals(1))
        assert (letters.written, letters.dropped) == (3, 4)
    assert len(path.read_text().splitlines()) == 3


def test_a_torn_last_line_does_not_swallow_the_next(tmp_path):
    """A crash in the middle of a line leaves one broken line, not two."""
    path = tmp_path / "dead.ndjson"
    path.write_bytes(b'{"source":"a"}\n{"sou')
    with DeadLetterFile(path, 10) as letters:
        assert letters.written == 2
        letters.append(refusals(1))
    lines = path.read_bytes().splitlines()
    assert lines[1] == b'{"sou'
    assert json.loads(lines[2])["offset"] == 0


def test_a_full_disk_does_not_stop_the_stream():
    """/dev/full: nothing is written, everything is counted as dropped."""
    with DeadLetterFile(Path("/dev/full"), 10) as letters:
        letters.append(refusals(2))
        assert (letters.written, letters.dropped) == (0, 2)


def test_an_unwritable_place_is_a_sentence(tmp_path):
    """ConfigError that names the file and the cause."""
    with pytest.raises(ConfigError, match=r"cannot open dead letter file .*: No such file"):
        DeadLetterFile(tmp_path / "none" / "dead.ndjson", 10)
