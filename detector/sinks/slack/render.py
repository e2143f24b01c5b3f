"""One alert as a Block Kit message. Pure: alert record in, ``{text, blocks}`` out.

Every text object is ``plain_text`` without emoji codes, so that nothing in it is parsed:
no mention, link or formatting can come from a log. Log-derived text is besides stripped of
control, bidi and zero-width characters, defanged, escaped once, and cut to 200 characters.
"""

from __future__ import annotations

from typing import Any

from detector.safe_text import LENGTH_MAX, stripped
from detector.sinks.wording import advice, headline, number, rarity, signal_name, size, when

HEADER_MAX, SECTION_MAX, TOTAL_MAX = 150, 3000, 8000
REASONS_MAX = 3

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
        _section("Usual beside now", _usual_beside_now(alert)),
        _section("Why", [inert(r["text"]) for r in alert["reasons"][:REASONS_MAX]]),
        _section("Suspected source", _actor(alert)),
        _section("What to do", [advice(alert)]),
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


def _usual_beside_now(alert: dict[str, Any]) -> list[str]:
    return [
        f"{signal_name(inert(r['signal']))}: now {number(r['observed'])},"
        f" usually {number(r['expected'])}"
        for r in alert["reasons"][:REASONS_MAX]
    ]


def _actor(alert: dict[str, Any]) -> list[str]:
    actor = alert.get("actor")
    if not actor:
        return []
    return [
        f"{inert(actor['network'])} with {inert(actor['client'])}",
        f"{actor['requests']:,} requests since {when(inert(actor['first_seen']))}",
    ]


def _times(alert: dict[str, Any]) -> str:
    mode = "  |  revocation is simulated" if alert.get("simulated") else ""
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
