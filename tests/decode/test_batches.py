"""What a batch boundary, the broker's clock and a file format may and may not change."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from detector.core.events import EventBatch
from detector.decode import kernels, make_decoder

from .helpers import TS_US, decode, event, records, same, settings

DAY_US = 86_400_000_000

VALUES = st.one_of(
    st.builds(
        lambda key, path, agent, ip: event(key_id=key, path=path, user_agent=agent, source_ip=ip),
        st.sampled_from(["a", "b", None, "-"]),
        st.sampled_from(["/v1/orders/77", "/v1/users", None]),
        st.sampled_from(["x/1", "y/2", None]),
        st.sampled_from(["203.0.113.7", "2001:db8::1", "host.test", None]),
    ),
    st.builds(lambda raw: event(api_key=raw), st.sampled_from(["r1", "r2"])),
    st.sampled_from([b"", b"x", b"{}", event(status="boom"), event(ts=1.79e9)]),
    st.lists(st.sampled_from(["a", "c"]), max_size=3).map(
        lambda keys: b"[" + b",".join(event(key_id=k) for k in keys) + b"]"
    ),
)


@run(max_examples=150, deadline=None)
@given(
    st.lists(VALUES, max_size=14),
    st.sets(st.integers(1, 13)),
    st.sampled_from(["auto", "canonical"]),
)
def test_results_do_not_depend_on_batch_boundaries(values, cuts, form):
    """Any split gives the same columns, names, refusals and counts as one batch."""
    whole = decode(*values, form=form)
    decoder = make_decoder(form, settings())
    bounds = [0, *sorted(c for c in cuts if c < len(values)), len(values)]
    parts = [decoder.decode(records(values[a:b], first=a)) for a, b in pairwise(bounds)]
    assert same(EventBatch.concat([p.batch for p in parts]), whole.batch)
    assert [r for p in parts for r in p.rejected] == list(whole.rejected)
    assert sum(p.no_key for p in parts) == whole.no_key


def test_one_compiled_kernel_serves_all_callers():
    """Fast and slow rows, arrays, read-only inputs, lines: no kernel is compiled twice.

    A second version of each would double the time of a first start.
    """
    values = [event(key_id="k"), event(x={}), b"[" + event() + b"]", event(source_ip="a,b")]
    for form in ("canonical", "auto", "combined"):
        batch = records(values)
        batch.timestamp_ms.flags.writeable = batch.offsets.flags.writeable = False
        make_decoder(form, settings()).decode(batch)
    compiled = [k for k in vars(kernels).values() if hasattr(k, "signatures")]
    assert len(compiled) > 8
    assert {k.py_func.__name__: len(k.signatures) for k in compiled if len(k.signatures) > 1} == {}


def clamped(ts_us: int, **changes) -> tuple[int, int, int]:
    decoder = make_decoder("canonical", settings(**changes))
    batch = decoder.decode(records([event(ts=ts_us)], timestamp_ms=TS_US // 1000)).batch
    return int(batch.ts_us[0]), decoder.maker.clamped_late, decoder.maker.clamped_future


def test_event_time_is_clamped_to_the_brokers():
    """Late limit below, future limit above; the bounds themselves pass; each pull is counted."""
    assert clamped(TS_US - DAY_US) == (TS_US - DAY_US, 0, 0)
    assert clamped(TS_US - DAY_US - 1) == (TS_US - DAY_US, 1, 0)
    assert clamped(TS_US + 300_000_000) == (TS_US + 300_000_000, 0, 0)
    assert clamped(TS_US + 300_000_001) == (TS_US + 300_000_000, 0, 1)
    assert clamped(TS_US + 10 * 365 * DAY_US, future_limit_s=0) == (TS_US, 0, 1)


def test_no_clamp_when_trusted_or_without_a_broker_time():
    """trust_event_time switches it off; a record timestamp of -1 is none."""
    far = TS_US + 365 * DAY_US
    assert clamped(far, trust_event_time=True) == (far, 0, 0)
    assert int(decode(event(ts=far), timestamp_ms=-1).batch.ts_us[0]) == far


def test_members_of_an_array_share_their_messages_broker_time():
    """The clamp follows the message, not the row number."""
    array = b"[" + event(ts=TS_US + 2 * DAY_US) + b"," + event() + b"]"
    batch = decode(array, event(ts=TS_US - 5 * DAY_US), timestamp_ms=TS_US // 1000).batch
    assert batch.ts_us.tolist() == [TS_US + 300_000_000, TS_US, TS_US - DAY_US]
