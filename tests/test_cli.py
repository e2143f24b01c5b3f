"""The command line: what it says, its exit codes, and that nothing hostile gets through."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from detector.stores.local import LocalStore
from tests.forked import keywatch
from tests.live import service

ROOT = Path(__file__).parents[1]

ALERT = {
    "alert_id": "0123456789abcdef0123",
    "key": "key\x1b[31m\n<!channel>",
    "owner": None,
    "channel": "stolen",
    "severity": "high",
    "state": "open",
    "opened_at": "2026-09-22T10:00:00Z",
    "first_suspicious_at": "2026-09-22T10:00:00Z",
    "peak_at": "2026-09-22T10:05:00Z",
    "last_seen_at": "2026-09-22T10:05:00Z",
    "closed_at": None,
    "alerted_at": "2026-09-22T10:05:00Z",
    "score": 14.5,
    "threshold": 9.0,
    "combined_nats": 6.5,
    "return_period_days": 30.0,
    "reasons": [
        {
            "signal": "new_network",
            "nats": 8.0,
            "observed": 3,
            "expected": 0.1,
            "text": "new network 198.51.100.0/24",
        }
    ],
    "actor": None,
    "requests_leaked": 42,
    "bytes_leaked": 1000,
    "action": "notify",
    "simulated": True,
    "credential": {},
    "curve": [["2026-09-22T10:00:00Z", 9.5, 10, 100], ["2026-09-22T10:05:00Z", 14.5, 42, 1000]],
}


def test_help_is_quick_and_lists_the_commands():
    """Under a second: numba, pandas and river are not loaded for it."""
    best_s = 9.0
    for _ in range(3):
        began_s = time.monotonic()
        said = service.keywatch("--help")
        best_s = min(best_s, time.monotonic() - began_s)
    assert said.returncode == 0
    for command in ("run", "replay", "demo", "validate", "simulate", "explain", "alerts", "keys"):
        assert f" {command} " in said.stdout
    assert best_s < 1.0


@pytest.mark.parametrize(
    "args",
    [
        ("nonsense",),
        ("run",),
        ("explain", "x"),
        ("replay", "no-such-file.ndjson", "-o", "out"),
        ("alerts", "list"),
        ("demo", "--seed", "minus"),
    ],
)
def test_usage_mistakes_exit_with_2(args, tmp_path):
    """A wrong command line is 2 and says what is wrong, without a traceback."""
    said = keywatch(*args, cwd=tmp_path)
    assert said.returncode == 2
    assert said.stderr.strip()
    assert "Traceback" not in said.stderr


def test_an_unknown_error_shows_no_traceback(monkeypatch, capsys):
    """A bug is one sentence and 70; the traceback, which may show log content, is opt-in."""
    from detector import cli
    from detector.cli import app as module

    def broken(**_: object) -> None:
        raise RuntimeError("secret in the message")

    monkeypatch.setattr(module, "app", broken)
    monkeypatch.delenv("KEYWATCH_DEBUG", raising=False)
    with pytest.raises(SystemExit) as e:
        cli.main()
    assert e.value.code == 70
    said = capsys.readouterr().err
    assert "RuntimeError" in said
    assert "secret" not in said
    monkeypatch.setenv("KEYWATCH_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli.main()


def test_config_init_is_valid_and_never_overwrites(tmp_path):
    """The example passes ``validate``; a second init refuses."""
    assert keywatch("config", "init", "-o", "keywatch.toml", cwd=tmp_path).returncode == 0
    before = (tmp_path / "keywatch.toml").read_text()
    said = keywatch("validate", "-c", "keywatch.toml", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "is good" in said.stdout
    again = keywatch("config", "init", "-o", "keywatch.toml", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert (tmp_path / "keywatch.toml").read_text() == before


def test_the_example_says_the_defaults():
    """Every value in the example is the default, and deploy/ has the same file."""
    from detector.config import Config, load

    path = ROOT / "detector/cli/keywatch.toml"
    example = load(path).model_dump()
    kafka = example.pop("kafka")
    defaults = Config().model_dump()
    defaults.pop("kafka")
    assert example == defaults
    assert (
        kafka
        == type(load(path).kafka)(
            bootstrap_servers=["localhost:9092"], topic="api-access"
        ).model_dump()
    )
    assert (ROOT / "deploy/keywatch.toml").read_text() == path.read_text()


def test_the_example_names_every_setting():
    """No option of a section is missing from the example, commented out or not."""
    from detector.config import Config

    text = (ROOT / "detector/cli/keywatch.toml").read_text()
    schema = Config.model_json_schema()
    for section in ("Kafka", "Decode", "Keys", "Detection", "State", "Sinks", "Service"):
        for name in schema["$defs"][f"{section}Section"]["properties"]:
            assert name in text, f"{section}.{name}"


def test_config_show_and_schema(tmp_path):
    """All defaults as JSON, secrets only by reference; a JSON Schema of the file."""
    (tmp_path / "c.toml").write_text('[decode]\npepper = { env = "PEPPER" }\n')
    shown = json.loads(keywatch("config", "show", "-c", "c.toml", cwd=tmp_path).stdout)
    assert shown["decode"]["pepper"] == {"env": "PEPPER", "file": None}
    assert shown["detection"]["false_alerts_per_week"] == 5
    assert json.loads(keywatch("config", "schema").stdout)["title"] == "Config"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[nonsense]\n", ("nonsense", "unknown key")),
        ('[keys]\nregistry = "no-such-file"\n', ("no-such-file",)),
        ('[network]\nasn_database = "no-such.mmdb"\n', ("network.asn_database", "no-such.mmdb")),
        ('[network]\ncity_database = "c.toml"\n', ("network.city_database", "c.toml")),
        ("[detection.weights.stolen]\nnew_netwrok = 1.0\n", ("stolen.new_netwrok",)),
        ("[detection.weights.abused]\nvolume = -1.0\n", ("abused.volume", "0 to 100")),
        ("[detection]\nthrottles_per_week = 0\n", ("throttles_per_week",)),
        ('[sinks.slack]\nwebhook_url = { env = "NO_SUCH_VARIABLE" }\n', ("NO_SUCH_VARIABLE",)),
        ('[decode]\npepper = { file = "no-such-pepper" }\n', ("no-such-pepper",)),
        ('[kafka]\nbootstrap_servers = ["k.example:9092"]\ntopic = "t"\n', ("security_protocol",)),
    ],
)
def test_validate_finds_what_run_would(tmp_path, text, words):
    """78 and one sentence that names the entry, before anything is started."""
    (tmp_path / "c.toml").write_text(text)
    said = keywatch("validate", "-c", "c.toml", cwd=tmp_path)
    assert said.returncode == 78, said.stderr
    assert said.stderr.count("\n") == 1
    for word in words:
        assert word in said.stderr


def test_missing_configuration_file():
    """78, the path and the reason."""
    said = keywatch("validate", "-c", "/no/such.toml")
    assert said.returncode == 78
    assert said.stderr == (
        "keywatch: cannot read configuration /no/such.toml: No such file or directory\n"
    )


def test_fingerprint(tmp_path):
    """The raw key comes on stdin and never appears in the output."""
    (tmp_path / "pepper").write_text("pepper\n")
    (tmp_path / "c.toml").write_text('[decode]\npepper = { file = "pepper" }\n')
    said = keywatch("keys", "fingerprint", "-c", "c.toml", cwd=tmp_path, stdin="ak_live_example\n")
    assert said.stdout == "fp_ca68775f5262e5b1\n"
    assert "ak_live" not in said.stdout + said.stderr
    nothing = keywatch("keys", "fingerprint", "-c", "c.toml", cwd=tmp_path, stdin="\n")
    assert nothing.returncode == 2


@pytest.fixture
def results(tmp_path):
    """One alert, in a replay's directory and in a service's state directory."""
    (tmp_path / "out").mkdir()
    line = json.dumps(ALERT)
    (tmp_path / "out/alerts.ndjson").write_text(line + "\n")
    (tmp_path / "out/episodes.ndjson").write_text(line + "\n")
    with LocalStore(tmp_path / "state") as store:
        store.put_if_absent(f"alert/{ALERT['alert_id']}", line.encode())
        closed = {**ALERT, "state": "closed", "closed_at": "2026-09-23T10:05:00Z"}
        store.put_if_absent(f"episode/{ALERT['alert_id']}", json.dumps(closed).encode())
    (tmp_path / "c.toml").write_text('[state]\ndir = "state"\n')
    return tmp_path


@pytest.mark.parametrize("place", [("--from", "out"), ("-c", "c.toml")])
def test_alerts_and_explain(results, place):
    """Both read a replay and a service; log-derived text cannot steer the terminal."""
    listed = keywatch("alerts", "list", *place, cwd=results)
    explained = keywatch("explain", str(ALERT["alert_id"]), *place, cwd=results)
    for said in (listed, explained):
        assert said.returncode == 0, said.stderr
        assert "\x1b[31m" not in said.stdout
        assert "key\\x1b[31m" in said.stdout
    assert "new network 198.51.100.0/24" in explained.stdout
    assert "what these signs mean together" in explained.stdout
    as_json = json.loads(keywatch("alerts", "list", *place, "--output", "json", cwd=results).stdout)
    assert [a["key"] for a in as_json] == [ALERT["key"]]
    assert as_json[0]["state"] == ("closed" if place[0] == "-c" else "open")
    again = keywatch("explain", str(ALERT["alert_id"]), *place, "--output", "json", cwd=results)
    assert json.loads(again.stdout)["score"] == 14.5


@pytest.mark.parametrize("wanted", ["ffff", "../../etc/passwd", ""])
def test_explain_of_an_unknown_alert(results, wanted):
    """2 and a sentence; an id is never a path."""
    for place in (("--from", "out"), ("-c", "c.toml")):
        said = keywatch("explain", wanted, *place, cwd=results)
        assert said.returncode == 2
        assert "no alert" in said.stderr


def test_a_running_service_can_be_looked_at(results):
    """Listing takes no lock: the state directory may be in use."""
    with LocalStore(results / "state"):
        said = keywatch("alerts", "list", "-c", "c.toml", "--output", "json", cwd=results)
    assert len(json.loads(said.stdout)) == 1


def test_verify_without_state(tmp_path):
    """A directory that is not there is 78; an empty one has no snapshot set."""
    (tmp_path / "c.toml").write_text('[state]\ndir = "state"\n')
    said = keywatch("checkpoint", "verify", "-c", "c.toml", cwd=tmp_path)
    assert said.returncode == 78
    assert "no state directory" in said.stderr
    (tmp_path / "state").mkdir()
    said = keywatch("checkpoint", "verify", "-c", "c.toml", "--output", "json", cwd=tmp_path)
    assert json.loads(said.stdout)["partitions"] == {}


def test_verify_tells_damage(tmp_path):
    """A damaged newest set is named and ends with 70, after the good one is shown."""
    from detector.checkpointer import Barrier, Checkpointer
    from detector.core.settings import ShardSettings
    from detector.core.shard import Shard

    (tmp_path / "c.toml").write_text('[state]\ndir = "state"\n')
    state = Shard(ShardSettings()).to_state()
    with LocalStore(tmp_path / "state") as store:
        writer = Checkpointer(store, 3)
        writer.restore()
        writer.write(Barrier({0: (5, state)}, b"f", 0))
        writer.write(Barrier({0: (9, state)}, b"f", 0))
        newest = store.list("snapshot/p00000/")[-1]
    path = tmp_path / "state" / f"{newest},v"
    path.write_bytes(path.read_bytes()[:-1])
    said = keywatch("checkpoint", "verify", "-c", "c.toml", "--output", "json", cwd=tmp_path)
    assert said.returncode == 70
    assert json.loads(said.stdout)["partitions"]["0"]["next_offset"] == 5
    assert "damaged" in said.stderr


def test_simulate_then_replay(tmp_path):
    """A simulated log with its labels goes through replay; the same seed gives the same bytes."""
    args = (
        *("--keys", "40", "--days", "3", "--quiet-days", "1"),
        *("--requests-per-day", "3000", "--attacks", "A16"),
    )
    for name in ("a", "b"):
        said = keywatch(
            "simulate",
            *("-o", f"{name}.ndjson.gz", "--seed", "3", *args),
            *("--labels", f"{name}.labels", "--registry", f"{name}.keys"),
            cwd=tmp_path,
        )
        assert said.returncode == 0, said.stderr
    for kind in ("ndjson.gz", "labels", "keys"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    said = keywatch(*("replay", "a.ndjson.gz", "-o", "out", "--labels", "a.labels"), cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["lines"] == summary["accepted"] + summary["no_key"]
    assert 30 < summary["keys"] <= 40  # a sparse key may be silent for three days
    assert f"{summary['lines']:,} lines, {summary['keys']} keys" in said.stdout
    for name in ("alerts.ndjson", "episodes.ndjson", "report.html"):
        assert (tmp_path / "out" / name).is_file()


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("simulate", "-o", "x.ndjson", "--attacks", "magic"), "magic"),
        (("simulate", "-o", "x.ndjson", "--keys", "0"), "30 to"),
        (("simulate", "-o", "no/such/folder/x.ndjson"), "cannot write"),
        (("replay", __file__, "-o", "out", "--format", "xml"), "xml"),
    ],
)
def test_offline_mistakes(tmp_path, args, word):
    """2 and one sentence that names what is wrong."""
    said = keywatch(*args, cwd=tmp_path)
    assert said.returncode == 2, said.stderr
    assert word in said.stderr
    assert "Traceback" not in said.stderr
