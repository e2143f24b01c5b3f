"""``python -m benchmarks.fit``: from logs and worlds to rows of evidence, and to trees."""

from __future__ import annotations

import gzip
import json
import sys
from functools import partial

import numpy as np
import pytest

from benchmarks.fit import __main__ as command
from benchmarks.fit import rows as rows_
from benchmarks.fit.rows import Rows
from models.combination import CHANNELS, N_FEATURES, trees_of
from replay.simulate.world_settings import WorldSettings

KEYS, REQUESTS = 30, 150


def log_of(path, library: int):
    """A day of a library: each key from an address of its own, on a few of its routes."""
    rng = np.random.default_rng(library)
    events = []
    for key in range(KEYS):
        for at_s in np.sort(rng.uniform(0, 86_000, REQUESTS)).tolist():
            hour, minute, second = int(at_s) // 3600, int(at_s) // 60 % 60, at_s % 60
            events.append(
                {
                    "ts": f"2026-03-02T{hour:02}:{minute:02}:{second:06.3f}Z",
                    "key_id": f"u{library}-{key}",
                    "source_ip": f"10.{library}.{key}.1",
                    "user_agent": "sdk/2",
                    "method": "GET",
                    "path": f"/{library}/{'abc'[int(rng.integers(3))]}{key % 7}",
                    "status": 200,
                }
            )
    events.sort(key=lambda e: e["ts"])
    with gzip.open(path, "wt") as file:
        file.writelines(f"{json.dumps(e)}\n" for e in events)
    return path


def events_of(path):
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def fit(*args) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fit", *map(str, args)])
        command.main()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two logs, one set of thefts made of them, and the rows of that set and of a young world."""
    folder = tmp_path_factory.mktemp("fit")
    logs = [log_of(folder / f"{i}.ndjson.gz", i) for i in range(2)]
    fit("splice", *logs, "-o", folder / "spliced", "--sets", 1)
    with pytest.MonkeyPatch.context() as patch:
        small = partial(WorldSettings, keys=60, requests_per_day=30_000, attacks_per_scenario=1)
        patch.setattr(rows_, "WorldSettings", small)
        fit("rows", "-o", folder / "rows", "--young", "3", "--spliced", folder / "spliced")
    return folder


def test_spliced_thefts_keep_every_request(folder):
    """A cross theft adds the donor's requests, another one moves them; from then on, not before."""
    labels = json.loads((folder / "spliced/0.labels.json").read_bytes())
    assert {label["kind"] for label in labels} == {"cross", "same"}
    for own in range(2):
        before = events_of(folder / f"{own}.ndjson.gz")
        after = events_of(folder / f"spliced/0.{own}.ndjson.gz")
        foreign = [e for e in after if e["path"].startswith(f"/{1 - own}/")]
        assert len(after) == len(before) + len(foreign)
        assert foreign, "a cross theft brings what the other library's routes are"
        stolen = {label["key_id"] for label in labels if label["kind"] == "cross"}
        assert {e["key_id"] for e in foreign} <= stolen


def test_rows_are_of_attacks_and_of_clean_units(folder):
    """Units ascend, kinds are told, and each row's sum is what trees may correct."""
    made = {name: Rows.load(folder / f"rows/{name}.npz") for name in ("y3", "s0")}
    for rows in made.values():
        assert (np.diff(rows.unit) >= 0).all()
        assert rows.x.shape == (len(rows.total), N_FEATURES)
        assert (rows.kind == "").any()
        assert (rows.total >= 0.0).all()
    assert set(made["s0"].kind.tolist()) == {"", "cross", "same"}
    assert set(made["y3"].kind.tolist()) >= {"", "A01", "A16"}
    assert made["y3"].weeks == pytest.approx(4 / 7)


def test_trees_are_written_or_judged_on_what_is_held_back(folder, capsys, monkeypatch):
    """Without ``--hold`` a table the detector can read; with it only what trees are worth there."""
    table = folder / "table.json"
    monkeypatch.setattr(command, "TABLE", table)
    fit("trees", folder / "rows", "--trees", 4, "--hold", "s0")
    said = capsys.readouterr().out
    assert "s0 sum" in said
    assert "s0 with trees" in said
    assert not table.exists()
    fit("trees", folder / "rows", "--trees", 4)
    assert trees_of(json.loads(table.read_bytes())).nats.shape == (len(CHANNELS), 4, 8)
