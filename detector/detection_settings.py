"""The fold's settings as configured: one place, so that every command scores alike."""

from __future__ import annotations

from dataclasses import replace

from detector.config import Config
from detector.core.settings import ShardSettings
from models.weights import weights_from_config


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
    stolen, abused, throttle = weights_from_config(config.detection.weights)
    return replace(
        shipped,
        stolen=replace(shipped.stolen, weights=stolen),
        abused=replace(shipped.abused, weights=abused),
        throttle=replace(shipped.throttle, weights=throttle),
    )
