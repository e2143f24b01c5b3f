"""The report's sentences and figures. Pure; what it returns is plain text, escaped later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detector.safe_text import safe

HEADLINES = {"stolen": "looks stolen", "abused": "is being abused"}
ACTIONS = {
    "none": "Nothing to do; keep an eye on it",
    "notify": "Ask the owner whether they know this traffic",
    "throttle": "Limit the key's rate until the owner has answered",
    "block_actor": "Block the suspected source for this key",
    "suspend": "Suspend the key and call its owner; this can be undone",
    "revoke": "Revoke the key, issue a new one, look at what was read",
}
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def number(value: float) -> str:
    """A figure as people write it.

    >>> [number(v) for v in (0, 0.0031, 0.25, 7.0, 12.34, 3120.0)]
    ['0', '0.003', '0.25', '7', '12', '3,120']
    """
    if value == 0 or abs(value) >= 10:
        return f"{value:,.0f}"
    text = f"{value:.3f}" if abs(value) < 0.1 else f"{value:.2f}"
    return text.rstrip("0").rstrip(".") or "0"


def size(n_bytes: float) -> str:
    """Bytes in decimal units.

    >>> size(999), size(5_240_000)
    ('999 B', '5.2 MB')
    """
    unit = 0
    while n_bytes >= 1000 and unit < len(_UNITS) - 1:
        n_bytes, unit = n_bytes / 1000, unit + 1
    return f"{n_bytes:.1f} {_UNITS[unit]}" if unit else f"{n_bytes:.0f} B"


def plural(count: float, word: str) -> str:
    """A count with its noun.

    >>> plural(1, "alert"), plural(1200, "key"), plural(0, "request")
    ('1 alert', '1,200 keys', '0 requests')
    """
    return f"{count:,.0f} {noun(count, word)}"


def noun(count: float, word: str) -> str:
    """The noun for a count that stands elsewhere.

    >>> noun(1, "request"), noun(0, "request")
    ('request', 'requests')
    """
    return word if count == 1 else f"{word}s"


def more(count: int, word: str) -> str:
    """How many are left out, as the beginning of a sentence; empty when none is.

    >>> more(1, "key"), more(1200, "key"), more(0, "key")
    ('1 more key is', '1,200 more keys are', '')
    """
    if count <= 0:
        return ""
    return f"{count:,} more {noun(count, word)} {'is' if count == 1 else 'are'}"


def when(text: object) -> str:
    """An RFC 3339 time as people read it.

    >>> when("2026-09-21T14:15:23.456000Z"), when(None)
    ('2026-09-21 14:15:23', 'unknown')
    """
    return f"{str(text)[:10]} {str(text)[11:19]}" if text else "unknown"


def lasting(span_s: float) -> str:
    """A span of time in its one or two largest units.

    >>> [lasting(s) for s in (42, 60, 3700, 1_260_000)]
    ['42 s', '1 min', '1 h 1 min', '14 d 14 h']
    """
    parts, rest = [], int(span_s)
    for unit, unit_s in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if rest >= unit_s:
            parts.append((f"{rest // unit_s} {unit}", unit_s))
            rest %= unit_s
    kept = [p for p in parts[:2] if not parts or p is parts[0] or p[1] * 60 >= parts[0][1]]
    return " ".join(text for text, _ in kept) or "0 s"


def rarity(days: float | None) -> str:
    """How often a score this high has been seen on this fleet so far.

    >>> [rarity(days)[:18] for days in (0.9, 0.1, 1.0)]
    ['about once a day o', 'about 10 times a d', 'about once in 1 da']
    """
    if days is None:
        return "not known yet: too little history"
    if days >= 3650:
        return "less than once in 10 years on this fleet"
    if days < 1:
        times = f"{1 / max(days, 1e-3):,.0f}"
        return f"about {'once' if times == '1' else times + ' times'} a day on this fleet"
    return (
        f"about once in {'1 day' if number(days) == '1' else number(days) + ' days'} on this fleet"
    )


def story(alert: Mapping[str, Any], final: Mapping[str, Any]) -> list[str]:
    """What happened, in sentences; ``final`` is the same episode at its end."""
    owner = f" of {safe(alert['owner'], 80)}" if alert.get("owner") else ""
    what = HEADLINES.get(str(alert["channel"]), "needs attention")
    alerted = when(alert.get("alerted_at"))[11:] or "an unknown time"
    lines = [
        f"This key{owner} {what}.",
        f"Its traffic became suspicious at {when(alert['first_suspicious_at'])} UTC;",
        f"the alert came at {alerted} with a score of {number(alert['score'])}",
        f"against a threshold of {number(alert['threshold'])}.",
    ]
    actor = alert.get("actor")
    if actor:
        lines.append(
            f"The evidence points at network {safe(actor['network'], 60)} with client "
            f"{safe(actor['client'], 80)}, first seen {when(actor['first_seen'])} UTC, "
            f"{plural(actor['requests'], 'request')} by then."
        )
    else:
        lines.append(
            "No new source stands apart from the key's own: there is nobody to block alone."
        )
    before, after = alert["requests_leaked"], final["requests_leaked"]
    leak = f"{plural(before, 'suspicious request')} ({size(alert['bytes_leaked'])}) got through"
    more = f"; by the end of the episode it was {number(after)}" if after > before else ""
    lines.append(f"{leak} before the alert{more}.")
    return lines
