"""``keywatch tune fit`` from log files to a TOML fragment."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from detector.cli.app import app
from detector.config import Config
from detector.core.errors import UsageError
from detector.core.settings import ShardSettings
from models.fusion import CAPS, WEIGHTS
from models.weights import weights_from_config
from replay.simulate import write_ndjson
from replay.simulate.world import World, WorldSettings
from replay.tune.judge import RATES
from replay.tune.run import Report, fit_log, fit_logs, toml_of
from tests.tune.helpers import SETTINGS, fleet, log_of, row


@pytest.fixture(scope="module")
def report() -> Report:
    even = tuple(2.7 / cap for cap in CAPS)
    channels = {c: replace(getattr(SETTINGS, c), weights=even) for c in ("stolen", "abused")}
    return fit_log(fleet(keys=250, days=10), replace(SETTINGS, **channels), seed=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    settings = WorldSettings(
        seed=3, keys=40, days=6, quiet_days=5, requests_per_day=40_000, attacks_per_scenario=0
    )
    path = tmp_path_factory.mktemp("log") / "log.ndjson.gz"
    write_ndjson(path, World(settings).lines())
    return path


def run(*args):
    return CliRunner().invoke(app, ["tune", "fit", *map(str, args)])


def test_a_fleets_own_log_makes_thefts_easier_to_find(report):
    """Than weights that treat all signals alike: more are found, held out, at equal alerts."""
    stolen = report.judgements[0]
    assert stolen.reason == ""
    (found,) = [f for f in stolen.found if f.kind == "elsewhere"]
    assert np.mean(found.after) > np.mean(found.before)


def test_the_fragment_is_what_the_configuration_reads(report):
    """All families of each channel that improved, and no other channel."""
    section = tomllib.loads(toml_of(report))["detection"]["weights"]
    assert set(section) == {j.channel for j in report.improved}
    weights = weights_from_config(section)
    for channel, judged in enumerate(report.judgements):
        assert weights[channel] == (WEIGHTS[channel] if judged.reason else judged.weights)


def test_budgets_are_told_for_the_whole_fleet(report):
    """So many false alerts in 1,000 key-days are so many a week: key-days a week times the rate."""
    log = fleet(keys=250, days=10)
    weeks = 0.6 * report.days / 7
    assert report.per_week == pytest.approx(report.key_days / weeks)
    assert report.key_days <= 0.8 * log.n_keys * report.days
    assert report.alerts_per_week()[0] == pytest.approx(RATES[0] * report.per_week / 1000)


def test_a_log_of_few_keys_is_refused():
    """Ten keys cannot show how keys differ."""
    log = log_of([row(i / 4, f"k{k}") for i in range(60) for k in range(10)])
    with pytest.raises(UsageError, match="10 keys"):
        fit_log(log, ShardSettings())


def test_a_log_without_room_for_thefts_is_refused():
    """Keys that were hardly used can be neither victims nor thieves."""
    log = log_of([row(i, f"k{k}") for i in range(4) for k in range(30)])
    with pytest.raises(UsageError, match="only 0 thefts"):
        fit_log(log, ShardSettings())


def test_files_give_the_same_weights_every_time(path):
    """The same log and seed, the same report; told what is being done on the way."""
    said = []
    one = fit_logs([path], Config(), ShardSettings(), say=said.append)
    two = fit_logs([path], Config(), ShardSettings())
    assert one == two
    assert any("attacks made of them" in sentence for sentence in said)


def test_the_command_writes_json_and_a_fragment(path, tmp_path):
    """JSON on stdout is whole; a file is written only when something improved."""
    out = tmp_path / "weights.toml"
    done = run(path, "--output", "json", "-o", out)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    improved = {c for c, r in record["channels"].items() if r["improved"]}
    assert set(record["channels"]) == {"stolen", "abused", "throttle"}
    assert out.exists() == bool(improved)
    if improved:
        assert set(tomllib.loads(out.read_text())["detection"]["weights"]) == improved


def test_the_command_shows_tables(path):
    """What is found before and after, the verdicts, and the weights."""
    done = run(path)
    assert done.exit_code == 0, done.output
    for word in ("probing", "verdict", "new_network", "a week"):
        assert word in done.stdout


def test_an_existing_file_is_never_overwritten(path, tmp_path):
    """It is said before minutes of work, not after."""
    out = tmp_path / "weights.toml"
    out.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        CliRunner().invoke(app, ["tune", "fit", str(path), "-o", str(out)], catch_exceptions=False)
    assert out.read_text() == "mine"


def test_an_unknown_format_is_refused(path):
    """With the formats there are."""
    done = run(path, "--format", "xml")
    assert isinstance(done.exception, UsageError)
    assert "canonical" in str(done.exception)
