"""The deciding reader of canonical events: slower, tolerant, and never raising.

Coercions, the same for every field:

- ``null``, ``""`` and ``"-"`` are missing values;
- numbers may be text (``"200"``, ``"200.0"``) and whole floats (``200.0``);
- ``key_id``, ``api_key``, ``owner`` may be whole numbers: their digits are the text;
- of a field given twice the last counts; unknown fields are ignored, whatever they hold.

Anything else of a wrong type refuses the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from msgspec import Raw

from detector.decode import faults
from detector.decode.rows import (
    API_KEY,
    AUTH,
    BYTES,
    CREDENTIAL,
    KEY_ID,
    METHOD,
    OWNER,
    PATH,
    ROUTE,
    SOURCE_IP,
    STATUS,
    TS,
    USER_AGENT,
)
from detector.decode.settings import EVENTS_PER_MESSAGE_MAX

_BOM = b"\xef\xbb\xbf"
_NUMBER_BYTES_MAX = 32
_NUMBER_MAX = 10**18
_NULL = Raw(b"null")


class _TypedEvent(msgspec.Struct, gc=False):
    """Fields of their own types: most events that the scanner refuses are read as this."""

    ts: Raw = _NULL
    key_id: str | None = None
    api_key: str | None = None
    method: str | None = None
    path: str | None = None
    route: str | None = None
    source_ip: str | None = None
    user_agent: str | None = None
    auth: str | None = None
    owner: str | None = None
    credential: Raw = _NULL
    status: int | None = None
    bytes: int | None = None


class _Event(msgspec.Struct, gc=False):
    ts: Raw = _NULL
    key_id: Raw = _NULL
    api_key: Raw = _NULL
    method: Raw = _NULL
    path: Raw = _NULL
    route: Raw = _NULL
    source_ip: Raw = _NULL
    user_agent: Raw = _NULL
    auth: Raw = _NULL
    owner: Raw = _NULL
    credential: Raw = _NULL
    status: Raw = _NULL
    bytes: Raw = _NULL


_decode_typed = msgspec.json.Decoder(_TypedEvent).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_array = msgspec.json.Decoder(list[Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_TEXT_FIELDS = (METHOD, PATH, ROUTE, SOURCE_IP, USER_AGENT, AUTH)
_NAME_FIELDS = (KEY_ID, API_KEY, OWNER)


class Refused(Exception):  # noqa: N818 - control flow inside this package, never an error outside
    """The record has the fault of this number."""

    def __init__(self, fault: int) -> None:
        self.fault = fault


@dataclass(slots=True)
class Parsed:
    """One event's present text fields as bytes, and its numbers."""

    texts: dict[int, bytes] = field(default_factory=dict, repr=False)
    status: int = 0
    size_bytes: int = 0


def events_of(record: bytes) -> list[bytes]:
    """The events of a message: its array's members, or the record itself.

    Raises ``Refused``.
    """
    body = record[3:] if record.startswith(_BOM) else record
    if not body.lstrip(b" \t\r\n").startswith(b"["):
        return [record]
    _require_utf8(body)
    try:
        members = _decode_array(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:
        raise Refused(faults.NOT_JSON) from e
    if len(members) > EVENTS_PER_MESSAGE_MAX:
        raise Refused(faults.TOO_MANY)
    return [bytes(member) for member in members]


def parse_event(record: bytes) -> Parsed:
    """Reads one canonical event. Raises ``Refused``."""
    if record.startswith(_BOM):
        record = record[3:]
    if not record.strip(b" \t\r\n"):
        raise Refused(faults.EMPTY)
    _require_utf8(record)
    try:
        return _from_typed(_decode_typed(record))
    except (msgspec.ValidationError, Refused):
        pass  # a field of another type: to be coerced or named
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:
        raise Refused(faults.NOT_JSON) from e
    try:
        event = _decode_event(record)
    except msgspec.ValidationError as e:
        raise Refused(faults.NOT_OBJECT) from e
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:
        raise Refused(faults.NOT_JSON) from e
    return _interpret(event)


def _require_utf8(record: bytes) -> None:
    try:
        record.decode()
    except UnicodeDecodeError as e:
        raise Refused(faults.NOT_UTF8) from e


def _from_typed(event: _TypedEvent) -> Parsed:
    out = Parsed()
    _set(out, TS, _ts(bytes(event.ts)))
    for at, value in (
        (KEY_ID, event.key_id),
        (API_KEY, event.api_key),
        (METHOD, event.method),
        (PATH, event.path),
        (ROUTE, event.route),
        (SOURCE_IP, event.source_ip),
        (USER_AGENT, event.user_agent),
        (AUTH, event.auth),
        (OWNER, event.owner),
    ):
        if value:
            _set(out, at, value.encode())
    _set(out, CREDENTIAL, _credential(bytes(event.credential)))
    out.status, out.size_bytes = _clipped(event.status), _clipped(event.bytes)
    return out


def _clipped(value: int | None) -> int:
    return min(max(value or 0, -_NUMBER_MAX), _NUMBER_MAX)


def _interpret(event: _Event) -> Parsed:
    raw = [bytes(getattr(event, name)) for name in faults.FIELD_NAMES]
    out = Parsed()
    _set(out, TS, _ts(raw[TS]))
    for at in _NAME_FIELDS:
        _set(out, at, _name(at, raw[at]))
    for at in _TEXT_FIELDS:
        _set(out, at, _text(at, raw[at]))
    _set(out, CREDENTIAL, _credential(raw[CREDENTIAL]))
    out.status, out.size_bytes = _number(STATUS, raw[STATUS]), _number(BYTES, raw[BYTES])
    return out


def _set(out: Parsed, at: int, value: bytes) -> None:
    if value and value != b"-":
        out.texts[at] = value


def _text(at: int, raw: bytes) -> bytes:
    if raw == b"null":
        return b""
    if raw[:1] != b'"':
        raise Refused(faults.FIELD_TYPE + at)
    try:
        return _decode_text(raw).encode()
    except (msgspec.MsgspecError, ValueError) as e:
        raise Refused(faults.NOT_JSON) from e


def _ts(raw: bytes) -> bytes:
    return raw if _is_number(raw) else _text(TS, raw)


def _name(at: int, raw: bytes) -> bytes:
    return raw if raw.lstrip(b"-").isdigit() else _text(at, raw)


def _credential(raw: bytes) -> bytes:
    if raw != b"null" and raw[:1] != b"{":
        raise Refused(faults.FIELD_TYPE + CREDENTIAL)
    return b"" if raw == b"null" else raw


def _is_number(raw: bytes) -> bool:
    return raw[:1] in (b"-", b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9")


def _number(at: int, raw: bytes) -> int:
    text = raw if _is_number(raw) else _text(at, raw)
    if text in (b"", b"-"):
        return 0
    return whole_number(at, text)


def whole_number(at: int, text: bytes) -> int:
    """The whole number in a decimal text, clipped to +-10^18. Raises ``Refused``."""
    digits = text[1:] if text[:1] == b"-" else text
    if digits.isdigit():
        value = int(digits) if len(digits.lstrip(b"0")) <= 18 else _NUMBER_MAX
        return -value if text[:1] == b"-" else value
    if len(text) > _NUMBER_BYTES_MAX or not set(text) <= set(b"0123456789+-.eE"):
        raise Refused(faults.FIELD_TYPE + at)
    try:
        number = float(text)
    except ValueError as e:
        raise Refused(faults.FIELD_TYPE + at) from e
    if not number.is_integer():
        raise Refused(faults.FIELD_TYPE + at)
    return int(min(max(number, -1e18), 1e18))
