"""One alert as a Block Kit message. Pure: alert record in, ``{text, blocks}`` out.

Every text object is ``plain_text`` without emoji codes, so that nothing in it is parsed:
no mention, link or formatting can come from a log. Log-derived text is besides stripped of
control, bidi and zero-width characters, defanged, escaped once, and cut to 200 characters.
"""

from __future__ import annotations

from typing import Any

from detector.safe_text import LENGTH_MAX, stripped
from detector.sinks.wording import (
    EXPLANATION_MAX,
    NORMAL_SHOWN,
    REASONS_SHOWN,
    advice,
    headline,
    number,
    owner_traffic,
    rarity,
    references,
    signal_name,
    silenced_by,
    size,
    when,
)

HEADER_MAX, SECTION_MAX, TOTAL_MAX = 150, 3000, 8000

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def inert(text: object, length_max: int = LENGTH_MAX) -> str:
    r"""Log-derived text for Slack: one line, escaped, without a scheme that would link.

    >>> inert("<!channel> http://x\u202e|bank & co")
    '&lt;!channel&gt; http[:]//x|bank &amp; co'
    """
    clean = stripped(text).replace("://", "[:]//") or "(unprintable)"
    out: list[str] = []
    room = length_max
    for char in clean:
        shown = _ESCAPES.get(char, char)
        if len(shown) > room - 1:  # an escape is never cut in two; the last place is for the dots
            out.append("…")
            break
        out.append(shown)
        room -= len(shown)
    return "".join(out)


def render(alert: dict[str, Any]) -> dict[str, Any]:
    """``text`` (for notifications) and ``blocks``: at most 8,000 characters in all."""
    blocks = [
        {"type": "header", "text": _plain(f"{headline(alert)} - {inert(alert['key'], 80)}")},
        {"type": "section", "fields": _fields(alert)},
        _section("Why", [_reason(r) for r in alert["reasons"][:REASONS_SHOWN]]),
        _section("Stayed normal", [inert(n) for n in (alert.get("normal") or ())[:NORMAL_SHOWN]]),
        _section("Suspected source", _actor(alert)),
        _section("What would have silenced it", _long(silenced_by(alert))),
        _section("What to do", [advice(alert), *_long(alert.get("action_reason"))]),
        {"type": "context", "elements": [_plain(_times(alert))]},
    ]
    return {"text": _notification(alert), "blocks": [b for b in blocks if b is not None]}


def _notification(alert: dict[str, Any]) -> str:
    owner = f" of {inert(alert['owner'], 80)}" if alert.get("owner") else ""
    leaked = f"{alert['requests_leaked']:,} requests leaked so far"
    return f"{headline(alert)}: {inert(alert['key'], 80)}{owner}, {leaked}. {advice(alert)}"


def _fields(alert: dict[str, Any]) -> list[dict[str, Any]]:
    score = f"{alert['score']:.1f} (alerts from {alert['threshold']:.1f})"
    pairs = (
        ("Key", inert(alert["key"])),
        ("Owner", inert(alert["owner"]) if alert.get("owner") else "unknown"),
        ("Score", score),
        ("How rare", rarity(alert)),
        ("Requests leaked", f"{alert['requests_leaked']:,}"),
        ("Data leaked", size(alert["bytes_leaked"])),
    )
    return [_plain(f"{label}\n{value}") for label, value in pairs]


def _reason(reason: dict[str, Any]) -> str:
    usual = f"now {number(reason['observed'])}, usually {number(reason['expected'])}"
    return f"{signal_name(inert(reason['signal']))}: {inert(reason['text'])} ({usual})"


def _long(text: object) -> list[str]:
    return [inert(text, EXPLANATION_MAX)] if text else []


def _actor(alert: dict[str, Any]) -> list[str]:
    actor, owner = alert.get("actor"), owner_traffic(alert)
    if not actor:
        return []
    lines = [
        f"{inert(actor['network'])} with {inert(actor['client'])}",
        f"{actor['requests']:,} requests since {when(inert(actor['first_seen']))}",
    ]
    return [*lines, inert(owner)] if owner else lines


def _times(alert: dict[str, Any]) -> str:
    mode = "  |  revocation is simulated" if alert.get("simulated") else ""
    known = references(alert)
    mode += f"  |  {inert(known)}" if known else ""
    return (
        f"alert {inert(alert['alert_id'])}  |  first suspicious"
        f" {when(alert['first_suspicious_at'])}  |  alerted {when(alert['alerted_at'])}{mode}"
    )


def _section(title: str, lines: list[str]) -> dict[str, Any] | None:
    if not lines:
        return None
    return {"type": "section", "text": _plain("\n".join([title, *(f"- {x}" for x in lines)]))}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}
