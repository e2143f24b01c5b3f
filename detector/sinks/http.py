"""What the HTTP sinks share."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any


def parse_retry_after(value: Any, now: datetime | None = None) -> float | None:
    """Seconds asked for by a ``Retry-After`` header; ``None`` when absent or unreadable.

    slack-sdk gives a list. A date is understood when ``now`` is given.

    >>> parse_retry_after("30"), parse_retry_after(["1"]), parse_retry_after("soon")
    (30.0, 1.0, None)
    >>> from datetime import UTC
    >>> parse_retry_after("Mon, 21 Sep 2026 14:00:05 GMT", datetime(2026, 9, 21, 14, tzinfo=UTC))
    5.0
    """
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    if value is None:
        return None
    text = str(value).strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    if now is None:
        return None
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError):
        return None
