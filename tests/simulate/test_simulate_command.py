"""``keywatch simulate``: the same bytes for the same options, and one sentence for a mistake."""

from __future__ import annotations

import gzip
import json

import pytest
from typer.testing import CliRunner

from detector.cli.app import app
from detector.core.errors import UsageError

SIZE = ("--keys", "40", "--days", "3", "--quiet-days", "1", "--requests-per-day", "3000")


def _simulate(*args: str) -> str:
    done = CliRunner().invoke(app, ["simulate", *args], catch_exceptions=False)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_writes_log_labels_and_registry(tmp_path):
    """Equal options give equal files; the log is canonical, labels and registry are its own."""
    for name in ("a", "b"):
        said = _simulate(
            *("-o", f"{tmp_path}/{name}.ndjson.gz", "--seed", "3", *SIZE),
            *("--attacks", "A01,A13", "--labels", f"{tmp_path}/{name}.labels"),
            *("--registry", f"{tmp_path}/{name}.keys", "--benign", "none"),
        )
    for kind in ("ndjson.gz", "labels", "keys"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    lines = gzip.decompress((tmp_path / "a.ndjson.gz").read_bytes()).splitlines()
    assert f"{len(lines):,} events of 40 keys, 2 attacks" in said
    assert 5000 < len(lines) < 15_000
    labels = [json.loads(line) for line in (tmp_path / "a.labels").read_text().splitlines()]
    assert {label["kind"] for label in labels} == {"A01", "A13"}
    keys = {json.loads(line)["key"] for line in (tmp_path / "a.keys").read_text().splitlines()}
    assert {json.loads(line)["key_id"] for line in lines} <= keys


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("-o", "{}/x.ndjson", "--attacks", "magic"), "magic"),
        (("-o", "{}/x.ndjson", "--benign", "B99"), "B99"),
        (("-o", "{}/x.ndjson", "--keys", "0"), "30 to 20,000"),
        (("-o", "{}/no/such/folder/x.ndjson", *SIZE, "--attacks", "none"), "cannot write"),
        (("-o", "{}/there.ndjson", *SIZE, "--attacks", "none"), "--force"),
    ],
)
def test_mistakes_are_told_in_one_sentence(tmp_path, args, word):
    """What cannot be done is a usage error that names the reason, and leaves files alone."""
    there = tmp_path / "there.ndjson"
    there.write_text("mine")
    with pytest.raises(UsageError) as refused:
        _simulate(*(arg.format(tmp_path) for arg in args))
    assert word in str(refused.value)
    assert "\n" not in str(refused.value)
    assert there.read_text() == "mine"
