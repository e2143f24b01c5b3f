"""What the configuration's detection and network settings become in the service."""

from __future__ import annotations

import pytest

from detector.assembly import make_engine, run_settings
from detector.config import Config
from detector.core.errors import ConfigError
from detector.core.settings import ShardSettings
from models.families import FAMILIES
from tests.decode.mmdb import write_mmdb


def engine_of(**sections):
    return make_engine(Config.model_validate(sections), None, bytes(32))


def test_nothing_configured_is_what_is_shipped():
    """Without a section the thresholds, weights and budgets are the shipped ones."""
    engine = engine_of()
    assert engine.settings == ShardSettings()
    assert engine.registry is None
    assert run_settings(Config()).throttles_per_week == 100


def test_configured_weights_replace_single_shipped_ones():
    """One signal of one channel changes, everything else stays; numbers are Python's floats."""
    settings = engine_of(detection={"weights": {"abused": {"volume": 2}}, "keys_max": 500}).settings
    shipped, at = ShardSettings(), FAMILIES.index("volume")
    assert settings.keys_max == 500
    assert (settings.stolen, settings.throttle) == (shipped.stolen, shipped.throttle)
    expected = list(shipped.abused.weights)
    expected[at] = 2.0
    assert settings.abused.weights == tuple(expected)
    assert settings.abused.threshold == shipped.abused.threshold
    assert {type(w) for c in settings.channels for w in c.weights} == {float}


def test_decoys_need_no_registry():
    """Decoys alone make a registry that knows facts."""
    registry = engine_of(detection={"decoy_routes": ["GET /v1/internal/backup"]}).registry
    assert registry is not None
    assert registry.has_decoys


def test_a_configured_rate_of_recommendations_reaches_the_loop():
    """``throttles_per_week`` is the loop's."""
    config = Config.model_validate({"detection": {"throttles_per_week": 7}})
    assert run_settings(config).throttles_per_week == 7


def test_a_database_is_opened_at_the_start(tmp_path):
    """A good one is used, one of another kind is refused by the setting's name."""
    path = write_mmdb(
        tmp_path / "asn.mmdb",
        "GeoLite2-ASN",
        {"192.0.2.0/24": {"autonomous_system_number": 64496}},
    )
    engine_of(network={"asn_database": str(path)})
    with pytest.raises(ConfigError, match=r"network\.city_database"):
        engine_of(network={"city_database": str(path)})
