"""Bad input through the real command line: one clear sentence, a documented code, no loss."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests import forked

OK, USAGE, TEMPORARY, CONFIG = 0, 2, 75, 78
GOOD = [
    json.dumps({"ts": 1772445600 + i, "key_id": f"k{i % 3}", "method": "GET", "path": f"/v1/{i}"})
    for i in range(3000)
]


def keywatch(folder: Path, *args: str, unprivileged: bool = False) -> subprocess.CompletedProcess:
    """Runs a command in a folder."""
    return forked.keywatch(*args, cwd=folder, unprivileged=unprivileged)


def says(done: subprocess.CompletedProcess, code: int, *words: str) -> None:
    """The code, and one sentence that holds the words."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("keywatch: ")]
    assert len(sentences) == 1, done.stderr
    assert done.stderr == sentences[0] + "\n"
    for word in words:
        assert word in sentences[0]


def warns(done: subprocess.CompletedProcess, *words: str) -> None:
    """The replay went through, and a sentence on stderr holds the words."""
    assert done.returncode == OK, done.stderr
    sentences = done.stderr.splitlines()
    assert all(line.startswith("keywatch: ") for line in sentences), done.stderr
    assert any(all(word in line for word in words) for line in sentences), done.stderr


def summary(folder: Path) -> dict[str, Any]:
    """The summary of a replay, in which nothing is lost, and every refusal is on file."""
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    refused = sum(found["rejected"].values())
    assert found["lines"] == found["accepted"] + found["no_key"] + refused
    assert len((folder / "rejected.ndjson").read_bytes().splitlines()) == refused
    for name in ("alerts.ndjson", "episodes.ndjson", "report.html"):
        assert (folder / name).is_file()
    return found


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_an_empty_file_is_a_log_of_no_events(tmp_path):
    """0, all files written, everything counts 0, and it is said that there was nothing."""
    (tmp_path / "log.ndjson").touch()
    done = keywatch(tmp_path, "replay", "log.ndjson", "-o", "out")
    assert done.returncode == OK
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("0 lines, 0 keys, 0 alerts")
    found = summary(tmp_path / "out")
    assert (found["lines"], found["keys"], found["first_event"]) == (0, 0, None)


def test_wrong_lines_among_good_ones(tmp_path):
    """Wrong types, missing fields, torn JSON: refused by reason, said; the good ones count."""
    bad = [
        ('{"ts": [], "key_id": "k"}', "wrong_type"),
        ('{"ts": "2026-03-02T10:00:00Z", "key_id": {}}', "wrong_type"),
        ('{"ts": "2026-03-02T10:00:00Z", "status": "teapot"}', "wrong_type"),
        ('{"key_id": "k", "status": 200}', "missing_ts"),
        ("{}", "missing_ts"),
        ('{"ts": "2026-03-02T10:00:00Z", "key_id": "to', "not_json"),
        ("[1, 2]", "wrong_type"),
        ('"text"', "wrong_type"),
        ('{"ts": "tomorrow"}', "bad_ts"),
    ]
    no_key = ['{"ts": 1772449000}', '{"ts": "2026-03-02T10:57:00Z", "key_id": null}']
    lines = [*GOOD, *no_key]
    for line, _ in bad:
        lines.insert(random.Random(line).randrange(len(GOOD)), line)
    write(tmp_path / "log.ndjson", lines)
    done = keywatch(tmp_path, "replay", "log.ndjson", "-o", "out")
    warns(done, f"{len(bad) + 1} of", "rejected.ndjson")
    found = summary(tmp_path / "out")
    assert (found["accepted"], found["no_key"]) == (len(GOOD), len(no_key))
    expected = Counter(reason for _, reason in bad) + Counter(["wrong_type"])  # [1, 2] is two
    assert found["rejected"] == expected


def test_binary_garbage(tmp_path):
    """Every line of it is refused and said to be; none becomes an event."""
    data = random.Random(2).randbytes(200_000)
    (tmp_path / "log.ndjson").write_bytes(data)
    done = keywatch(tmp_path, "replay", "log.ndjson", "-o", "out")
    found = summary(tmp_path / "out")
    assert found["accepted"] + found["no_key"] == 0
    assert found["lines"] == len(data.rstrip(b"\n").split(b"\n"))
    warns(done, f"{found['lines']:,}", "rejected.ndjson")


@pytest.mark.parametrize("name", ["log.ndjson.gz", "log.ndjson.zst", "log.parquet"])
def test_not_what_its_name_says(tmp_path, name):
    """Garbage under the name of a compressed or columnar file is named, not taken for empty."""
    (tmp_path / name).write_bytes(random.Random(3).randbytes(50_000))
    done = keywatch(tmp_path, "replay", name, "-o", "out")
    warns(done, name)
    assert summary(tmp_path / "out")["lines"] == 0


def test_a_truncated_file(tmp_path):
    """What can be read of a cut gzip file is scored, the rest is said to be missing."""
    text = "".join(line + "\n" for line in GOOD)
    whole = gzip.compress(text.encode())
    (tmp_path / "log.ndjson.gz").write_bytes(whole[: len(whole) // 2])
    done = keywatch(tmp_path, "replay", "log.ndjson.gz", "-o", "out")
    found = summary(tmp_path / "out")
    assert len(GOOD) // 4 < found["accepted"] < len(GOOD)
    assert sum(found["rejected"].values()) <= 1  # the line the cut went through
    assert any("too early" in note for note in found["notes"])
    warns(done, "log.ndjson.gz", "too early")


def test_files_that_cannot_be_read(tmp_path):
    """A missing file, a folder without logs, a folder that may not be entered: 2."""
    says(keywatch(tmp_path, "replay", "no.ndjson", "-o", "out"), USAGE, "no.ndjson")
    (tmp_path / "empty").mkdir()
    says(keywatch(tmp_path, "replay", "empty", "-o", "out"), USAGE, "empty")
    closed = tmp_path / "closed"
    closed.mkdir()
    write(closed / "log.ndjson", GOOD)
    closed.chmod(0)
    try:
        args = ("replay", "closed/log.ndjson", "-o", "out")
        says(keywatch(tmp_path, *args, unprivileged=True), USAGE, "closed/log.ndjson", "ermission")
    finally:
        closed.chmod(0o700)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_logs(tmp_path):
    """A folder stands for the logs in it, to which an earlier replay's results do not belong."""
    (tmp_path / "logs").mkdir()
    write(tmp_path / "logs/a.ndjson", GOOD[:1000])
    write(tmp_path / "logs/b.ndjson", [*GOOD[1000:], "torn"])
    write(tmp_path / "logs/labels.json", ["[]"])
    for out in ("logs/out", "logs/again"):
        done = keywatch(tmp_path, "replay", "logs", "-o", out)
        assert done.returncode == OK, done.stderr
        found = summary(tmp_path / out)
        assert (found["lines"], found["accepted"]) == (len(GOOD) + 1, len(GOOD))


def test_an_output_directory_that_cannot_be_written(tmp_path):
    """A file in its place, a closed directory, a directory in a result's place: 2."""
    write(tmp_path / "log.ndjson", GOOD[:10])
    for out in ("log.ndjson", "log.ndjson/out"):
        says(keywatch(tmp_path, "replay", "log.ndjson", "-o", out), USAGE, "cannot write", out)
    (tmp_path / "closed").mkdir(mode=0o500)
    done = keywatch(tmp_path, "replay", "log.ndjson", "-o", "closed", unprivileged=True)
    says(done, USAGE, "closed", "ermission")
    for name in ("rejected.ndjson", "report.html"):
        (tmp_path / f"out-{name}" / name).mkdir(parents=True)
        done = keywatch(tmp_path, "replay", "log.ndjson", "-o", f"out-{name}")
        says(done, USAGE, f"out-{name}", "directory")


KAFKA = '[kafka]\nbootstrap_servers = ["127.0.0.1:1"]\ntopic = "t"\nconnect_timeout_s = 1\n'
KAFKA += "[service]\nhttp_port = 0\n"


@pytest.mark.parametrize(
    ("command", "text", "code", "words"),
    [
        ("run", KAFKA, TEMPORARY, ("no Kafka broker answers", "127.0.0.1:1")),
        ("run", "", CONFIG, ("[kafka]",)),
        ("run", "[kafka]\ntopic = 7\n", CONFIG, ("kafka.",)),
        ("run", KAFKA + '[state]\ndir = "taken"\n', CONFIG, ("taken",)),
        ("replay", "[kafka\n", CONFIG, ("c.toml", "TOML")),
        (
            "replay",
            "[detection]\nfalse_alarms = 1\n",
            CONFIG,
            ("detection.false_alarms", "unknown"),
        ),
        ("replay", '[keys]\nregistry = "keys"\n', CONFIG, ("keys:2", "METHOD")),
        ("replay", '[keys]\nregistry = "none"\n', CONFIG, ("none",)),
        ("replay", '[decode]\npepper = { env = "NO_SUCH" }\n', CONFIG, ("NO_SUCH",)),
    ],
)
def test_bad_configuration(tmp_path, command, text, code, words):
    """78 for what is wrong in it, 75 for a broker that is not there; nothing is left behind."""
    (tmp_path / "c.toml").write_text(text)
    (tmp_path / "taken").touch()
    write(
        tmp_path / "keys", ['{"key": "a", "grants": ["GET /v1"]}', '{"key": "b", "grants": ["x"]}']
    )
    write(tmp_path / "log.ndjson", GOOD[:10])
    args = ("-c", "c.toml") if command == "run" else ("log.ndjson", "-o", "out", "-c", "c.toml")
    says(keywatch(tmp_path, command, *args), code, *words)
    assert not (tmp_path / "out/alerts.ndjson").exists()


def test_labels_that_are_none(tmp_path):
    """2, the file and the reason, before anything is written."""
    write(tmp_path / "log.ndjson", GOOD[:10])
    (tmp_path / "labels").write_bytes(b"\x00\x01")
    done = keywatch(tmp_path, "replay", "log.ndjson", "-o", "out", "--labels", "labels")
    says(done, USAGE, "labels", "JSON")
    assert not (tmp_path / "out").exists()
