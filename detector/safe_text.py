"""Log-derived text made inert before it reaches a terminal, a log line or a chat message."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

LENGTH_MAX = 200

# Letters and marks that take no ink (Hangul and Khmer fillers, Braille blank, combining
# grapheme joiner): invisible without belonging to an "other" category.
_INKLESS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Variation selectors, in two ranges.
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))


@lru_cache(maxsize=4096)
def is_unsafe(char: str) -> bool:
    r"""True for what can steer a display or hide in it: C0, C1, DEL, bidi, zero width, surrogates.

    >>> [is_unsafe(c) for c in ("a", "\x1b", "\u202e", "\u200b", " ")]
    [False, True, True, True, False]
    """
    if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return True
    return char in _INKLESS or any(ord(char) in r for r in _SELECTORS)


def safe(text: object, length_max: int = LENGTH_MAX) -> str:
    r"""``text`` on one line with unsafe characters escaped, at most ``length_max`` characters.

    Printable text passes unchanged. The result can be encoded as UTF-8 (lone surrogates
    are escaped too). Not meant for mark-up: whoever shows it must not parse it.

    >>> safe("a\x1b[31m\nb"), safe("x" * 9, 5)
    ('a\\x1b[31m\\x0ab', 'xxxx…')
    """
    source = str(text)
    out: list[str] = []
    room = length_max
    for char in source[: length_max + 1]:
        shown = _escape(char) if is_unsafe(char) else char
        if len(shown) > room:
            return _cut(out, length_max)
        out.append(shown)
        room -= len(shown)
    return "".join(out)


def stripped(text: object) -> str:
    """``text`` without unsafe characters; white space and line ends become single spaces.

    Reads at most 4 times ``LENGTH_MAX`` characters.
    """
    source = str(text)[: 4 * LENGTH_MAX]
    spaced = (" " if c.isspace() else c for c in source)
    return " ".join("".join(c for c in spaced if not is_unsafe(c)).split())


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _cut(out: list[str], length_max: int) -> str:
    while out and sum(map(len, out)) > length_max - 1:
        out.pop()
    return "".join(out) + "…"
