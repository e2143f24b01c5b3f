"""The fold's settings as configured: one place, so that every command scores alike."""

from __future__ import annotations

from dataclasses import replace

from detector.config import Config
from detector.core.settings import ShardSettings
from models.weights import weights_from_config, young_weights_from_config


def shard_settings(config: Config) -> ShardSettings:
    """Shipped thresholds, the configured limit of keys, and the configured weights.

    >>> config = Config.model_validate({"detection": {"weights": {"stolen": {"volume": 0.5}}}})
    >>> changed, shipped = shard_settings(config), ShardSettings()
    >>> changed.abused == shipped.abused, changed.stolen == shipped.stolen
    (True, False)
    """
    shipped = ShardSettings(
        keys_max=config.detection.keys_max,
        learn_from_verdicts=config.detection.learn_from_verdicts,
    )
    section = config.detection.weights
    both = zip(weights_from_config(section), young_weights_from_config(section), strict=True)
    stolen, abused, throttle = (
        replace(limits, weights=weights, young_weights=young)
        for limits, (weights, young) in zip(shipped.channels, both, strict=True)
    )
    return replace(shipped, stolen=stolen, abused=abused, throttle=throttle)
