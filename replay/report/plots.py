"""Geometry of the report's drawings; the template turns it into SVG. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from detector.safe_text import safe
from replay.labels import time_us
from replay.report.words import HEADLINES, more, number, plural, when

TIMELINE_ROWS_MAX = 40
MINUTE, DAY = 60_000_000, 86_400_000_000

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080, 20160, 43200, 86400)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: position in drawing units and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps a range of values onto drawing units."""

    lo: float
    hi: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Position of a value, kept inside the drawing.

        >>> Axis(0, 10, 100, 200).at(5), Axis(0, 10, 100, 200).at(99)
        (150.0, 200.0)
        """
        share = (value - self.lo) / (self.hi - self.lo) if self.hi > self.lo else 0.0
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)


def time_ticks(axis: Axis, count: int) -> list[Tick]:
    """At most ``count`` round times; midnights show their date."""
    minutes = (axis.hi - axis.lo) / MINUTE
    step = next((s for s in _STEPS if minutes / s <= count), _STEPS[-1]) * MINUTE
    first = -(-int(axis.lo) // step) * step
    ticks: list[Tick] = []
    for us in range(first, int(axis.hi) + 1, step):
        at = _EPOCH + timedelta(microseconds=us)
        text = f"{at:%H:%M}" if us % DAY else f"{at.day} {at:%b}"
        ticks.append(Tick(axis.at(us), text))
    return ticks


def value_ticks(axis: Axis, count: int = 4) -> list[Tick]:
    """Round numbers from 0 up.

    >>> [t.text for t in value_ticks(Axis(0, 23, 0, 1))]
    ['0', '10', '20']
    """
    step = 1.0
    while axis.hi / step > count:
        step *= 2.5 if str(step)[0] == "2" else 2.0
    out, value = [], 0.0
    while value <= axis.hi:
        out.append(Tick(axis.at(value), number(value)))
        value += step
    return out


@dataclass(frozen=True, slots=True)
class Mark:
    """One episode on the timeline: a bar from first suspicion to last sight, and its alert."""

    x: float
    width: float
    alert_x: float | None
    severity: str
    channel: str
    title: str

    @property
    def is_alerted(self) -> bool:
        """True when the bar carries an alert's mark."""
        return self.alert_x is not None


@dataclass(frozen=True, slots=True)
class Row:
    """One key of the timeline."""

    y: float
    key: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """All of it; ``note`` says what is not shown."""

    width: float
    height: float
    left: float
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    note: str


def timeline(episodes: Sequence[Mapping[str, Any]], span: tuple[int, int] | None) -> Timeline:
    """Episodes by key, most severe keys first; only the neighbourhood when they lie close."""
    keys: dict[str, list[Mapping[str, Any]]] = {}
    for e in sorted(episodes, key=lambda e: (-float(e["score"]), str(e["key"]))):
        keys.setdefault(str(e["key"]), []).append(e)
    shown = list(keys.items())[:TIMELINE_ROWS_MAX]
    starts = [time_us(e["first_suspicious_at"]) for _, group in shown for e in group]
    ends = [time_us(e["last_seen_at"]) for _, group in shown for e in group]
    lo, hi, note = _window(min(starts), max(ends), span)
    if len(keys) > len(shown):
        note += f" {more(len(keys) - len(shown), 'key')} in episodes.ndjson."
    left, width, pitch = 230.0, 1000.0, 26.0
    axis = Axis(lo, hi, left, width - 16)
    rows = [
        Row(30 + i * pitch, safe(key, 32), tuple(_mark(e, axis) for e in group))
        for i, (key, group) in enumerate(shown)
    ]
    height = 30 + pitch * len(rows)
    note = f"{_day(lo)}{'' if _day(lo) == _day(hi) else ' to ' + _day(hi)}, UTC. {note}".strip()
    return Timeline(width, height, left, tuple(rows), tuple(time_ticks(axis, 9)), note)


def _day(us: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=us):%Y-%m-%d}"


def _window(lo: int, hi: int, span: tuple[int, int] | None) -> tuple[int, int, str]:
    pad = max((hi - lo) // 12, 10 * MINUTE)
    lo, hi = lo - pad, hi + pad
    if span and (hi - lo) < 0.25 * (span[1] - span[0]):
        return lo, hi, "Only the part of the log with episodes is drawn."
    return (min(lo, span[0]), max(hi, span[1]), "") if span else (lo, hi, "")


def _mark(e: Mapping[str, Any], axis: Axis) -> Mark:
    start = axis.at(time_us(e["first_suspicious_at"]))
    end = axis.at(time_us(e["last_seen_at"]))
    alerted = e.get("alerted_at")
    title = (
        f"{safe(e['key'], 60)} {HEADLINES.get(str(e['channel']), 'is under suspicion')}: "
        f"{safe(e['severity'], 20)}, score {number(e['score'])}, "
        + (f"alert {when(alerted)} UTC" if alerted else "no alert")
    )
    alert_x = axis.at(time_us(alerted)) if alerted else None
    severity, channel = _word(e["severity"]), _word(e["channel"])
    return Mark(start, round(max(4.0, end - start), 1), alert_x, severity, channel, title)


def _word(text: object) -> str:
    """A word fit for a class name: letters only."""
    return "".join(c for c in str(text).lower() if "a" <= c <= "z")[:12]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One episode's curve: score above, requests below, on one time axis."""

    width: float
    score_path: str
    score_area: str
    requests_path: str
    requests_area: str
    threshold_y: float
    alert_x: float | None
    ticks: tuple[Tick, ...]
    score_ticks: tuple[Tick, ...]
    request_ticks: tuple[Tick, ...]
    left: float
    right: float
    title: str


SCORE_TOP, SCORE_BASE, REQUESTS_TOP, REQUESTS_BASE = 14.0, 138.0, 166.0, 214.0


def evidence(alert: Mapping[str, Any], final: Mapping[str, Any]) -> Evidence | None:
    """The evidence plot of an alert; ``None`` without a curve."""
    curve = [(time_us(t), float(s), float(r)) for t, s, r, *_ in final.get("curve") or []]
    if not curve:
        return None
    curve.sort()
    alerted = alert.get("alerted_at")
    alerted_us = time_us(alerted) if alerted else None
    lo = min(time_us(final["first_suspicious_at"]), curve[0][0])
    hi = max(curve[-1][0], alerted_us or 0, time_us(final["peak_at"]))
    pad = max((hi - lo) // 25, 5_000_000)
    width, left = 560.0, 44.0
    right = width - 10
    x = Axis(lo - pad, hi + pad, left, right)
    threshold = float(alert["threshold"])
    y = Axis(0, 1.12 * max(threshold, *(c[1] for c in curve)), SCORE_BASE, SCORE_TOP)
    z = Axis(0, 1.1 * max(1.0, *(c[2] for c in curve)), REQUESTS_BASE, REQUESTS_TOP)
    score = _steps([(x.at(t), y.at(s)) for t, s, _ in curve], left, SCORE_BASE, right)
    requests = _steps([(x.at(t), z.at(r)) for t, _, r in curve], left, REQUESTS_BASE, right)
    title = (
        f"Score from {when(final['curve'][0][0])} UTC on: it reaches "
        f"{number(max(c[1] for c in curve))} against a threshold of {number(threshold)}; "
        f"{plural(curve[-1][2], 'suspicious request')} by the last point."
    )
    return Evidence(
        width,
        score,
        f"{score} V{SCORE_BASE} H{left} Z",
        requests,
        f"{requests} V{REQUESTS_BASE} H{left} Z",
        y.at(threshold),
        x.at(alerted_us) if alerted_us is not None else None,
        tuple(time_ticks(x, 6)),
        tuple(value_ticks(y)),
        tuple(value_ticks(z, 3)),
        left,
        right,
        title,
    )


def _steps(points: Sequence[tuple[float, float]], left: float, base: float, right: float) -> str:
    """An SVG path that holds each value until the next."""
    return f"M{left} {base}" + "".join(f" H{x} V{y}" for x, y in points) + f" H{right}"
