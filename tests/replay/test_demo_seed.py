"""The demo's scenario, once through the real engine; ``benchmarks.demo_seeds`` runs twenty."""

from __future__ import annotations

from benchmarks.demo_seeds import judge_seed

SEED = 1


def test_one_seed_catches_all_and_cries_wolf_never():
    """The stolen key, the scraper and the prober are caught while at it; nobody else is named."""
    judged, episodes = judge_seed(SEED)
    assert {a.label.kind for a in judged.attacks} == {"stolen_key", "scraper", "prober"}
    assert [a.label.kind for a in judged.attacks if not a.caught] == []
    assert [(a["key"], a["channel"], a["score"]) for a in judged.false_alerts] == []
    for attack in judged.attacks:
        assert 0 < attack.leaked < attack.label.requests
    by_kind = {a.label.kind: a.alert for a in judged.attacks}
    assert by_kind["stolen_key"]["channel"] == "stolen"
    assert by_kind["prober"]["channel"] == "abused"
    assert {a.label.key for a in judged.attacks} <= {e["key"] for e in episodes}
