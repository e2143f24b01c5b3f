"""Structured logs on stderr: ours and the Kafka client's, through one formatter.

Log-derived text is escaped before it is written, so no value can forge a line or steer a
terminal. No event's content is ever logged, only counts and positions.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

from detector.safe_text import safe

_VALUE_LENGTH_MAX = 500


def configure_logs(
    format: Literal["json", "console"],  # noqa: A002 - the configuration's word
    level: str,
    stream: TextIO | None = None,
) -> None:
    """Sets up logging for the whole process. Call once, before anything logs.

    The Kafka client's own messages are passed on from ``warning`` up, or ``info`` up at
    level ``debug``; its debug messages could show credentials and never are.
    """
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        inert,
    ]
    last: Any = structlog.processors.JSONRenderer()
    if format == "console":
        last = structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("keywatch").setLevel(level.upper())
    logging.getLogger("kafka").setLevel(logging.INFO if level == "debug" else logging.WARNING)


def inert(logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escapes every text value; a stack trace becomes one line."""
    del logger, name
    for key, value in event.items():
        if isinstance(value, str) and not key.startswith("_"):
            event[key] = safe(value, _VALUE_LENGTH_MAX)
        elif isinstance(value, list | tuple | dict | set | frozenset):
            event[key] = safe(repr(value), _VALUE_LENGTH_MAX)
    return event
