"""The demo's scenario, once through the real engine; ``benchmarks.demo_seeds`` runs twenty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from benchmarks.demo_seeds import judge_seed

SEED = 1
SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"


@pytest.fixture(scope="module")
def seed():
    return judge_seed(SEED)


def test_one_seed_catches_all_and_cries_wolf_never(seed):
    """The stolen key, the scraper and the prober are caught while at it; nobody else is named."""
    judged, episodes = seed
    assert {a.label.kind for a in judged.attacks} == {"stolen_key", "scraper", "prober"}
    assert [a.label.kind for a in judged.attacks if not a.caught] == []
    assert [(a["key"], a["channel"], a["score"]) for a in judged.false_alerts] == []
    for attack in judged.attacks:
        assert 0 < attack.leaked < attack.label.requests
    by_kind = {a.label.kind: a.alert for a in judged.attacks}
    assert by_kind["stolen_key"]["channel"] == "stolen"
    assert by_kind["prober"]["channel"] == "abused"
    assert {a.label.key for a in judged.attacks} <= {e["key"] for e in episodes}


def test_every_alert_and_episode_is_explained(seed):
    """Real outputs keep to the schemas; an alert says what would have silenced it, and why act."""
    judged, episodes = seed
    alerts = [a.alert for a in judged.attacks]
    assert episodes
    for name, records in (("alert", alerts), ("episode", episodes)):
        schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
        for record in records:
            Draft202012Validator(schema).validate(record)
            assert record["references"]
            assert record["action_reason"]
            is_over = record["score"] >= record["threshold"]
            assert (record["silenced_by"] is not None) == is_over
            if is_over:
                assert record["silenced_by"]["score"] < record["threshold"]
    assert any(a["normal"] for a in alerts)
    by_kind = {a.label.kind: a.alert for a in judged.attacks}
    thief = by_kind["stolen_key"]
    assert thief["action"] == "block_actor"
    assert thief["owner_carries_on"] is not None
    assert thief["actor"]["network"] in thief["silenced_by"]["text"]
