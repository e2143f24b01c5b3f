"""From records to what the template shows: every text made inert, every figure in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from typing import Any

from detector.core.episodes import CHANNELS, NORMAL_MAX, SEVERITIES
from detector.core.references import REFERENCES_MAX
from detector.safe_text import safe
from replay.labels import time_us
from replay.report import plots, words

ALERTS_MAX = 200
OTHERS_MAX = 25
NOTES_MAX = 50
AUTH_FAILED_SHARE = 0.01  # more than this share of the events, or more than this number, is
AUTH_FAILED_MAX = 100  # said at the top: a page of guesses at keys is not a quiet one
STATE_KEYS_MIN = 1000  # fewer share tables that are allocated ahead: bytes per key say nothing

Record = Mapping[str, Any]


def page(
    summary: Record, episodes: Sequence[Record], alerts: Sequence[Record] | None, title: str
) -> dict[str, Any]:
    """Everything the template needs."""
    finals = {e["alert_id"]: e for e in episodes}
    if alerts is None:
        alerts = [e for e in episodes if e.get("alerted_at")]
    alerted = {a["alert_id"] for a in alerts}
    ranked = sorted(alerts, key=_by_severity)
    others = [e for e in episodes if e["alert_id"] not in alerted]
    others.sort(key=lambda e: (-float(e["score"]), str(e["key"])))
    on_timeline = [finals.get(a["alert_id"], a) for a in alerts] or others[:10]
    timeline = plots.timeline(on_timeline, _span(summary)) if on_timeline else None
    failed = _auth_failed(summary)
    return {
        "title": safe(title, 120),
        "verdict": _verdict(alerts, failed),
        "warning": _warning(failed),
        "quiet": not alerts,
        "span": _span_text(summary),
        "inputs": [safe(i, 120) for i in list(summary.get("inputs") or [])[:8]],
        "tiles": _tiles(summary, alerts),
        "timeline": timeline,
        "legend": _legend(timeline) if timeline else None,
        "alerts": [_alert(a, finals.get(a["alert_id"], a)) for a in ranked[:ALERTS_MAX]],
        "alerts_cut": words.more(len(ranked) - ALERTS_MAX, "alert"),
        "others": [_other(e) for e in others[:OTHERS_MAX]],
        "others_cut": words.more(len(others) - OTHERS_MAX, "episode"),
        "quality": _quality(summary),
        "notes": [safe(n, 300) for n in list(summary.get("notes") or [])[:NOTES_MAX]],
    }


def _by_severity(alert: Record) -> tuple[int, float, str]:
    severity = str(alert["severity"])
    rank = SEVERITIES.index(severity) if severity in SEVERITIES else 0
    return -rank, -float(alert["score"]), str(alert["alert_id"])


def _legend(timeline: plots.Timeline) -> dict[str, list[str]]:
    """What is drawn: severities of all bars, channels of the alerts' marks."""
    marks = [m for row in timeline.rows for m in row.marks]
    severities, pins = {m.severity for m in marks}, {m.channel for m in marks if m.is_alerted}
    return {
        "severities": [s for s in reversed(SEVERITIES) if s in severities],
        "channels": [c for c in CHANNELS if c in pins],
    }


def _auth_failed(summary: Record) -> int:
    """Failed authentications where there are many; else 0."""
    failed = int(summary.get("auth_failed") or 0)
    events = summary.get("accepted", 0) + summary.get("no_key", 0)
    return failed if failed > min(AUTH_FAILED_MAX, AUTH_FAILED_SHARE * events) else 0


def _warning(failed: int) -> str:
    them = "it" if failed == 1 else "them"
    return (
        f"{words.plural(failed, 'request')} failed authentication; "
        f"keywatch does not hold {them} against a key"
        if failed
        else ""
    )


def _verdict(alerts: Sequence[Record], failed: int) -> str:
    if not alerts and failed:
        return f"No alert, but {words.plural(failed, 'request')} failed authentication"
    if not alerts:
        return "Quiet: no key looked stolen or abused"
    keys = len({a["key"] for a in alerts})
    return f"{words.plural(len(alerts), 'alert')} on {words.plural(keys, 'key')}"


def _span(summary: Record) -> tuple[int, int] | None:
    first, last = summary.get("first_event"), summary.get("last_event")
    return (time_us(str(first)), time_us(str(last))) if first and last else None


def _span_text(summary: Record) -> str:
    span = _span(summary)
    if span is None:
        return "no events with a time"
    first, last = words.when(summary["first_event"]), words.when(summary["last_event"])
    return f"{first} to {last} UTC ({words.lasting((span[1] - span[0]) / 1e6)})"


def _tiles(summary: Record, alerts: Sequence[Record]) -> list[tuple[str, str, str]]:
    """(what, figure, remark) of the summary row."""
    lines, accepted = summary.get("lines", 0), summary.get("accepted", 0)
    rejected = sum((summary.get("rejected") or {}).values())
    by_channel = [
        f"{sum(a['channel'] == c for a in alerts)} {c}"
        for c in ("stolen", "abused")
        if any(a["channel"] == c for a in alerts)
    ]
    leaked = sum(a["requests_leaked"] for a in alerts)
    tiles = [
        ("Alerts", words.number(len(alerts)), " · ".join(by_channel) or "none"),
        ("Leaked", words.number(leaked), f"{words.noun(leaked, 'request')} before alerts"),
        ("Keys", words.number(summary.get("keys", 0)), _per_key(summary)),
        ("Events", words.number(accepted), f"of {words.plural(lines, 'line')}"),
        ("Rejected", words.number(rejected), _share(rejected, lines)),
    ]
    if summary.get("events_per_s"):
        tiles.append(("Speed", words.number(summary["events_per_s"]), "events per second"))
    return tiles


def _per_key(summary: Record) -> str:
    per_key = summary.get("bytes_per_key")
    if not per_key or summary.get("keys", 0) < STATE_KEYS_MIN:
        return "seen in the log"
    return f"{words.size(per_key)} of state each"


def _share(part: float, whole: float) -> str:
    if not part or not whole:
        return "all lines readable" if whole else "nothing was read"
    share = 100 * part / whole
    return f"{share:.1f} % of lines" if share >= 0.1 else "under 0.1 % of lines"


def _alert(alert: Record, final: Record) -> dict[str, Any]:
    actor = alert.get("actor")
    action = str(alert["action"])
    facts = [
        ("Rarity", words.rarity(alert.get("return_period_days"))),
        ("Got through before", _leak(alert)),
        ("Until the episode ended", _leak(final)),
    ]
    if actor:
        source = f"{safe(actor['network'], 60)} · {safe(actor['client'], 80)}"
        facts.insert(0, ("Suspected source", source))
    return {
        "id": safe(alert["alert_id"], 40),
        "key": safe(alert["key"], 80),
        "owner": safe(alert["owner"], 80) if alert.get("owner") else "",
        "channel": safe(alert["channel"], 12),
        "headline": words.HEADLINES.get(str(alert["channel"]), "needs attention"),
        "severity": plots._word(alert["severity"]),  # noqa: SLF001 - one rule for class names
        "score": words.number(alert["score"]),
        "threshold": words.number(alert["threshold"]),
        "story": words.story(alert, final),
        "reasons": [_reason(r) for r in alert["reasons"]],
        "facts": facts,
        "action": words.ACTIONS.get(action, safe(action, 40)),
        "why_action": safe(alert.get("action_reason") or "", 300),
        "normal": [safe(n, 240) for n in list(alert.get("normal") or [])[:NORMAL_MAX]],
        "owner_traffic": safe((alert.get("owner_carries_on") or {}).get("text") or "", 300),
        "silenced_by": safe((alert.get("silenced_by") or {}).get("text") or "", 400),
        "references": [
            f"{safe(r['id'], 20)} {safe(r['name'], 80)}"
            for r in list(alert.get("references") or [])[:REFERENCES_MAX]
        ],
        "simulated": bool(alert.get("simulated")),
        "plot": plots.evidence(alert, final),
    }


def _leak(episode: Record) -> str:
    leaked = words.plural(episode["requests_leaked"], "request")
    return f"{leaked}, {words.size(episode['bytes_leaked'])}"


def _reason(reason: Record) -> dict[str, Any]:
    observed, expected = float(reason["observed"]), float(reason["expected"])
    return {
        "name": safe(str(reason["signal"]).replace("_", " "), 40),
        "text": safe(reason["text"], 240),
        "usual": words.number(expected),
        "now": words.number(observed),
        "times": _times(observed, expected),
        "nats": f"{float(reason['nats']):.1f}",
        "bar": round(min(100.0, 100 * float(reason["nats"]) / 12), 1),
    }


def _times(observed: float, expected: float) -> str:
    """How many times the usual; empty where that says nothing.

    >>> _times(30, 3), _times(3, 0), _times(5, 4.5), _times(9000, 0.001)
    ('×10', '', '', '×1,000+')
    """
    if expected <= 0 or observed / expected < 1.5:
        return ""
    ratio = observed / expected
    if log2(ratio) > 10:
        return "×1,000+"
    return f"×{words.number(ratio) if ratio >= 10 else f'{ratio:.1f}'}"


def _other(episode: Record) -> dict[str, str]:
    top = episode["reasons"][0]["text"] if episode["reasons"] else ""
    return {
        "key": safe(episode["key"], 60),
        "channel": safe(episode["channel"], 12),
        "score": words.number(episode["score"]),
        "threshold": words.number(episode["threshold"]),
        "peak": words.when(episode["peak_at"]),
        "reason": safe(top, 160),
    }


def _quality(summary: Record) -> dict[str, Any]:
    lines = summary.get("lines", 0)
    rejected = sorted((summary.get("rejected") or {}).items(), key=lambda p: (-p[1], p[0]))
    rows = [("events of a key", summary.get("accepted", 0), True)]
    failed, late = summary.get("auth_failed", 0), summary.get("late", 0)
    rows.append(("of these, authentication failed", failed, not failed))
    rows.append(("of these, too late to be scored", late, not late))
    rows.append(("events without a key", summary.get("no_key", 0), True))
    rows += [(safe(r, 40).replace("_", " "), n, False) for r, n in rejected if n]
    return {
        "lines": words.plural(lines, "line"),
        "rows": [
            {
                "what": what,
                "count": words.number(n),
                "share": f"{100 * n / lines:.2f} %" if lines else "–",
                "bar": round(100 * n / lines, 1) if lines else 0,
                "good": good,
            }
            for what, n, good in rows
        ],
    }
