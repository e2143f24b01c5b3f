"""What a store's key may look like, the same for every store."""

from __future__ import annotations

import re

KEY_LENGTH_MAX = 512
SEGMENT_LENGTH_MAX = 200
VALUE_BYTES_MAX = 1 << 30

_SEGMENT = re.compile(rf"[A-Za-z0-9._=-]{{1,{SEGMENT_LENGTH_MAX}}}")
_PREFIX = re.compile(r"[A-Za-z0-9._=/-]*")


def is_segment(text: str) -> bool:
    """True when ``text`` can be one part of a key: ASCII ``[A-Za-z0-9._=-]``, not only dots.

    >>> is_segment("alert-7"), is_segment(".."), is_segment("a/b"), is_segment("")
    (True, False, False, False)
    """
    return _SEGMENT.fullmatch(text) is not None and text.strip(".") != ""


def check_key(key: str) -> list[str]:
    """The parts of a valid key. Raises ``ValueError`` otherwise: a mistake of the caller."""
    parts = key.split("/")
    if len(key) > KEY_LENGTH_MAX or not all(map(is_segment, parts)):
        raise ValueError(f"not a store key: {key[:80]!r}")
    return parts


def check_prefix(prefix: str) -> str:
    """A valid prefix: the beginning of some valid key. Raises ``ValueError`` otherwise."""
    parts = prefix.split("/")
    good = _PREFIX.fullmatch(prefix) is not None and len(prefix) <= KEY_LENGTH_MAX
    if not good or not all(map(is_segment, parts[:-1])):
        raise ValueError(f"not a store prefix: {prefix[:80]!r}")
    return prefix


def check_value(value: bytes) -> bytes:
    """The value itself when it is not too long. Raises ``ValueError`` otherwise."""
    if len(value) > VALUE_BYTES_MAX:
        raise ValueError(f"a value of {len(value)} bytes is over the limit of {VALUE_BYTES_MAX}")
    return value
