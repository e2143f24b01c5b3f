"""nginx combined lines, and the choice between formats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from detector.core.events import AUTH_FAILED
from detector.decode import make_decoder

from .helpers import TS_US, decode, event, reasons, records, settings, shown

LINE = (
    '203.0.113.7 - key_1 [21/Sep/2026:14:15:23 +0000] "GET /v1/orders/8812?x=1 HTTP/1.1" '
    '200 1873 "https://acme.test/" "acme-sdk/2.4 python/3.12"'
)


def line(**changes) -> bytes:
    parts = {
        "ip": "203.0.113.7",
        "user": "key_1",
        "time": "21/Sep/2026:14:15:23 +0000",
        "request": "GET /v1/orders/8812?x=1 HTTP/1.1",
        "status": "200",
        "bytes": "1873",
        "agent": "acme-sdk/2.4",
        "tail": "",
    } | changes
    return (
        '{ip} - {user} [{time}] "{request}" {status} {bytes} "-" "{agent}"{tail}'.format(**parts)
    ).encode()


def combined(*values, **changes):
    return decode(*values, form="combined", **changes)


def test_a_whole_line():
    """Every variable of the combined format reaches its column; the key is $remote_user."""
    (only,) = shown(combined(LINE.encode()).batch)
    assert only == {
        "ts_us": TS_US,
        "key": "key_1",
        "network": "203.0.113.0/24",
        "client": "acme-sdk/2",
        "route": "GET /v1/orders/{id}",
        "area": "/v1/orders",
        "has_ident": True,
        "block": "203.0.0.0/16",
        "number": 1,
        "place": 0,
        "status": 200,
        "auth": 0,
        "size_bytes": 1873,
        "offset": 0,
        "index": 0,
    }


@pytest.mark.parametrize(
    ("changes", "column", "value"),
    [
        ({"user": "-"}, "key", None),
        ({"user": "john doe"}, "key", "john doe"),
        ({"user": "a[1]"}, "key", "a[1]"),
        ({"time": "21/Sep/2026:16:15:23 +0200"}, "ts_us", TS_US),
        ({"status": "000"}, "status", 0),
        ({"status": "401"}, "auth", AUTH_FAILED),
        ({"bytes": "-"}, "size_bytes", 0),
        ({"agent": "-"}, "client", None),
        ({"agent": r"x\"y/1"}, "client", r"x\"y/1"),
        ({"request": "-"}, "route", None),
        ({"request": ""}, "route", None),
        ({"request": r"\x16\x03\x01\x02"}, "route", None),
        ({"request": r"\x16\x03 /etc/passwd HTTP/1.1"}, "route", None),
        ({"request": "GET /x"}, "route", "GET /x"),
        ({"request": "OPTIONS * HTTP/1.1"}, "route", "OPTIONS /*"),
        ({"request": "CONNECT host.test:443 HTTP/1.1"}, "route", "CONNECT /host.test:443"),
        ({"request": "GET http://h.test/a/77 HTTP/1.1"}, "route", "GET /a/{id}"),
        ({"request": r"GET /a\x22b HTTP/1.1"}, "route", "GET /{id}"),
        ({"tail": "\r\n"}, "key", "key_1"),
        ({"agent": "données"}, "client", "données"),
    ],
)
def test_variations(changes, column, value):
    """Missing values, odd requests (which scanners send all day), offsets, escapes, line ends."""
    decoded = combined(line(**changes))
    assert not decoded.rejected
    assert shown(decoded.batch)[0][column] == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "bad_line"),
        (b"hello", "bad_line"),
        (b'{"ts":1}', "bad_line"),
        (LINE[:60].encode(), "bad_line"),
        (LINE[:-1].encode(), "bad_line"),
        (LINE.encode() + b" extra", "bad_line"),
        (LINE.encode() + b' "x" "y"', "bad_line"),
        (LINE.replace(" 200 ", " OK ").encode(), "bad_line"),
        (LINE.replace(" 1873 ", " -1 ").encode(), "bad_line"),
        (LINE.replace("[21/Sep", "[21/Foo").encode(), "bad_line"),
        (LINE.replace("[21/Sep/2026:14:15:23 +0000]", "[]").encode(), "bad_line"),
        (LINE.replace("2026", "1999").encode(), "out_of_range"),
        (LINE.replace(" 200 ", " 99 ").encode(), "out_of_range"),
        (LINE.replace("acme-sdk", "\udcff").encode("utf-8", "surrogateescape"), "not_utf8"),
    ],
)
def test_refusals(value, reason):
    """What is not a combined line is refused, and the next line is read."""
    decoded = combined(value, LINE.encode())
    assert reasons(decoded) == [reason]
    assert decoded.batch.offset.tolist() == [1]


def test_the_common_format_is_the_beginning_of_combined():
    """Without referer and agent: read, client unknown."""
    common = LINE[: LINE.index(' "https')].encode()
    assert shown(combined(common).batch)[0]["client"] is None


@pytest.mark.parametrize(
    ("proxies", "tail", "network"),
    [
        ((), ' "198.51.100.9"', "203.0.113.0/24"),
        (("203.0.113.0/24",), ' "198.51.100.9"', "198.51.100.0/24"),
        (("203.0.113.0/24",), ' "6.6.6.6, 198.51.100.9"', "198.51.100.0/24"),
        (("203.0.113.0/24",), ' "-"', "203.0.113.0/24"),
        (("192.0.2.0/24",), ' "6.6.6.6"', "203.0.113.0/24"),
    ],
)
def test_forwarded_for_counts_behind_trusted_proxies_only(proxies, tail, network):
    """The peer itself is the right end of the chain: untrusted, it is the client."""
    decoded = combined(line(tail=tail), line(tail=tail), trusted_proxies=proxies)
    assert [e["network"] for e in shown(decoded.batch)] == [network] * 2


@pytest.mark.parametrize(
    ("values", "chosen", "n_rejected"),
    [
        ([event(), LINE.encode()], "canonical", 1),
        ([b"[" + event() + b"]"], "canonical", 0),
        ([LINE.encode(), event()], "combined", 1),
        ([b"", b"garbage", b"{broken", LINE.encode()], "combined", 3),
        ([b"", b"garbage"], None, 2),
        ([b"\xef\xbb\xbf" + event()], "canonical", 0),
    ],
)
def test_auto_decides_once_by_the_first_clear_record(values, chosen, n_rejected):
    """The same however the records are cut into batches; records before it are refused."""
    whole, cut = make_decoder("auto", settings()), make_decoder("auto", settings())
    decoded = whole.decode(records(values))
    parts = [cut.decode(records([v], first=i)) for i, v in enumerate(values)]
    assert whole.chosen == cut.chosen == chosen
    assert len(decoded.rejected) == n_rejected
    assert [r for part in parts for r in part.rejected] == decoded.rejected
    assert [e for part in parts for e in shown(part.batch)] == shown(decoded.batch)


PIECE = st.sampled_from(['"', "[", "]", " ", "-", "\\", "é", "\n", "1", "GET", "/"])


@run(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(LINE)), PIECE, st.booleans()), max_size=4))
def test_changed_lines_are_read_or_refused(changes):
    """Any damage gives one event or one refusal, and does not reach the next line."""
    text = LINE
    for at, piece, replace in changes:
        text = text[:at] + piece + text[at + replace :]
    decoded = combined(text.encode(), LINE.encode())
    assert len(decoded.batch) + len(decoded.rejected) == 2
    assert shown(decoded.batch)[-1] == shown(combined(LINE.encode()).batch)[0] | {"offset": 1}
