"""The hash seed: keys every hash, so that nobody outside can choose collisions."""

from __future__ import annotations

import hmac

PUBLIC_SEED = b"keywatch replay: a public seed, equal results on any machine"


def seed_of(pepper: bytes) -> bytes:
    """The hash seed that belongs to a pepper: one secret to configure, two uses apart.

    >>> seed_of(b"pepper") == seed_of(b"pepper") != seed_of(b"another")
    True
    """
    return hmac.digest(pepper, b"keywatch hash seed", "sha256")
