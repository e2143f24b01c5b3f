"""Seeded randomness: independent streams by name, and hashing of columns.

A stream is named by numbers, so that adding a key or a happening does not shift the others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detector.core.events import U64

KEYS, CLASSES, TRAFFIC, HAPPENINGS, ATTACKS, SCENARIO, BIG, WORLD = range(1, 9)


def stream(seed: int, *name: int) -> np.random.Generator:
    """The generator called ``name`` of ``seed``: PCG64, the same on every machine.

    >>> int(stream(1, KEYS, 7).integers(1000)) == int(stream(1, KEYS, 7).integers(1000))
    True
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, *name))))


def mix(values: npt.NDArray[np.integer], salt: int = 0) -> U64:
    """Splitmix64 of each value: a fixed, well spread 64-bit hash."""
    x = values.astype(np.uint64) + np.uint64(salt * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def unit(hashes: U64) -> npt.NDArray[np.float64]:
    """Hashes as numbers in [0, 1)."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
