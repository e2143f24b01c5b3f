"""Event time: golden cases, and kernel == reference."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.decode.bytes import PAD
from detector.decode.kernel_value import ASK, log_time_us, timestamp_us
from detector.decode.timestamp import BAD, RANGE, parse_timestamp
from models._jit import njit

from .helpers import TS_US


@njit
def _time(data, n):
    return timestamp_us(np.int64(data.ctypes.data), n)


@njit
def _log_time(data, n):
    return log_time_us(np.int64(data.ctypes.data), n)


def by_kernel(text: bytes) -> int:
    return int(_time(np.frombuffer(text + PAD, np.uint8), len(text)))


GOLDEN = [
    (b"2026-09-21T14:15:23Z", TS_US),
    (b"2026-09-21t14:15:23z", TS_US),
    (b"2026-09-21 14:15:23Z", TS_US),
    (b"2026-09-21T16:15:23+02:00", TS_US),
    (b"2026-09-21T08:45:23-05:30", TS_US),
    (b"2026-09-21T14:15:23.456Z", TS_US + 456_000),
    (b"2026-09-21T14:15:23.123456789Z", TS_US + 123_456),
    (b"2026-09-21T14:15:23.9999999999999Z", TS_US + 999_999),
    (b"2016-12-31T23:59:60Z", 1_483_228_799_999_999),  # a leap second
    (b"2024-02-29T00:00:00Z", 1_709_164_800_000_000),
    (b"2000-01-01T00:00:00Z", 946_684_800_000_000),
    (b"2100-12-31T23:59:59Z", 4_133_980_799_000_000),
    (b"1790000123", TS_US),
    (b"1790000123.456", TS_US + 456_000),
    (b"1790000123456", TS_US + 456_000),
    (b"1790000123456.789", TS_US + 456_789),
    (b"1790000123456789", TS_US + 456_789),
    (b"1790000123456789123", TS_US + 456_789),
    (b"1.790000123456e9", TS_US + 456_000),
    (b"1790000123456789e3", TS_US + 456_789),
    (b"2026-09-21T14:15:23", BAD),  # no offset
    (b"2026-09-21", BAD),
    (b"2023-02-29T00:00:00Z", BAD),
    (b"2026-13-01T00:00:00Z", BAD),
    (b"2026-09-21T24:00:00Z", BAD),
    (b"2026-09-21T14:60:00Z", BAD),
    (b"2026-09-21T14:15:61Z", BAD),
    (b"2026-09-21T14:15:23.Z", BAD),
    (b"2026-09-21T14:15:23,5Z", BAD),
    (b"2026-09-21T14:15:23+0200", BAD),
    (b"2026-09-21T14:15:23+24:00", BAD),
    (b"2026-09-21T14:15:23Zjunk", BAD),
    (b"NaN", BAD),
    (b"Infinity", BAD),
    (b"-inf", BAD),
    (b"+1790000123", BAD),
    (b"now", BAD),
    (b"0x6ab1", BAD),
    (b"1999-12-31T23:59:59Z", RANGE),
    (b"2101-01-01T00:00:00Z", RANGE),
    (b"9999-12-31T23:59:59Z", RANGE),
    (b"0000-02-29T00:00:00Z", RANGE),
    (b"0", RANGE),
    (b"-1", RANGE),
    (b"1e999", RANGE),
    (b"1e-9999", RANGE),
    (b"5000000000", RANGE),  # neither s nor ms between 2000 and 2100
    (b"9" * 5000, RANGE),
    (b"17900001234567891234", RANGE),
]


@pytest.mark.parametrize(("text", "expected"), GOLDEN, ids=[repr(t[:30]) for t, _ in GOLDEN])
def test_golden_times(text, expected):
    """Each rule of timestamp.py, in the reference and (but for exponents) in the kernel."""
    assert parse_timestamp(text) == expected
    assert by_kernel(text) in (expected, ASK)
    assert by_kernel(text) != ASK or b"e" in text


ALMOST = st.from_regex(
    r"(19|20|21)\d\d-[01]\d-[0-3]\d[Tt ][0-2]\d:[0-6]\d:[0-6]\d"
    r"(\.\d{0,9})?([Zz]|[+-][0-2]\d:[0-6]\d)?",
    fullmatch=True,
)
NUMBERS = st.from_regex(r"-?\d{0,22}(\.\d{0,12})?", fullmatch=True)


@settings(max_examples=1000, deadline=None)
@given(st.one_of(ALMOST.map(str.encode), NUMBERS.map(str.encode), st.binary(max_size=40)))
@example(b"1.2e-00000000000000009")
@example(b"2000-01-01T00:00:00+00:01")
@example(b"1969-12-31T23:59:59Z")
def test_kernel_equals_reference(text):
    """Any bytes: the same microsecond or the same fault; exponents are left to Python."""
    found = by_kernel(text)
    if found == ASK:
        assert b"e" in text.lower()
    elif text:
        assert found == parse_timestamp(text)


@settings(max_examples=300, deadline=None)
@given(
    st.datetimes(datetime(2000, 1, 2), datetime(2100, 12, 30)),  # noqa: DTZ001
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_the_standard_library_agrees(local, offset_min):
    """datetime.isoformat of any time and offset is read back exactly, and so is a log's time."""
    at = local.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
    expected = (at - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)  # noqa: UP017
    assert by_kernel(at.isoformat().encode()) == expected
    text = at.strftime("%d/%b/%Y:%H:%M:%S %z").encode()
    found = _log_time(np.frombuffer(text + PAD, np.uint8), len(text))
    assert found == expected - local.microsecond


@pytest.mark.parametrize(
    "text",
    [
        b"21/Sep/2026:14:15:23",
        b"21/Xxx/2026:14:15:23 +0000",
        b"31/Feb/2026:14:15:23 +0000",
        b"21-Sep-2026:14:15:23 +0000",
        b"21/Sep/2026:14:15:23 *0000",
        b"21/Sep/2026:14:15:2x +0000",
    ],
)
def test_bad_log_times(text):
    """A wrong date, month, offset or separator is no time."""
    assert _log_time(np.frombuffer(text + PAD, np.uint8), len(text)) == BAD
