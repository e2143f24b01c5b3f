"""The report of a replay: one HTML file that needs nothing else, neither network nor script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from detector.core.errors import UsageError
from replay.report.view import page

__all__ = ["render_report", "write_report"]

Records = Sequence[Mapping[str, Any]]


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("replay.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def render_report(
    summary: Mapping[str, Any],
    episodes: Records,
    alerts: Records | None = None,
    title: str = "Replay report",
) -> str:
    """The report as HTML.

    Parameters
    ----------
    summary
        The content of ``summary.json``. Read are, where present: ``lines``, ``accepted``,
        ``no_key``, ``auth_failed``, ``late``, ``rejected`` (a number by reason), ``keys``,
        ``first_event`` and ``last_event`` (RFC 3339), ``events_per_s``, ``bytes_per_key``,
        ``inputs`` (names) and ``notes`` (sentences worth reading, such as a damaged input).
    episodes
        Episode records in their final form.
    alerts
        The same records as of the alerting event; by default the episodes that were alerted.
    """
    return _template().render(page=page(summary, episodes, alerts, title))


def write_report(
    path: Path,
    summary: Mapping[str, Any],
    episodes: Records,
    alerts: Records | None = None,
    title: str = "Replay report",
) -> None:
    """Writes ``render_report`` to a file; raises ``UsageError`` when it cannot."""
    text = render_report(summary, episodes, alerts, title)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise UsageError(f"cannot write {path}: {e.strerror}") from e
