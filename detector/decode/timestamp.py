"""Event time: the rules, in plain Python. The kernels are tested against this.

Text: RFC 3339 with any offset, ``T``, ``t`` or a space between date and time; digits after
the microsecond are dropped; second 60 counts as the minute's last microsecond.

Numbers (JSON numbers, or the same as text): the unit follows from the magnitude, because
only the years 2000 to 2100 are accepted and the four ranges do not overlap:

- seconds       946684800 to under 4133980800, with a fraction
- milliseconds  the same times 10^3, with a fraction
- microseconds  the same times 10^6
- nanoseconds   the same times 10^9

Anything outside is out of range; signs but a leading ``-``, NaN and infinities are bad.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EPOCH_S_MIN = 946_684_800  # 2000-01-01T00:00:00Z
EPOCH_S_MAX = 4_133_980_800  # 2101-01-01T00:00:00Z, excluded
BAD, RANGE = -1, -2
DIGITS_MAX = 400

_TEXT = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?"
    rb"(?:[Zz]|([+-])(\d\d):(\d\d))\Z"
)
_NUMBER = re.compile(rb"(-?)(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d+))?\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def parse_timestamp(text: bytes) -> int:
    """Microseconds since 1970 UTC, or ``BAD`` or ``RANGE``.

    >>> parse_timestamp(b"2026-09-21T16:15:23.5+02:00"), parse_timestamp(b"1790000123500")
    (1790000123500000, 1790000123500000)
    >>> parse_timestamp(b"2026-09-21"), parse_timestamp(b"0")
    (-1, -2)
    """
    if match := _TEXT.match(text):
        return _from_text(match)
    if match := _NUMBER.match(text):
        return _from_number(match)
    return BAD


def _from_text(match: re.Match[bytes]) -> int:
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    micro = int((match[7] or b"0")[:6].ljust(6, b"0"))
    if second == 60:
        second, micro = 59, 999_999
    zone_h, zone_m = int(match[9] or 0), int(match[10] or 0)
    if zone_h > 23 or zone_m > 59:
        return BAD
    try:
        at = datetime(year or 4, month, day, hour, minute, second, micro, tzinfo=UTC)
    except ValueError:
        return BAD
    offset = timedelta(hours=zone_h, minutes=zone_m)
    behind = (at - _EPOCH) // _US + (offset // _US) * (1 if match[8] == b"-" else -1)
    return behind if EPOCH_S_MIN * 10**6 <= behind < EPOCH_S_MAX * 10**6 else RANGE


def _from_number(match: re.Match[bytes]) -> int:
    sign, whole, fraction, exponent = (part or b"" for part in match.groups())
    if sign or max(len(whole), len(fraction)) > DIGITS_MAX or len(exponent) > 4:
        return RANGE
    digits = int(whole + fraction)
    shift = int(exponent or b"0") - len(fraction)
    for power in (0, 3, 6, 9):
        micros = _scaled(digits, shift + 6 - power)
        if EPOCH_S_MIN * 10**6 <= micros < EPOCH_S_MAX * 10**6:
            return micros
    return RANGE


def _scaled(digits: int, power: int) -> int:
    factor: int = 10 ** abs(power)
    return digits * factor if power >= 0 else digits // factor
