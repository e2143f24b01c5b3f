"""Canonical events: fields, missing values, coercions, arrays; fast scanner == tolerant reader."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as run
from hypothesis import strategies as st

from detector.core.events import AUTH_FAILED, AUTH_OK, AUTH_UNKNOWN, EventBatch
from detector.decode import decoder as decoder_module
from detector.decode import faults, make_decoder
from detector.decode.key_names import fingerprint

from .helpers import PEPPER, TS, TS_US, decode, event, one, reasons, records, same, settings, shown


def test_a_whole_event():
    """Every field of the contract reaches its column; unknown fields are ignored."""
    decoded = decode(
        event(
            key_id="key_1",
            method="get",
            path="/v1/orders/8812?expand=items",
            status=200,
            source_ip="203.0.113.24",
            user_agent="acme-sdk/2.4 python/3.12",
            bytes=1873,
            latency_ms=41.5,
            request_id="r-1",
            owner="acme",
            auth="ok",
            credential={"id": "cred-9", "consumer": 7, "nested": {"a": 1}, "none": None},
            label="anything",
        )
    )
    assert shown(decoded.batch) == [
        {
            "ts_us": TS_US,
            "key": "key_1",
            "network": "203.0.113.0/24",
            "client": "acme-sdk/2",
            "route": "GET /v1/orders/{id}",
            "area": "/v1/orders",
            "has_ident": True,
            "block": "203.0.0.0/16",
            "number": 8812,
            "place": 0,
            "status": 200,
            "auth": AUTH_OK,
            "size_bytes": 1873,
            "offset": 0,
            "index": 0,
        }
    ]
    (name,) = decoded.batch.names.keys.values()
    assert (name.owner, name.credential) == ("acme", (("consumer", "7"), ("id", "cred-9")))
    assert decoded.no_key == 0


@pytest.mark.parametrize("nothing", [None, "", "-"])
def test_everything_but_ts_may_be_missing(nothing):
    """null, empty and "-" are the same as absent, for every field."""
    names = [n for n in faults.FIELD_NAMES if n not in ("ts", "credential")]
    decoded = decode(event(), event(**dict.fromkeys(names, nothing)))
    first, second = shown(decoded.batch)
    assert first | {"offset": 1} == second
    assert (first["key"], first["route"], first["network"], first["client"]) == (None,) * 4
    assert (first["status"], first["size_bytes"], first["auth"]) == (0, 0, AUTH_UNKNOWN)
    assert (first["block"], first["number"], first["place"]) == (None, -1, 0)
    assert not decoded.batch.key_hi.any()
    assert not decoded.batch.key_lo.any()
    assert decoded.no_key == 2


@pytest.mark.parametrize(
    ("fields", "column", "value"),
    [
        ({"ts": "1790000123"}, "ts_us", TS_US),
        ({"ts": 1790000123.5}, "ts_us", TS_US + 500_000),
        ({"ts": 1790000123500}, "ts_us", TS_US + 500_000),
        ({"status": "404"}, "status", 404),
        ({"status": 404.0}, "status", 404),
        ({"status": "404.0"}, "status", 404),
        ({"status": -1}, "status", 0),
        ({"status": 0}, "status", 0),
        ({"status": 100}, "status", 100),
        ({"status": 999}, "status", 999),
        ({"bytes": "123"}, "size_bytes", 123),
        ({"bytes": -1}, "size_bytes", 0),
        ({"bytes": 10**30}, "size_bytes", 1 << 50),
        ({"bytes": "1e3"}, "size_bytes", 1000),
        ({"key_id": 12345}, "key", "12345"),
        ({"key_id": "-", "api_key": "raw"}, "key", fingerprint(b"raw", PEPPER)),
        ({"path": "/x"}, "route", "- /x"),
        ({"path": "/x", "method": "PROPFIND"}, "route", "PROPFIND /x"),
        ({"path": "/x", "method": "a b"}, "route", "OTHER /x"),
        ({"method": "GET"}, "route", None),
        ({"route": "/v1/orders/:id", "method": "GET"}, "route", "GET /v1/orders/:id"),
        (
            {"route": "orders-get", "path": "/v1/orders/8", "method": "GET"},
            "route",
            "GET orders-get",
        ),
        ({"route": "orders-get", "path": "/v1/orders/8", "method": "GET"}, "has_ident", True),
        ({"route": "/v1/orders/:id", "method": "GET"}, "area", "/v1/orders"),
        ({"status": 401}, "auth", AUTH_FAILED),
        ({"status": 403}, "auth", AUTH_UNKNOWN),
        ({"status": 401, "auth": "unknown"}, "auth", AUTH_UNKNOWN),
        ({"status": 200, "auth": "failed"}, "auth", AUTH_FAILED),
        ({"status": 401, "auth": "ok"}, "auth", AUTH_OK),
    ],
)
def test_coercions(fields, column, value):
    """Numbers as text, text as numbers where an id may be one, ranges, and the auth default."""
    assert one(**fields)[column] == value


@pytest.mark.parametrize(
    ("fields", "reason", "word"),
    [
        ({"ts": None}, "missing_ts", "ts"),
        ({"ts": "-"}, "missing_ts", "ts"),
        ({"ts": "yesterday"}, "bad_ts", "ts"),
        ({"ts": True}, "wrong_type", "ts"),
        ({"ts": [1]}, "wrong_type", "ts"),
        ({"ts": "1999-01-01T00:00:00Z"}, "out_of_range", "ts"),
        ({"status": True}, "wrong_type", "status"),
        ({"status": 200.5}, "wrong_type", "status"),
        ({"status": "OK"}, "wrong_type", "status"),
        ({"status": "²"}, "wrong_type", "status"),
        ({"status": "nan"}, "wrong_type", "status"),
        ({"status": 99}, "out_of_range", "status"),
        ({"status": 1000}, "out_of_range", "status"),
        ({"status": -2}, "out_of_range", "status"),
        ({"status": 10**40}, "out_of_range", "status"),
        ({"bytes": -2}, "out_of_range", "bytes"),
        ({"bytes": [1]}, "wrong_type", "bytes"),
        ({"source_ip": 3405803776}, "wrong_type", "source_ip"),
        ({"user_agent": ["a"]}, "wrong_type", "user_agent"),
        ({"key_id": True}, "wrong_type", "key_id"),
        ({"key_id": {"a": 1}}, "wrong_type", "key_id"),
        ({"key_id": 1.5}, "wrong_type", "key_id"),
        ({"auth": "yes"}, "wrong_type", "auth"),
        ({"auth": "OK"}, "wrong_type", "auth"),
        ({"auth": "unknown!"}, "wrong_type", "auth"),
        ({"credential": "id"}, "wrong_type", "credential"),
    ],
)
def test_refusals(fields, reason, word):
    """A wrong value refuses its event alone, with a reason of the list and the field's name."""
    decoded = decode(event(), event(**fields), event())
    assert reasons(decoded) == [reason]
    refused = decoded.rejected[0]
    assert word in refused.detail
    assert (refused.source, refused.partition, refused.offset) == ("file.ndjson", 3, 1)
    assert refused.size_bytes == len(event(**fields))
    assert decoded.batch.offset.tolist() == [0, 2]


def test_an_array_is_several_events_of_one_message():
    """Members keep their message's offset and get their position; bad ones are refused alone."""
    array = b'[{"ts":"%s","key_id":"a"}, 7, {"ts":1790000123}, {}]' % TS.encode()
    decoded = decode(event(key_id="x"), array, b"[]", b" \n[ ]", event(key_id="y"))
    places = [(e["offset"], e["index"], e["key"]) for e in shown(decoded.batch)]
    assert places == [(0, 0, "x"), (1, 0, "a"), (1, 2, None), (4, 0, "y")]
    assert [(r.offset, r.index, r.reason) for r in decoded.rejected] == [
        (1, 1, "wrong_type"),
        (1, 3, "missing_ts"),
    ]


def test_a_broken_or_endless_array_is_one_refusal():
    """An array that is no JSON, or holds more than 10,000 events, is refused as one record."""
    many = b"[" + b",".join([b'{"ts":1}'] * 10_001) + b"]"
    decoded = decode(b'[{"ts":1},', many, b"[[1]]")
    assert reasons(decoded) == ["not_json", "too_large", "wrong_type"]


def test_of_a_field_given_twice_the_last_counts():
    """The same rule as JSON readers everywhere, in the scanner and behind it."""
    twice = b'{"ts":"%s","key_id":"a","key_id":"b"}' % TS.encode()
    nothing = b'{"ts":"%s","key_id":"a","key_id":null}' % TS.encode()
    assert [e["key"] for e in shown(decode(twice, nothing).batch)] == ["b", None]


def test_nested_fields_cannot_pose_as_ours():
    """A key_id inside another object is not the event's."""
    decoded = decode(event(extra={"key_id": "spoof", "ts": 1}, key_id="own"))
    assert [e["key"] for e in shown(decoded.batch)] == ["own"]


def test_a_byte_order_mark_is_no_content():
    """UTF-8 files from some editors begin with one."""
    bom = b"\xef\xbb\xbf"
    decoded = decode(bom + event(key_id="a"), bom + b"[" + event(key_id="b") + b"]")
    assert [e["key"] for e in shown(decoded.batch)] == ["a", "b"]


def test_idents_tell_identifiers_apart():
    """Equal ids hash alike, other ids and other query values do not; none is 0."""
    paths = ["/a/1001", "/b/1001", "/a/1002", "/a/1001?q=1", "/a/1001?z=1", "/a", "/a?#x"]
    ident = decode(*[event(path=p) for p in paths]).batch.ident.tolist()
    assert ident[0] == ident[1]
    assert ident[3] == ident[4]
    assert len({ident[0], ident[2], ident[3]}) == 3
    assert ident[5:] == [0, 0]


def test_hashes_depend_on_the_seed_alone():
    """Two decoders with one seed agree on every column; another seed changes all hashes."""
    values = [event(key_id="k", path="/a/1", user_agent="x/1", source_ip="host.test")] * 2
    first, again = decode(*values).batch, decode(*values).batch
    other = decode(*values, hash_seed=b"another seed of 16").batch
    assert same(first, again)
    for column in ("key_hi", "key_lo", "network", "client", "route", "area", "ident"):
        assert getattr(first, column)[0] != getattr(other, column)[0]


def test_columns_have_the_contracts_types():
    """Length and dtype of every column, also when all is refused."""
    for batch in (decode(event(), event()).batch, decode(b"x").batch, decode().batch):
        for column, dtype in zip(EventBatch.COLUMNS, EventBatch.DTYPES, strict=True):
            assert getattr(batch, column).dtype == dtype
            assert len(getattr(batch, column)) == len(batch)


# --- the fast scanner against the reader that decides -------------------------------------


def slow_only(values):
    """Decodes with a scanner that refuses everything."""

    def refuse(_buf, _bounds, _cells, fault):
        fault[fault == faults.OK] = faults.SLOW
        return len(fault)

    keep = decoder_module.scan_json
    decoder_module.scan_json = refuse
    try:
        return make_decoder("canonical", settings()).decode(records(values))
    finally:
        decoder_module.scan_json = keep


TEXT = st.one_of(
    st.sampled_from(["", "-", TS, "GET", "401", "/v1/orders/77", "203.0.113.9", "ok", "failed"]),
    st.text(max_size=12),
)
NUMBER = st.one_of(
    st.integers(-(10**20), 10**20),
    st.sampled_from([200, 401, 0, -1, 99, 1790000123, 1790000123456]),
    st.floats(allow_nan=False, allow_infinity=False),
)
NESTED = st.recursive(
    st.one_of(TEXT, NUMBER, st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)
VALUE = st.one_of(TEXT, NUMBER, st.booleans(), st.none(), NESTED)
FIELD = st.one_of(
    st.sampled_from([*faults.FIELD_NAMES, "latency_ms", "tskey"]), st.text(max_size=11)
)
EVENTS = st.dictionaries(FIELD, VALUE, max_size=14)
PLAIN = st.fixed_dictionaries(
    {"ts": st.sampled_from([TS, 1790000123, "1790000123.5", "2026-09-21T14:15:23.5+02:00"])},
    optional={
        "key_id": TEXT,
        "path": st.one_of(TEXT, st.from_regex(r"/o/[0-9]{1,17}(\?[a-z]=[0-9;\u00e9]{1,4})?\Z")),
        "method": TEXT,
        "status": st.one_of(st.none(), st.integers(-3, 1005)),
        "source_ip": TEXT,
        "user_agent": TEXT,
        "bytes": st.integers(-3, 10**19),
        "auth": st.sampled_from(["ok", "failed", "unknown", "no", None]),
        "owner": TEXT,
        "credential": st.dictionaries(st.sampled_from(["id", "consumer"]), NESTED),
        "x": NESTED,
    },
)


@st.composite
def mangled(draw):
    """JSON of an event, written in some style, maybe with a few bytes changed."""
    fields = draw(st.one_of(EVENTS, PLAIN))
    compact = draw(st.booleans())
    text = json.dumps(
        fields,
        ensure_ascii=draw(st.booleans()),
        separators=(",", ":") if compact else (", ", ": "),
        indent=draw(st.sampled_from([None, None, 1])),
    )
    data = bytearray(text.encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        piece = draw(
            st.sampled_from(
                [
                    b'"',
                    b"{",
                    b"}",
                    b",",
                    b":",
                    b"0",
                    b".",
                    b"e",
                    b"\\",
                    b" ",
                    b"\x00",
                    b"\x80",
                    b"null",
                    b"-",
                    b"[",
                ]
            )
        )
        if draw(st.booleans()):
            data[at : at + 1] = piece
        else:
            data[at:at] = piece
    return bytes(data)


@run(max_examples=800, deadline=None)
@given(st.lists(mangled(), min_size=1, max_size=4))
@example([b'{"ts":1790000123,"status":200}', b'{"ts":1790000123,"status":0200}'])
@example([b'{"ts":1790000123,"status":-}', b'{"ts":1790000123,"x":1.}', b'{"ts":1790000123,}'])
@example([b'{"ts":1790000123,"x":tru}', b'{"ts":1790000123,"x":true}x', b'{"ts":"-","ts":1}'])
@example([b'{"ts":1790000123,"bytes":123456789012345678901}'])
@example([b'{"ts":1790000123,"x":[1,]}', b'{"ts":1790000123,"x":{"a":1,}}', b'{"ts":1,"x":[}]}'])
@example([b'{"ts":1790000123,"x":[[],{},[{}]] ,"key_id":"k"}', b'{"ts":1790000123,"x":[1 2]}'])
@example([b'{"ts":1790000123,"x":' + b"[" * 32 + b"]" * 32 + b"}"])
@example([b'{"ts":1790000123,"x":' + b"[" * 33 + b"]" * 33 + b"}"])
@example([b'{"ts":1790000123,"credential":{"a":{"b":1} }, "path":{}}'])
@example([b'{"ts":1790000123,"credential":[]}', b'{"ts":1790000123,"x":{"a"}}', b'{"x":{"a":'])
@example([b'{"ts":1790000123,"status":-0}', b'{"ts":1790000123,"status":-200}'])
def test_scanner_equals_tolerant_reader(values):
    """Whatever the scanner takes, it reads as the deciding reader does; lines are conserved."""
    fast, slow = decode(*values), slow_only(values)
    assert same(fast.batch, slow.batch)
    assert fast.rejected == slow.rejected
    assert fast.no_key == slow.no_key
    if not any(v.lstrip(b" \n\r\t").startswith(b"[") for v in values):
        assert len(fast.batch) + len(fast.rejected) == len(values)


def test_the_scanner_takes_plain_events():
    """The usual event never meets the slow reader (a silent fall-back would cost 5 times)."""
    rows = decoder_module.Rows.of(
        *_joined([event(key_id="k", status=200, x=1.5e-3, y=None, z=[{}], credential={"id": "c"})])
    )
    refused = decoder_module.scan_json(
        rows.buf, np.array([0, len(rows.buf) - 16]), rows.cells, rows.fault
    )
    assert refused == 0


def _joined(values):
    return np.frombuffer(b"".join([*values, decoder_module.PAD]), np.uint8), len(values)
