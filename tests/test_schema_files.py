"""The published JSON Schemas say exactly what the contract's records are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from detector.core.episodes import (
    ACTIONS,
    CHANNELS,
    CURVE_POINTS_MAX,
    NORMAL_MAX,
    SEVERITIES,
    SIGNALS,
    Actor,
    Episode,
    OwnerTraffic,
    Reason,
    Silencer,
)
from detector.core.errors import REJECT_REASONS
from detector.core.references import ATTACK, OWASP, REFERENCES_MAX
from tests.sinks.sample import EPISODE, make_alert

SCHEMAS = Path(__file__).parent.parent / "docs" / "schema"


def load(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return schema


def check(name: str, record: dict[str, Any]) -> None:
    Draft202012Validator(load(name)).validate(json.loads(json.dumps(record)))


@pytest.mark.parametrize("name", ["episode", "alert", "summary"])
def test_each_schema_is_a_schema(name):
    """Valid Draft 2020-12, closed, every property required, and named like its file."""
    schema = load(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"{name}.schema.json"
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"])


def test_an_episodes_record_has_the_schemas_fields_in_its_order():
    """Same names, same order, in the parts too."""
    record = EPISODE.to_record()
    for name in ("episode", "alert"):
        schema = load(name)
        assert list(record) == list(schema["properties"])
        assert list(record["reasons"][0]) == list(schema["$defs"]["reason"]["properties"])
        assert list(record["actor"]) == list(schema["$defs"]["actor"]["properties"])
        for field, part in (("silenced_by", "silencer"), ("owner_carries_on", "owner_traffic")):
            assert list(record[field]) == list(schema["$defs"][part]["properties"])
        assert list(record["references"][0]) == list(schema["$defs"]["reference"]["properties"])


def test_the_closed_lists_are_those_of_the_code():
    """A new signal, action, severity, channel or reject reason must be published."""
    accusing = [c for c in CHANNELS if c != "throttle"]
    for name, channels in (("episode", list(CHANNELS)), ("alert", accusing)):
        schema = load(name)
        assert schema["properties"]["channel"]["enum"] == channels
        assert schema["properties"]["severity"]["enum"] == list(SEVERITIES)
        assert schema["properties"]["action"]["enum"] == list(ACTIONS)
        assert schema["properties"]["curve"]["maxItems"] == CURVE_POINTS_MAX
        assert schema["$defs"]["reason"]["properties"]["signal"]["enum"] == list(SIGNALS)
        silencer = schema["$defs"]["silencer"]["properties"]["signals"]
        assert silencer["items"]["enum"] == list(SIGNALS)
        assert schema["properties"]["normal"]["maxItems"] == NORMAL_MAX
        assert schema["properties"]["references"]["maxItems"] == REFERENCES_MAX
        frameworks = schema["$defs"]["reference"]["properties"]["framework"]["enum"]
        assert frameworks == [ATTACK, OWASP]
    rejected = load("summary")["properties"]["rejected"]
    assert rejected["propertyNames"]["enum"] == list(REJECT_REASONS)
    summary = load("summary")["properties"]
    assert summary["alerts"]["required"] == accusing
    assert summary["thresholds"]["required"] == list(CHANNELS)


TIMES = st.integers(0, 4_000_000_000_000_000)
COUNTS = st.integers(0, 2**53)
SCORES = st.floats(0, 1e6)
REASONS = st.builds(Reason, st.sampled_from(SIGNALS), SCORES, SCORES, SCORES, st.text(max_size=9))
TEXTS = st.text(min_size=1, max_size=9)
SIGNAL_SETS = st.lists(st.sampled_from(SIGNALS), min_size=1, max_size=4).map(tuple)
EPISODES = st.builds(
    Episode,
    alert_id=st.just("0123456789abcdef0123"),
    key=st.text(min_size=1, max_size=20),
    owner=st.none() | st.text(max_size=9),
    channel=st.sampled_from(CHANNELS),
    severity=st.sampled_from(SEVERITIES),
    state=st.sampled_from(["open", "closed"]),
    opened_us=TIMES,
    first_suspicious_us=TIMES,
    peak_us=TIMES,
    last_seen_us=TIMES,
    closed_us=st.none() | TIMES,
    alerted_us=st.none() | TIMES,
    score=SCORES,
    threshold=SCORES,
    return_period_days=st.none() | SCORES,
    reasons=st.lists(REASONS, max_size=4).map(tuple),
    actor=st.none() | st.builds(Actor, st.text(max_size=9), st.text(max_size=9), TIMES, COUNTS),
    requests_leaked=COUNTS,
    bytes_leaked=COUNTS,
    action=st.sampled_from(ACTIONS),
    simulated=st.booleans(),
    curve=st.lists(st.tuples(TIMES, SCORES, COUNTS, COUNTS), max_size=64).map(tuple),
    credential=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3).map(tuple),
    normal=st.lists(TEXTS, max_size=NORMAL_MAX).map(tuple),
    silenced_by=st.none() | st.builds(Silencer, SIGNAL_SETS, SCORES, TEXTS),
    owner_carries_on=st.none() | st.builds(OwnerTraffic, COUNTS, SCORES, COUNTS, TEXTS),
    action_reason=st.text(max_size=9),
)


@settings(max_examples=150, deadline=None)
@given(EPISODES)
def test_every_episode_is_valid(episode):
    """Whatever the fold can put into an episode."""
    check("episode", episode.to_record())


def test_an_alert_is_an_open_alerted_episode():
    """The alert's schema is the episode's, narrowed."""
    check("alert", make_alert())
    for changes in (
        {"alerted_us": None},
        {"state": "closed"},
        {"closed_us": 1},
        {"channel": "throttle", "action": "throttle"},
    ):
        record = make_alert(**changes)
        check("episode", record)
        with pytest.raises(ValidationError):
            check("alert", record)


@pytest.mark.parametrize(
    "damage",
    [
        {"more": 1},
        {"key": ""},
        {"score": "42"},
        {"requests_leaked": 1.5},
        {"requests_leaked": -1},
        {"peak_at": "2026-09-21 14:13:20"},
        {"peak_at": "2026-09-21T14:13:20+00:00"},
        {"curve": [["2026-09-21T14:13:20Z", 1.0, 2]]},
        {"actor": {"network": "x"}},
        {"alert_id": "7"},
        {"credential": {"id": 7}},
    ],
)
def test_what_is_not_the_contract_is_not_valid(damage):
    """Extra fields, wrong types and other time formats are refused."""
    with pytest.raises(ValidationError):
        check("episode", {**make_alert(), **damage})


SUMMARY = {
    "messages": 10,
    "held_back": 0,
    "auth_failed": 0,
    "inputs": ["access.ndjson"],
    "damaged": [],
    "lines": 110,
    "accepted": 90,
    "no_key": 10,
    "rejected": {"not_json": 7, "bad_ts": 3},
    "keys": 4,
    "alerts": {"stolen": 1, "abused": 0},
    "hard_alerts": 0,
    "throttles": 2,
    "verdicts": {"applied": 1, "unknown": 0, "not_reached": 0},
    "silences": {"told": 1, "collapsed": 12, "notices": 1},
    "notices": 1,
    "collapsed": 3,
    "episodes": 2,
    "heirs": {"with_baseline": 1, "blank": 0},
    "late": 0,
    "first_event": "2026-09-21T14:13:20Z",
    "last_event": "2026-09-22T14:13:20.5Z".replace(".5", ".500000"),
    "span_days": 1.0,
    "events_per_s": 123456.7,
    "bytes_per_key": 812.5,
    "state_digest": "00ff",
    "thresholds": {"stolen": 13.5, "abused": 11.25, "throttle": 9.0},
    "evaluation": None,
    "notes": ["shipped thresholds are in force"],
}


def test_a_summary_is_valid_also_of_an_empty_log():
    """No event: no times, no bytes per key."""
    check("summary", SUMMARY)
    empty = dict.fromkeys(("lines", "accepted", "no_key", "keys", "episodes"), 0)
    nothing = {"first_event": None, "last_event": None, "span_days": 0, "bytes_per_key": None}
    check("summary", {**SUMMARY, **empty, **nothing, "rejected": {}})
    with pytest.raises(ValidationError):
        check("summary", {**SUMMARY, "rejected": {"whatever": 1}})
