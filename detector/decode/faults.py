"""Why a record is refused: a closed list, so that no content can leak into a message.

Kernels speak in these numbers. 0 is "no fault"; ``SLOW`` is not a fault but the fast
scanner's "not mine".
"""

from __future__ import annotations

from detector.core.events import Rejected

SLOW = -1
OK = 0
EMPTY = 1
NOT_UTF8 = 2
NOT_JSON = 3
NOT_OBJECT = 4
UNDECIDED = 5
TOO_LARGE = 6
TOO_MANY = 7
MISSING_TS = 8
BAD_TS = 9
TS_RANGE = 10
STATUS_RANGE = 11
BYTES_RANGE = 12
BAD_AUTH = 13
BAD_LINE = 14
BAD_LINE_TIME = 15
BAD_LINE_NUMBER = 16
FIELD_TYPE = 32  # + the field's number

FIELD_NAMES = (
    "ts",
    "key_id",
    "api_key",
    "method",
    "path",
    "route",
    "source_ip",
    "user_agent",
    "auth",
    "owner",
    "credential",
    "status",
    "bytes",
)

_SENTENCES: dict[int, tuple[str, str]] = {
    EMPTY: ("not_json", "the record is empty"),
    NOT_UTF8: ("not_utf8", "the record is not valid UTF-8"),
    NOT_JSON: ("not_json", "the record is not valid JSON"),
    NOT_OBJECT: ("wrong_type", "an event must be a JSON object"),
    UNDECIDED: ("not_json", "the record is neither a JSON event nor a combined log line"),
    TOO_LARGE: ("too_large", "the record is longer than value_bytes_max"),
    TOO_MANY: ("too_large", "the message holds more than 10000 events"),
    MISSING_TS: ("missing_ts", "the event has no ts"),
    BAD_TS: ("bad_ts", "ts is neither RFC 3339 text with an offset nor an epoch number"),
    TS_RANGE: ("out_of_range", "ts lies outside the years 2000 to 2100"),
    STATUS_RANGE: ("out_of_range", "status is not between 100 and 999"),
    BYTES_RANGE: ("out_of_range", "bytes is negative"),
    BAD_AUTH: ("wrong_type", "auth must be ok, failed or unknown"),
    BAD_LINE: ("bad_line", "the line is not in nginx's combined format"),
    BAD_LINE_TIME: ("bad_line", "the line's time is not like 21/Sep/2026:14:15:23 +0000"),
    BAD_LINE_NUMBER: ("bad_line", "the line's status or size is not a number"),
}
_KINDS = {"status": "a whole number", "bytes": "a whole number", "credential": "an object"}


def rejected(
    fault: int, source: str, partition: int, offset: int, index: int, size_bytes: int
) -> Rejected:
    """The record's refusal as a value."""
    if fault >= FIELD_TYPE:
        name = FIELD_NAMES[fault - FIELD_TYPE]
        kind = "text or a number" if name == "ts" else _KINDS.get(name, "text")
        reason, detail = "wrong_type", f"{name} must be {kind}"
    else:
        reason, detail = _SENTENCES[fault]
    return Rejected(source, partition, offset, index, reason, detail, size_bytes)
