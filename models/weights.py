"""Fusion weights from a configuration. Light: names are checked without loading a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from models.families import FAMILIES

CHANNELS = ("stolen", "abused", "throttle")
WEIGHT_MAX = 100.0  # no cap times it overflows a score

Section = Mapping[str, Mapping[str, float]]


def checked_weights(section: Section) -> Section:
    """The section as it is: by channel, and in it by family.

    Raises ``ValueError`` with one sentence for a name that is unknown, or a weight that is
    negative or no number.

    >>> checked_weights({"stolen": {"new_netwrok": 1.0}})
    Traceback (most recent call last):
    ValueError: stolen.new_netwrok: no such signal
    """
    for channel, weights in section.items():
        if channel not in CHANNELS:
            raise ValueError(f"{channel}: no such channel; they are {', '.join(CHANNELS)}")
        for family, weight in weights.items():
            if family not in FAMILIES:
                raise ValueError(f"{channel}.{family}: no such signal")
            if not (isfinite(weight) and 0.0 <= weight <= WEIGHT_MAX):
                raise ValueError(f"{channel}.{family}: a weight is a number from 0 to 100")
    return section


def weights_from_config(section: Section) -> tuple[tuple[float, ...], ...]:
    """Weights by channel, in the order of ``FAMILIES``; what is not given is as shipped.

    Raises ``ValueError`` as ``checked_weights`` does.

    >>> weights_from_config({"stolen": {"new_network": 0.9}})[0][0]
    0.9
    """
    from models.fusion import WEIGHTS

    checked_weights(section)
    return tuple(
        tuple(
            float(section.get(channel, {}).get(family, weight))
            for family, weight in zip(FAMILIES, shipped, strict=True)
        )
        for channel, shipped in zip(CHANNELS, WEIGHTS, strict=True)
    )


def young_weights_from_config(section: Section) -> tuple[tuple[float, ...], ...]:
    """The same for keys on their first day: a configured weight moves both in proportion.

    Where the shipped weight for settled keys is 0, the configured one holds for all keys.

    >>> young_weights_from_config({"stolen": {"new_network": 0.0}})[0][0]
    0.0
    """
    from models.fusion import WEIGHTS, YOUNG_WEIGHTS

    configured = weights_from_config(section)
    return tuple(
        tuple(
            young if new == old else (young * new / old if old else new)
            for new, old, young in zip(*channel, strict=True)
        )
        for channel in zip(configured, WEIGHTS, YOUNG_WEIGHTS, strict=True)
    )
