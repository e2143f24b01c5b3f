"""A replay: its files, its counts, and that nothing but the log decides what is in them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from jsonschema import Draft202012Validator

from detector.config import Config
from replay.labels import write_labels
from replay.run import replay_files
from replay.simulate import AttackPlan, Fleet, FleetSettings

ROOT = Path(__file__).resolve().parents[2]
FILES = ("alerts.ndjson", "episodes.ndjson", "summary.json", "report.html")
LINE = {"ts": "2026-03-02T10:00:00Z", "key_id": "k", "method": "GET", "status": 200}
RAW = "sk_live_9f27c1d4e8"


@dataclass(frozen=True)
class Sample:
    """A simulated log with three attacks in it, its labels, and what a replay made of it."""

    lines: list[bytes]
    labels: Path
    out: Path
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Sample:
    folder = tmp_path_factory.mktemp("sample")
    attacks = tuple(AttackPlan(kind) for kind in ("stolen_key", "scraper", "prober"))
    settings = FleetSettings(12, hours=5 * 24, events_per_day=2500, happenings=0.5, attacks=attacks)
    fleet = Fleet(settings, seed=22)
    lines = [line for chunk in fleet.chunks() for line in chunk.lines()]
    write_labels(folder / "labels.ndjson", fleet.labels)
    path = write(folder / "log.ndjson", lines)
    summary = replay_files([path], folder / "out", Config(), labels=folder / "labels.ndjson")
    return Sample(lines, folder / "labels.ndjson", folder / "out", summary)


def write(path: Path, lines: list[bytes]) -> Path:
    data = b"".join(line.rstrip(b"\n") + b"\n" for line in lines)
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def results(out: Path) -> tuple[bytes, bytes]:
    return (out / "alerts.ndjson").read_bytes(), (out / "episodes.ndjson").read_bytes()


def config(**sections: dict[str, Any]) -> Config:
    return Config.model_validate(sections)


def invalid(name: str, found: list[dict[str, Any]]) -> list[str]:
    """What is wrong with records by the published schema."""
    schema = json.loads((ROOT / "docs/schema" / f"{name}.schema.json").read_text())
    validator = Draft202012Validator(schema)
    return [f"{e.json_path}: {e.message[:200]}" for r in found for e in validator.iter_errors(r)]


def events(*changes: dict[str, Any]) -> list[bytes]:
    return [json.dumps({**LINE, **change}).encode() for change in changes]


def test_the_sample_is_worth_comparing(sample):
    """Both channels alert and some episodes do not, or equality below would mean little."""
    assert min(sample.summary["alerts"].values()) > 0
    assert sample.summary["episodes"] > sum(sample.summary["alerts"].values())


def test_the_four_files_agree_and_keep_to_the_schemas(sample):
    """alerts, episodes, summary and report are written; every record is valid as published."""
    assert {p.name for p in sample.out.iterdir()} >= set(FILES)
    alerts, episodes = (records(sample.out / name) for name in FILES[:2])
    summary = json.loads((sample.out / "summary.json").read_bytes())
    assert invalid("alert", alerts) == []
    assert invalid("episode", episodes) == []
    assert invalid("summary", [summary]) == []
    assert summary == json.loads(json.dumps(sample.summary))
    assert len(episodes) == summary["episodes"]
    assert Counter(a["channel"] for a in alerts) == summary["alerts"]
    alerted = {e["alert_id"]: e["alerted_at"] for e in episodes if e["alerted_at"]}
    assert alerted == {a["alert_id"]: a["alerted_at"] for a in alerts}


def test_an_alert_says_what_was_known_then(sample):
    """Nothing in an alert lies after it; its episode never scores lower afterwards."""
    episodes = {e["alert_id"]: e for e in records(sample.out / "episodes.ndjson")}
    for alert in records(sample.out / "alerts.ndjson"):
        assert alert["score"] >= alert["threshold"]
        times = [alert[name] for name in ("opened_at", "peak_at", "first_suspicious_at")]
        times += [point[0] for point in alert["curve"]]
        assert all(parsed(t) <= parsed(alert["alerted_at"]) for t in times)
        assert episodes[alert["alert_id"]]["score"] >= alert["score"]
        assert episodes[alert["alert_id"]]["requests_leaked"] >= alert["requests_leaked"]


def parsed(text: str) -> datetime:
    return datetime.fromisoformat(text)


def served(sample: Sample, label: dict[str, Any]) -> bool:
    """Whether a request of the attacked key was answered while it was suspected, or attacked."""
    alerts = records(sample.out / "alerts.ndjson")
    (alert,) = (a for a in alerts if a["key"] == label["key"])
    since = min(parsed(label["start"]), parsed(alert["first_suspicious_at"]))
    events = [json.loads(line) for line in sample.lines]
    mine = [e for e in events if e["key_id"] == label["key"] and e["status"] < 400]
    return any(since <= parsed(e["ts"]) <= parsed(alert["alerted_at"]) for e in mine)


def test_labels_give_the_evaluation(sample):
    """All three attacks are caught, without a false alert."""
    found = sample.summary["evaluation"]
    assert (found["attacks"], found["caught"], found["false_alerts"]) == (3, 3, 0)
    sizes = [label["requests"] for label in records(sample.labels)]
    leaked = found["requests_leaked"]
    assert all(n <= size for n, size in zip(leaked, sizes, strict=True))
    assert [n > 0 for n in leaked] == [served(sample, label) for label in records(sample.labels)]
    assert sum(found["ranking"]["victims"].values()) == 3


@pytest.mark.parametrize("shards", [4, 12])
def test_shards_do_not_matter(sample, tmp_path, shards):
    """1, 4 and 12 shards: the same alerts and episodes byte for byte, the same state digest."""
    path = write(tmp_path / "log.ndjson", sample.lines)
    summary = replay_files([path], tmp_path / "out", Config(), shards=shards)
    assert results(tmp_path / "out") == results(sample.out)
    assert summary["state_digest"] == sample.summary["state_digest"]


@pytest.mark.parametrize("how", ["one after the other", "interleaved", "in one another"])
def test_files_do_not_matter(sample, tmp_path, how):
    """A log cut into three files, in time or across it, is the same log, in any order given."""
    n, lines = len(sample.lines), sample.lines
    parts = {
        "one after the other": [lines[: n // 5], lines[n // 5 : n // 2], lines[n // 2 :]],
        "interleaved": [lines[i::3] for i in range(3)],
        "in one another": [lines[n // 3 : n // 2], lines[: n // 3] + lines[n // 2 :], []],
    }[how]
    paths = [write(tmp_path / f"{i}.ndjson", part) for i, part in enumerate(parts)]
    summary = replay_files(paths[::-1], tmp_path / "out", Config())
    assert results(tmp_path / "out") == results(sample.out)
    assert summary["state_digest"] == sample.summary["state_digest"]
    assert summary["lines"] == n


@pytest.mark.parametrize("form", ["gz", "zst", "parquet"])
def test_the_form_does_not_matter(sample, tmp_path, form):
    """gzip, Zstandard and Parquet give what the plain file gives."""
    path = tmp_path / f"log.{form}" if form == "parquet" else tmp_path / f"log.ndjson.{form}"
    if form == "parquet":
        rows = [json.loads(line) for line in sample.lines]
        for row in rows:
            row["ts"] = parsed(row["ts"])
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        write(path, sample.lines)
    summary = replay_files([path], tmp_path / "out", Config())
    assert results(tmp_path / "out") == results(sample.out)
    assert summary["accepted"] == sample.summary["accepted"]


def test_the_hash_seed_of_the_process_does_not_matter(sample, tmp_path):
    """Two processes with different PYTHONHASHSEED write the same bytes."""
    write(tmp_path / "log.ndjson", sample.lines)
    for seed in ("1", "271828"):
        done = subprocess.run(
            [sys.executable, "-m", "detector", "replay", "log.ndjson", "-o", f"out{seed}"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert results(tmp_path / f"out{seed}") == results(sample.out)
    one, other = (json.loads((tmp_path / f"out{s}/summary.json").read_text()) for s in (1, 271828))
    assert {**one, "events_per_s": 0} == {**other, "events_per_s": 0}


def test_progress_changes_nothing(sample, tmp_path, capfd):
    """With the bar on, it shows on stderr and the results are the same; off is silent."""
    path = write(tmp_path / "log.ndjson", sample.lines[:4000])
    for on in (False, True):
        replay_files([path], tmp_path / f"out{on}", Config(), progress=on)
        said = capfd.readouterr()
        assert said.out == ""
        assert ("replay" in said.err) is on
    assert results(tmp_path / "outTrue") == results(tmp_path / "outFalse")


@pytest.mark.parametrize("per_week", [0.2, 1.5, 5.0, 1000.0])
def test_never_more_alerts_than_the_budget_allows(sample, tmp_path, per_week):
    """At most max(1, ceil(1.2 N d / 7)) in d days; the rest is held back, and said to be."""
    path = write(tmp_path / "log.ndjson", sample.lines)
    settings = config(detection={"false_alerts_per_week": per_week})
    summary = replay_files([path], tmp_path / "out", settings)
    alerts = records(tmp_path / "out/alerts.ndjson")
    assert 1 <= len(alerts) <= max(1, ceil(1.2 * per_week * summary["span_days"] / 7))
    if per_week == 0.2:
        assert summary["held_back"] > 0
        assert "held back" in " ".join(summary["notes"])
    if per_week == 1000.0:
        assert len(alerts) == sum(sample.summary["alerts"].values())
        assert summary["held_back"] == 0


def test_lines_are_accepted_or_without_key_or_rejected(tmp_path):
    """Every line is counted once, by reason; a message of several events counts each."""
    good = events({}, {"ts": 1772445601}, {"key_id": None}, {"key_id": "-"}, {"key_id": ""})
    several = b"[" + b",".join(events({}, {"key_id": None})) + b"]"
    bad = [
        b"\xff\xfe\x00",
        b"not JSON",
        b"",
        b"[]",
        b"7",
        b'{"key_id": "k"}',
        b'{"ts": true}',
        b'{"ts": "yesterday"}',
        b'{"ts": "1970-01-01T00:00:00Z"}',
        b'{"ts": "2026-03-02T10:00:00Z", "status": "many"}',
        b'{"ts": "2026-03-02T10:00:00Z", "x": "' + b"y" * (1 << 20) + b'"}',
    ]
    path = write(tmp_path / "log.ndjson", [*good, several, *bad])
    summary = replay_files([path], tmp_path / "out", Config())
    rejected = records(tmp_path / "out/rejected.ndjson")
    empty_array = 1
    assert (summary["accepted"], summary["no_key"]) == (3, 4)
    assert summary["lines"] == summary["accepted"] + summary["no_key"] + len(rejected)
    assert summary["lines"] == len(good) + 2 + len(bad) - empty_array
    assert summary["messages"] == len(good) + 1 + len(bad)
    assert Counter(r["reason"] for r in rejected) == summary["rejected"]
    assert summary["rejected"] == {
        "bad_ts": 1,
        "missing_ts": 1,
        "not_json": 2,
        "not_utf8": 1,
        "out_of_range": 1,
        "too_large": 1,
        "wrong_type": 3,
    }
    assert [r["offset"] for r in rejected] == [6, 7, 8, 10, 11, 12, 13, 14, 15, 16]


def with_raw_keys(lines: list[bytes]) -> list[bytes]:
    """The same log as a gateway writes it that logs the secret itself."""
    out = []
    for line in lines:
        event = json.loads(line)
        event["api_key"] = f"{RAW}{event.pop('key_id') or 'nobody'}"
        out.append(json.dumps(event).encode())
    return out


def test_raw_keys_die_at_the_decoder(sample, tmp_path):
    """No raw key in any file, a pepper for the owner's eyes only, stable fingerprints."""
    broken = [f'{{"ts": 1, "api_key": "{RAW}broken"'.encode(), f"{RAW} torn".encode()]
    path = write(tmp_path / "log.ndjson", with_raw_keys(sample.lines) + broken)
    out, state = tmp_path / "out", tmp_path / "state"
    summary = replay_files([path], out, Config(), state=state)
    assert sum(summary["rejected"].values()) == len(broken)
    written = [p for folder in (out, state) for p in folder.rglob("*") if p.is_file()]
    assert {p.name for p in written} >= {*FILES, "pepper", "rejected.ndjson"}
    assert len([p for p in written if state in p.parents]) >= 1
    pepper = (out / "pepper").read_bytes()
    for file in written:
        data = file.read_bytes()
        assert RAW.encode() not in data, file
        assert file.name == "pepper" or (pepper not in data and pepper.hex().encode() not in data)
    assert (out / "pepper").stat().st_mode & 0o777 == 0o600
    assert "raw API keys" in " ".join(summary["notes"])
    alerts = records(out / "alerts.ndjson")
    assert len(alerts) == sum(sample.summary["alerts"].values())
    assert all(alert["key"].startswith("fp_") for alert in alerts)

    before = results(out)
    replay_files([path], out, Config())
    assert results(out) == before
    replay_files([path], tmp_path / "elsewhere", Config())
    others = {a["key"] for a in records(tmp_path / "elsewhere/alerts.ndjson")}
    assert others.isdisjoint(a["key"] for a in alerts)


def test_no_pepper_is_made_without_raw_keys(sample):
    """Non-secret key ids need none, and a configured pepper is used as it is."""
    assert not (sample.out / "pepper").exists()


def test_a_key_id_that_looks_like_a_fingerprint_is_no_raw_key(tmp_path):
    """The decoder knows what it fingerprinted; the form of a name says nothing."""
    path = write(tmp_path / "log.ndjson", events({"key_id": "fp_0123456789abcdef", "path": "/x"}))
    summary = replay_files([path], tmp_path / "out", Config())
    assert summary["keys"] == 1
    assert not (tmp_path / "out/pepper").exists()
    assert "raw API keys" not in " ".join(summary["notes"])


def test_a_configured_pepper_gives_the_services_fingerprints(tmp_path):
    """The name of a key in a replay is what ``keys fingerprint`` and the service say."""
    from detector.decode.key_names import fingerprint

    (tmp_path / "secret").write_text("pepper\n")
    grants = json.dumps({"key": fingerprint(RAW.encode(), b"pepper"), "grants": []})
    (tmp_path / "keys.ndjson").write_text(grants + "\n")
    path = write(tmp_path / "log.ndjson", events({"key_id": None, "api_key": RAW, "path": "/x"}))
    settings = config(
        decode={"pepper": {"file": str(tmp_path / "secret")}},
        keys={"registry": str(tmp_path / "keys.ndjson")},
    )
    replay_files([path], tmp_path / "out", settings)
    (alert,) = records(tmp_path / "out/alerts.ndjson")
    assert alert["key"] == fingerprint(RAW.encode(), b"pepper")
    assert not (tmp_path / "out/pepper").exists()


def test_success_outside_the_grants_is_a_hard_fact(tmp_path):
    """One per key and day however often; refusals and keys without grants are none."""
    registry = [
        {"key": "k", "owner": "billing team", "grants": ["GET /v1/orders/*", "* /v1/me"]},
        {"key": "free"},
    ]
    (tmp_path / "keys.ndjson").write_text("".join(json.dumps(r) + "\n" for r in registry))
    calls = []
    for day in (2, 3, 5):
        at = f"2026-03-{day:02}T"
        calls += [{"ts": f"{at}08:00:{i:02}Z", "path": f"/v1/orders/{i}"} for i in range(20)]
        calls += [{"ts": f"{at}09:00:{i:02}Z", "path": "/v1/me"} for i in range(5)]
        status = 403 if day == 3 else 200
        outside = {"path": "/v1/admin/users", "status": status}
        calls += [{"ts": f"{at}10:00:{i:02}Z", **outside} for i in range(30)]
        calls += [{"ts": f"{at}11:00:{i:02}Z", **outside, "key_id": "free"} for i in range(9)]
    path = write(tmp_path / "log.ndjson", events(*calls))
    settings = config(
        keys={"registry": str(tmp_path / "keys.ndjson")}, detection={"false_alerts_per_week": 0.1}
    )
    summary = replay_files([path], tmp_path / "out", settings, shards=4)
    hard = [a for a in records(tmp_path / "out/alerts.ndjson") if is_hard(a)]
    assert [(a["key"], a["alerted_at"]) for a in hard] == [
        ("k", "2026-03-02T10:00:00Z"),
        ("k", "2026-03-05T10:00:00Z"),
    ]
    assert summary["hard_alerts"] == 2
    for alert in hard:
        assert alert["owner"] == "billing team"
        assert "GET /v1/admin/users" in alert["reasons"][0]["text"]
    assert invalid("alert", hard) == []
    found = [e for e in records(tmp_path / "out/episodes.ndjson") if is_hard(e)]
    assert [e["alert_id"] for e in found] == [a["alert_id"] for a in hard]


def is_hard(record: dict[str, Any]) -> bool:
    return any(r["signal"] == "out_of_grant" for r in record["reasons"])


def as_combined(line: bytes) -> bytes:
    event = json.loads(line)
    at = parsed(event["ts"]).strftime("%d/%b/%Y:%H:%M:%S +0000")
    request = f"{event['method']} {event['path']} HTTP/1.1"
    text = (
        f"{event['source_ip']} - {event['key_id'] or '-'} [{at}] "
        f'"{request}" {event["status"]} {event["bytes"]} "-" "{event["user_agent"]}"'
    )
    return text.encode()


@pytest.mark.parametrize("input_format", ["auto", "combined"])
def test_combined_lines(sample, tmp_path, input_format):
    """nginx's combined lines of the same traffic: the same keys, counts and culprits."""
    lines = [as_combined(line) for line in sample.lines]
    path = write(tmp_path / "access.log", [*lines, b"- - nonsense"])
    summary = replay_files([path], tmp_path / "out", Config(), input_format=input_format)
    for name in ("accepted", "no_key", "keys"):
        assert summary[name] == sample.summary[name]
    assert summary["rejected"] == {"bad_line": 1}
    alerts = records(tmp_path / "out/alerts.ndjson")
    culprits = {(a["key"], a["channel"]) for a in records(sample.out / "alerts.ndjson")}
    assert {(a["key"], a["channel"]) for a in alerts} == culprits


def test_a_saved_state_is_the_state(sample, tmp_path):
    """``state`` keeps every shard: loaded again, they have the digest of the summary."""
    from detector.core.settings import ShardSettings
    from detector.core.shard import Shard, state_digest
    from detector.stores.local import LocalStore
    from detector.stores.snapshots import unpack

    path = write(tmp_path / "log.ndjson", sample.lines)
    out, state = tmp_path / "out", tmp_path / "state"
    summary = replay_files([path], out, Config(), shards=3, state=state)
    with LocalStore(state) as store:
        keys = store.list("snapshot/")
        bodies = [unpack(store.get(k) or b"", k.split("/")[1])[1] for k in keys]
    shards = [Shard.from_state(body, ShardSettings()) for body in bodies]
    assert len(shards) == 3
    assert sum(s.n_events for s in shards) == summary["lines"]
    assert state_digest(shards) == summary["state_digest"]


def test_a_second_replay_leaves_nothing_of_the_first(sample, tmp_path):
    """An output directory may be used again: results and rejected lines are replaced."""
    first = write(tmp_path / "first.ndjson", [*sample.lines, b"torn"])
    second = write(tmp_path / "second.ndjson", sample.lines[:100])
    replay_files([first], tmp_path / "out", Config())
    assert records(tmp_path / "out/rejected.ndjson") != []
    replay_files([second], tmp_path / "out", Config())
    left = tmp_path / "out/rejected.ndjson"
    assert not left.exists() or left.read_bytes() == b""
    replay_files([second], tmp_path / "fresh", Config())
    assert results(tmp_path / "out") == results(tmp_path / "fresh")
