"""Hostile records: each is refused or read, quickly, and harms no neighbour."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from detector.core.errors import REJECT_REASONS
from detector.decode import faults, make_decoder

from .helpers import TS, decode, event, reasons, records, settings, shown

DEEP = 100_000


def wrap(text: bytes) -> bytes:
    return b'{"ts":"%s","x":%s}' % (TS.encode(), text)


CASES = {
    "empty": (b"", "not_json"),
    "blank": (b" \r\n", "not_json"),
    "binary": (bytes(range(128, 256)), "not_utf8"),
    "utf16": (event().decode().encode("utf-16"), "not_utf8"),
    "bad utf-8 in a known field": (b'{"ts":"%s","path":"/\xff"}' % TS.encode(), "not_utf8"),
    "bad utf-8 in an unknown field": (wrap(b'"\xc3\x28"'), "not_utf8"),
    "overlong utf-8": (wrap(b'"\xc0\xaf"'), "not_utf8"),
    "utf-8 of a surrogate": (wrap(b'"\xed\xa0\x80"'), "not_utf8"),
    "lone surrogate": (b'{"ts":"%s","key_id":"\\ud800"}' % TS.encode(), "not_json"),
    "lone surrogate, unknown field": (wrap(b'"\\udc00"'), "not_json"),
    "raw NUL": (wrap(b'"a\x00b"'), "not_json"),
    "raw newline": (wrap(b'"a\nb"'), "not_json"),
    "NaN": (wrap(b"NaN"), "not_json"),
    "Infinity": (wrap(b"-Infinity"), "not_json"),
    "truncated": (event()[:-1], "not_json"),
    "trailing": (event() + b"x", "not_json"),
    "two in one": (event() + event(), "not_json"),
    "number": (b"7", "wrong_type"),
    "text": (b'"x"', "wrong_type"),
    "null": (b"null", "wrong_type"),
    "deep arrays": (wrap(b"[" * DEEP + b"]" * DEEP), "not_json"),
    "deep objects": (wrap(b'{"a":' * DEEP + b"1" + b"}" * DEEP), "not_json"),
    "deep ts": (b'{"ts":' + b"[" * DEEP + b"]" * DEEP + b"}", "not_json"),
    "deep top": (b"[" * DEEP + b"]" * DEEP, "not_json"),
    "NaN as status": (b'{"ts":"%s","status":NaN}' % TS.encode(), "not_json"),
    "1e999 as status": (b'{"ts":"%s","status":1e999}' % TS.encode(), "wrong_type"),
    "1e999 as ts": (b'{"ts":1e999}', "out_of_range"),
    "huge int as ts": (b'{"ts":' + b"9" * 5000 + b"}", "out_of_range"),
    "huge int as status": (b'{"ts":"%s","status":%s}' % (TS.encode(), b"9" * 5000), "out_of_range"),
    "huge exponent as bytes": (b'{"ts":"%s","bytes":1e-999999999}' % TS.encode(), None),
    "huge int as key": (b'{"ts":"%s","key_id":%s}' % (TS.encode(), b"9" * 5000), None),
    "huge int elsewhere": (wrap(b"9" * 5000), None),
    "1e999 elsewhere": (wrap(b"1e999"), None),
    "escaped NUL": (b'{"ts":"%s","key_id":"a\\u0000b"}' % TS.encode(), None),
    "1 MB path": (event(path="/" + "a/" * 500_000), None),
    "64 KB agent": (event(user_agent="x" * 65_536), None),
    "huge address": (event(source_ip="1.2.3.4," * 50_000), None),
    "many fields": (
        b"{" + b",".join(b'"f%d":%d' % (i, i) for i in range(50_000)) + b',"ts":1790000123}',
        None,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_class_of_bad_input(name):
    """One clear reason (or an event), within 50 ms, and both neighbours are read."""
    value, reason = CASES[name]
    decoder = make_decoder("canonical", settings())
    decoder.decode(records([event()]))
    began = time.perf_counter()
    decoded = decoder.decode(records([event(key_id="a"), value, event(key_id="b")]))
    elapsed_s = time.perf_counter() - began
    assert reasons(decoded) == ([] if reason is None else [reason])
    assert [e["key"] for e in shown(decoded.batch)][:: 1 if reason else 2] == ["a", "b"]
    assert elapsed_s < 0.5  # 50 ms, on a machine ten times as slow or as busy


def test_a_too_long_message_is_not_read():
    """Beyond value_bytes_max: refused by length, whatever it holds; the limit itself passes."""
    value = event(key_id="k" * 100)
    assert reasons(decode(value, value_bytes_max=len(value) - 1)) == ["too_large"]
    assert reasons(decode(value, value_bytes_max=len(value))) == []
    assert reasons(decode(b"\xff" * 50, value_bytes_max=49, form="combined")) == ["too_large"]


def test_all_names_stay_short():
    """What is kept of hostile values is bounded: key, owner, credential, network, client."""
    long = "x" * 10_000
    decoded = decode(
        event(
            key_id=long,
            owner=long,
            credential={long: long} | {f"k{i}": "v" for i in range(99)},
            source_ip=long + ".test",
            user_agent=long,
            path="/" + long,
            route=long,
        )
    )
    names = decoded.batch.names
    (key,) = names.keys.values()
    assert len(key.text) <= 200
    assert len(key.owner) <= 200
    assert len(key.credential) == 16
    assert all(len(k) <= 64 and len(v) <= 200 for k, v in key.credential)
    assert all(len(t) <= 100 for t in names.networks.values())
    assert all(len(t) <= 64 for t in names.clients.values())
    assert all(len(t) <= 300 for t in (*names.routes.values(), *names.areas.values()))


def test_long_keys_stay_different():
    """Two keys that share their first 10,000 bytes are two keys."""
    decoded = decode(event(key_id="x" * 10_000 + "1"), event(key_id="x" * 10_000 + "2"))
    assert len({name.text for name in decoded.batch.names.keys.values()}) == 2


def test_every_fault_has_a_reason_of_the_list_and_no_content():
    """The closed list of sentences is complete: a kernel cannot name an unknown fault."""
    numbers = [
        n for k, n in vars(faults).items() if k.isupper() and isinstance(n, int) and 0 < n < 32
    ]
    numbers += [faults.FIELD_TYPE + i for i in range(len(faults.FIELD_NAMES))]
    for number in numbers:
        refused = faults.rejected(number, "s", 0, 0, 0, 0)
        assert refused.reason in REJECT_REASONS
        assert refused.detail


@run(max_examples=400, deadline=None)
@given(
    st.lists(st.binary(max_size=60), max_size=6), st.sampled_from(["auto", "canonical", "combined"])
)
def test_no_bytes_raise(values, form):
    """Any bytes in any form: lines = accepted + rejected (arrays of garbage aside)."""
    decoded = decode(*values, form=form)
    if not any(b"[" in v for v in values):
        assert len(decoded.batch) + len(decoded.rejected) == len(values)
