"""Text from logs, cut down to what may be stored and named."""

from __future__ import annotations

import unicodedata

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: str) -> str:
    r"""Text without control, bidirectional, zero-width and unassigned characters, stripped.

    >>> printable(" a\x1b[31m\u202eb\n")
    'a[31mb'
    """
    if text.isascii() and text.isprintable():
        return text.strip()
    kept = (c for c in text if unicodedata.category(c) not in _INVISIBLE)
    return "".join(kept).strip()
