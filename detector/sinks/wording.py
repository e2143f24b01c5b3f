"""The words people read about an alert, shared by the terminal and Slack. Pure."""

from __future__ import annotations

from typing import Any

HEADLINES = {
    "stolen": "API key looks stolen",
    "abused": "API key is being abused",
    "throttle": "API key is used much more than usual",
}
ADVICE = {
    "none": "No action needed; keep an eye on it.",
    "notify": "Ask the key's owner whether they know this traffic.",
    "throttle": "Limit the key's request rate until its owner has answered.",
    "block_actor": "Block the suspected source for this key.",
    "suspend": "Suspend the key now and call its owner. This can be undone.",
    "revoke": "Revoke the key now, give its owner a new one, and look at what was read.",
}
REASONS_SHOWN = 3
NORMAL_SHOWN, EXPLANATION_MAX = 3, 400  # sentences; characters of what would have silenced it
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def headline(alert: dict[str, Any]) -> str:
    """What happened, without log-derived text: ``HIGH: API key looks stolen``."""
    what = HEADLINES.get(alert["channel"], "API key needs attention")
    return f"{str(alert['severity']).upper()}: {what}"


def advice(alert: dict[str, Any]) -> str:
    """The suggested action in plain words."""
    return ADVICE.get(alert["action"], ADVICE["notify"])


def references(alert: dict[str, Any]) -> str:
    """Identifiers of ATT&CK techniques and OWASP API risks.

    >>> references({"references": [{"id": "T1119"}, {"id": "API1:2023"}]})
    'T1119, API1:2023'
    """
    return ", ".join(str(r["id"]) for r in alert.get("references") or ())


def owner_traffic(alert: dict[str, Any]) -> str:
    """What the key's own sources do meanwhile; empty where it is not known or already a reason."""
    owner = alert.get("owner_carries_on")
    is_reason = any(r["signal"] == "additive" for r in alert["reasons"][:REASONS_SHOWN])
    return "" if owner is None or is_reason else str(owner["text"])


def silenced_by(alert: dict[str, Any]) -> str:
    """What would have kept the alert from being raised; empty where nothing is known."""
    silencer = alert.get("silenced_by")
    return "" if silencer is None else str(silencer["text"])


def rarity(alert: dict[str, Any]) -> str:
    """How often a score this high has been seen on this fleet so far.

    >>> rarity({"return_period_days": 90.4}), rarity({"return_period_days": None})
    ('about once in 90 days on this fleet', 'not known yet (too little history)')
    """
    days = alert.get("return_period_days")
    if days is None:
        return "not known yet (too little history)"
    if days >= 3650:
        return "less than once in 10 years on this fleet"
    return f"about once in {number(days)} day{'' if number(days) == '1' else 's'} on this fleet"


def number(value: float) -> str:
    """A figure as people write it.

    >>> [number(v) for v in (0, 0.0031, 0.25, 7.0, 12.34, 90.4, 3120.0)]
    ['0', '0.003', '0.25', '7', '12', '90', '3,120']
    """
    if value == 0 or abs(value) >= 10:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 0.1 else f"{value:.2f}".rstrip("0").rstrip(".")


def size(value_bytes: float) -> str:
    """Bytes in decimal units.

    >>> size(0), size(1999), size(5_240_000)
    ('0 B', '2.0 kB', '5.2 MB')
    """
    unit = 0
    while value_bytes >= 1000 and unit < len(_UNITS) - 1:
        value_bytes, unit = value_bytes / 1000, unit + 1
    return f"{value_bytes:.1f} {_UNITS[unit]}" if unit else f"{value_bytes:.0f} B"


def when(rfc3339_text: str | None) -> str:
    """An RFC 3339 time as people read it, to the second.

    >>> when("2026-09-21T14:15:23.456000Z"), when(None)
    ('2026-09-21 14:15:23 UTC', 'unknown')
    """
    if not rfc3339_text:
        return "unknown"
    return f"{rfc3339_text[:10]} {rfc3339_text[11:19]} UTC"


def signal_name(signal: str) -> str:
    """A signal's name in words: ``new_network`` -> ``new network``."""
    return signal.replace("_", " ")
