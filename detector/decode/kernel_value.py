"""Timestamps and addresses over bytes. ``timestamp.py`` and ``address.py`` state the rules."""

from __future__ import annotations

import numpy as np

from detector.core.network import TAG_V4
from detector.decode.bytes import load8
from detector.decode.timestamp import BAD, DIGITS_MAX, EPOCH_S_MAX, EPOCH_S_MIN, RANGE
from models._jit import njit

ASK = -3  # an exponent: rare enough for Python
_NO_TIME = -(1 << 62)
_NO_ZONE = 2 * 86_400

_MONTHS = np.frombuffer(b"JanFebMarAprMayJunJulAugSepOctNovDec", np.uint8)
_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
_POWERS = np.array([10**p for p in range(19)], np.int64)


@njit
def _digits(start: int, n: int) -> int:
    """The number written in n digits, or -1."""
    value = 0
    for i in range(start, start + n):
        digit = load8(i) - 48
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value


@njit
def _epoch_s(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    """Seconds since 1970 of a UTC civil time (second may be 60), or ``_NO_TIME``."""
    if month < 1 or month > 12 or day < 1 or hour > 23 or minute > 59 or second > 60:
        return _NO_TIME
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > _DAYS[month - 1] + (1 if is_leap and month == 2 else 0):
        return _NO_TIME
    # days since 0000-03-01, so that the leap day ends a year
    y = year - (1 if month <= 2 else 0)
    m = month + (9 if month <= 2 else -3)
    days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * m + 2) // 5 + day - 1
    return ((days - 719468) * 24 + hour) * 3600 + minute * 60 + second


@njit
def _zone_s(at: int, has_colon: bool) -> int:
    """Offset in seconds of ``+hh:mm`` or ``+hhmm`` at ``at``, or ``_NO_ZONE``."""
    sign = 1 if load8(at) == 43 else (-1 if load8(at) == 45 else 0)
    hours = _digits(at + 1, 2)
    minutes = _digits(at + (4 if has_colon else 3), 2)
    is_bad = sign == 0 or hours < 0 or hours > 23 or minutes < 0 or minutes > 59
    if is_bad or (has_colon and load8(at + 3) != 58):
        return _NO_ZONE
    return sign * (hours * 3600 + minutes * 60)


@njit
def _in_range(micros: int) -> int:
    return micros if EPOCH_S_MIN * 1_000_000 <= micros < EPOCH_S_MAX * 1_000_000 else RANGE


@njit
def _micros(second_of_epoch: int, second: int, micro: int) -> int:
    if second == 60:
        return (second_of_epoch - 1) * 1_000_000 + 999_999
    return second_of_epoch * 1_000_000 + micro


@njit
def _rfc3339(start: int, n: int) -> int:
    end = start + n
    if load8(start + 7) != 45 or load8(start + 13) != 58 or load8(start + 16) != 58:
        return BAD
    if load8(start + 10) != 84 and load8(start + 10) != 116 and load8(start + 10) != 32:
        return BAD
    year, month = _digits(start, 4), _digits(start + 5, 2)
    day, hour = _digits(start + 8, 2), _digits(start + 11, 2)
    minute, second = _digits(start + 14, 2), _digits(start + 17, 2)
    if min(year, month, day, hour, minute, second) < 0:
        return BAD
    at, micro, scale = start + 19, 0, 100_000
    if load8(at) == 46:
        at += 1
        first = at
        while at < end and 48 <= load8(at) <= 57:
            micro += scale * (load8(at) - 48)
            scale //= 10
            at += 1
        if at in (first, end):
            return BAD
    zone = 0
    if (load8(at) | 32) == 122:
        at += 1
    elif end - at == 6:
        zone = _zone_s(at, True)
        at += 6
    if at != end or zone == _NO_ZONE:
        return BAD
    epoch = _epoch_s(year, month, day, hour, minute, second)
    return BAD if epoch == _NO_TIME else _in_range(_micros(epoch - zone, second, micro))


@njit
def _number(start: int, n: int) -> int:
    end = start + n
    is_negative = load8(start) == 45
    at = first = start + (1 if is_negative else 0)
    while at < end and 48 <= load8(at) <= 57:
        at += 1
    whole_end = at
    if at < end and load8(at) == 46:
        at += 1
        while at < end and 48 <= load8(at) <= 57:
            at += 1
    if whole_end == first or at < end:
        is_exponent = at < end and (load8(at) | 32) == 101
        return ASK if whole_end > first and is_exponent else BAD
    if is_negative or max(whole_end - first, end - whole_end - 1) > DIGITS_MAX:
        return RANGE
    while first < whole_end and load8(first) == 48:
        first += 1
    if whole_end - first > 19:
        return RANGE
    return _scaled(first, whole_end, end)


@njit
def _scaled(first: int, whole_end: int, end: int) -> int:
    whole = np.uint64(0)
    for i in range(first, whole_end):
        whole = whole * np.uint64(10) + np.uint64(load8(i) - 48)
    if whole >= np.uint64(EPOCH_S_MAX) * np.uint64(1_000_000_000):
        return RANGE
    value = np.int64(whole)
    for power in (0, 3, 6, 9):
        if EPOCH_S_MIN * _POWERS[power] <= value < EPOCH_S_MAX * _POWERS[power]:
            if power >= 6:
                return value // _POWERS[power - 6]
            wanted = 6 - power
            value *= _POWERS[wanted]
            for k in range(min(wanted, end - whole_end - 1)):
                digit = load8(whole_end + 1 + k) - 48
                value += digit * _POWERS[wanted - 1 - k]
            return value
    return RANGE


@njit
def timestamp_us(start: int, n: int) -> int:
    """Event time in microseconds, or ``BAD``, ``RANGE`` or ``ASK``."""
    if n >= 20 and load8(start + 4) == 45 and (load8(start + 3) | 32) != 101:
        return _rfc3339(start, n)
    return _number(start, n)


@njit
def log_time_us(start: int, n: int) -> int:
    """Microseconds of ``21/Sep/2026:14:15:23 +0000``, or ``BAD`` or ``RANGE``."""
    if n != 26 or load8(start + 2) != 47 or load8(start + 6) != 47 or load8(start + 20) != 32:
        return BAD
    if load8(start + 11) != 58 or load8(start + 14) != 58 or load8(start + 17) != 58:
        return BAD
    month = 0
    for m in range(12):
        if (
            load8(start + 3) == _MONTHS[3 * m]
            and load8(start + 4) == _MONTHS[3 * m + 1]
            and load8(start + 5) == _MONTHS[3 * m + 2]
        ):
            month = m + 1
    day, year = _digits(start, 2), _digits(start + 7, 4)
    hour, minute = _digits(start + 12, 2), _digits(start + 15, 2)
    second = _digits(start + 18, 2)
    zone = _zone_s(start + 21, False)
    if min(day, year, hour, minute, second) < 0 or zone == _NO_ZONE:
        return BAD
    epoch = _epoch_s(year, month, day, hour, minute, second)
    return BAD if epoch == _NO_TIME else _in_range(_micros(epoch - zone, second, 0))


@njit
def network_v4(start: int, n: int) -> np.uint64:
    """The packed /24 of a plain ``a.b.c.d`` or ``a.b.c.d:port``; 0 for anything else."""
    at, end = start, start + n
    value = 0
    for part in range(4):
        first, number = at, 0
        while at < end and at - first < 3 and 48 <= load8(at) <= 57:
            number = number * 10 + load8(at) - 48
            at += 1
        wide = at - first
        if wide == 0 or number > 255 or (wide > 1 and load8(first) == 48):
            return np.uint64(0)
        value = value << 8 | number
        if part < 3:
            if at >= end or load8(at) != 46:
                return np.uint64(0)
            at += 1
    if at < end and not _is_port(at, end):
        return np.uint64(0)
    return np.uint64(TAG_V4) << np.uint64(60) | np.uint64(value >> 8)


@njit
def _is_port(at: int, end: int) -> bool:
    """Whether a colon and 1 to 5 digits fill the rest."""
    return load8(at) == 58 and 2 <= end - at <= 6 and _digits(at + 1, end - at - 1) >= 0
