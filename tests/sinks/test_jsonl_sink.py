"""The JSON-lines file holds each alert once, whole, through crashes and rotation."""

from __future__ import annotations

import errno
import json
import os
from threading import Thread

import pytest

from detector.core.errors import ConfigError, DeliveryError
from detector.sinks import jsonl
from detector.sinks.jsonl import JsonlSink
from tests.sinks.sample import make_alert


def test_alerts_are_appended_as_they_are(tmp_path):
    """One line each; what was in the file stays."""
    path = tmp_path / "alerts.ndjson"
    path.write_text('{"note": 1}\n')
    sink = JsonlSink(path)
    for n in range(3):
        sink.deliver(make_alert(n))
    lines = path.read_text().splitlines()
    assert [json.loads(x) for x in lines[1:]] == [make_alert(n) for n in range(3)]


def test_a_repeated_alert_is_written_once_also_after_a_restart(tmp_path):
    """Idempotent on alert_id: the ids in the file are read back at the opening."""
    path = tmp_path / "a.ndjson"
    for _ in range(3):
        sink = JsonlSink(path)
        sink.deliver(make_alert(1))
        sink.deliver(make_alert(1))
    assert len(path.read_text().splitlines()) == 1


def test_a_line_cut_off_by_a_crash_is_removed_and_written_again(tmp_path):
    """A torn tail at any byte leaves a file of whole lines."""
    path = tmp_path / "a.ndjson"
    sink = JsonlSink(path)
    sink.deliver(make_alert(1))
    whole = path.read_bytes()
    sink.deliver(make_alert(2))
    both = path.read_bytes()
    for cut in (len(whole) + 1, len(whole) + 100, len(both) - 1):
        path.write_bytes(both[:cut])
        again = JsonlSink(path)
        assert path.read_bytes() == whole
        again.deliver(make_alert(1))
        again.deliver(make_alert(2))
        assert path.read_bytes() == both


def test_hostile_text_stays_on_its_line_in_ascii(tmp_path):
    """Line separators, control characters and lone surrogates are escaped."""
    path = tmp_path / "a.ndjson"
    JsonlSink(path).deliver(make_alert(key="a\nb\u2028\x1b[0m\ud800\u202e"))
    text = path.read_bytes()
    assert text.isascii()
    assert text.count(b"\n") == 1
    assert json.loads(text)["key"] == "a\nb\u2028\x1b[0m\ud800\u202e"


def test_a_rotated_file_is_begun_anew(tmp_path):
    """After a rename the next alert makes a new file."""
    path = tmp_path / "a.ndjson"
    sink = JsonlSink(path)
    sink.deliver(make_alert(1))
    path.rename(tmp_path / "a.ndjson.1")
    sink.deliver(make_alert(2))
    assert json.loads(path.read_text())["alert_id"] == f"{2:020x}"


def test_only_the_services_user_may_read_the_file(tmp_path):
    """Mode 0600 at the start and after a rotation; a file that is there keeps its mode."""
    path = tmp_path / "a.ndjson"
    old_umask = os.umask(0)
    try:
        sink = JsonlSink(path)
        assert path.stat().st_mode & 0o777 == 0o600
        path.rename(tmp_path / "a.ndjson.1")
        sink.deliver(make_alert(1))
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(old_umask)
    path.chmod(0o640)
    JsonlSink(path).deliver(make_alert(2))
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_fault_is_retried_and_leaves_no_half_line(tmp_path, monkeypatch, code):
    """The failed attempt leaves the file as it was."""
    path = tmp_path / "a.ndjson"
    sink = JsonlSink(path)
    sink.deliver(make_alert(1))
    before = path.read_bytes()

    def fail(_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(jsonl.os, "fsync", fail)
        with pytest.raises(DeliveryError) as caught:
            sink.deliver(make_alert(2))
    assert caught.value.retriable
    assert path.read_bytes() == before
    sink.deliver(make_alert(2))
    assert len(path.read_text().splitlines()) == 2


def test_a_place_that_cannot_be_written_is_a_configuration_error(tmp_path):
    """Known before the first alert, in one sentence with the path."""
    with pytest.raises(ConfigError, match=r"cannot write alerts to .*no/such"):
        JsonlSink(tmp_path / "no" / "such" / "a.ndjson")


def test_a_pipe_may_take_the_lines(tmp_path):
    """A named pipe is neither read back nor synced."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got: list[bytes] = []
    reader = Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    reader.start()
    JsonlSink(path).deliver(make_alert(1))
    reader.join(10)
    assert json.loads(got[0])["alert_id"] == f"{1:020x}"
