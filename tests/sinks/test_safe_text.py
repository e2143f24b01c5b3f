"""Log-derived text is inert: nothing in it can steer a terminal, forge a line or hide."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.safe_text import LENGTH_MAX, is_unsafe, safe, stripped

HOSTILE = [
    "\x1b[2J\x1b[1;1H",
    "\x1b]8;;http://evil.test\x07click\x1b]8;;\x07",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x9b31m",
    "a\rb",
    "a\nFAKE LOG LINE",
    "a\x08\x08b",
    "nul\x00",
    "del\x7f",
    "rtl\u202egnp.exe",
    "iso\u2066x\u2069",
    "zero\u200b\u200c\u200d\u2060\ufeffwidth",
    "line\u2028sep\u2029par",
    "soft\u00adhyphen",
    "tag\U000e0041",
    "vs\ufe0f\U000e0100",
    "hangul\u3164\u115f\uffa0",
    "lone\ud800",
    "private\ue000",
    "next\x85line",
]


def test_hostile_text_is_visible_and_encodable():
    """Every dangerous character becomes printable ASCII; what is harmless stays."""
    for text in HOSTILE:
        for shown in (safe(text), stripped(text)):
            assert not any(is_unsafe(c) for c in shown), text
            shown.encode("utf-8")
            assert "\n" not in shown


def test_people_s_languages_pass_unchanged():
    """Printable text of any script is not damaged."""
    for text in ("Müller & Söhne", "日本語の鍵", "ключ", "مفتاح", "नमस्ते", "key-1_2.3", "€ 5 😀"):
        assert safe(text) == text
        assert stripped(text) == text


def test_the_length_is_bounded_before_anything_is_built():
    """A name of 1 MB costs no more than 200 characters and shows that it was cut."""
    assert safe("x" * 1_000_000) == "x" * (LENGTH_MAX - 1) + "…"
    assert len(safe("\x00" * 1_000_000)) <= LENGTH_MAX
    assert len(stripped("y z" * 1_000_000)) <= 4 * LENGTH_MAX
    assert safe("x" * LENGTH_MAX) == "x" * LENGTH_MAX


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=300), st.integers(1, 250))
def test_any_text_comes_out_short_and_safe(text, length_max):
    """No input makes an output that is unsafe, too long or not encodable."""
    shown = safe(text, length_max)
    assert len(shown) <= length_max
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs"} for c in shown)
    shown.encode("utf-8")
