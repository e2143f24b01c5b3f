"""Merging decoded inputs: always the sorted union, however the inputs were cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.errors import UsageError
from detector.core.events import EventBatch, KeyName, Names
from replay import merge
from replay.merge import merge_batches

LATENESS = 50


def batch(stamps, first_line=0, source=0, names=None) -> EventBatch:
    columns = {
        c: np.zeros(len(stamps), d)
        for c, d in zip(EventBatch.COLUMNS, EventBatch.DTYPES, strict=True)
    }
    columns["ts_us"] = np.array(stamps, np.int64)
    columns["offset"] = np.arange(first_line, first_line + len(stamps))
    columns["size_bytes"] = np.full(len(stamps), source)
    return EventBatch(**columns, names=names or Names())


def cut(stamps, source, cuts) -> list[EventBatch]:
    edges = [0, *sorted(c % (len(stamps) + 1) for c in cuts), len(stamps)]
    return [batch(stamps[a:b], a, source) for a, b in pairwise(edges)]


def rows(batches) -> list[tuple[int, int, int]]:
    return [
        row
        for b in batches
        for row in zip(b.ts_us.tolist(), b.size_bytes.tolist(), b.offset.tolist(), strict=True)
    ]


@st.composite
def nearly_sorted(draw):
    """Times that never go back more than LATENESS behind the newest before them."""
    steps = draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, LATENESS)), max_size=40))
    out, newest = [], 0
    for step, back in steps:
        newest += step
        out.append(newest - back if out else newest)
        newest = max(newest, out[-1])
    return out


@given(
    st.lists(st.tuples(nearly_sorted(), st.lists(st.integers(0, 99), max_size=6)), max_size=4),
    st.integers(1, 30),
)
def test_any_split_gives_the_sorted_union(inputs, rows_max):
    """Output = sorted by (time, input, line), for any number of inputs cut anywhere."""
    streams = [cut(stamps, i, cuts) for i, (stamps, cuts) in enumerate(inputs)]
    got = list(merge_batches(streams, LATENESS, rows_max))
    expected = sorted(
        (t, i, line) for i, (stamps, _) in enumerate(inputs) for line, t in enumerate(stamps)
    )
    assert rows(got) == expected
    assert all(0 < len(b) <= rows_max for b in got)


def test_a_sorted_input_passes_uncopied():
    """One input in order comes out as the very batches that went in."""
    batches = [batch([1, 2, 3]), batch([3, 900], 3), batch([5000], 5)]
    assert [id(b) for b in merge_batches([batches], LATENESS, 100)] == [id(b) for b in batches]


def test_nothing_is_read_ahead_of_need():
    """A sorted input far in the future is not pulled in before the earlier one is through."""
    pulled = []

    def late():
        for i in range(3):
            pulled.append(i)
            yield batch([10_000 + 1000 * i], i, 1)

    stream = merge_batches([[batch([1]), batch([500], 1), batch([900], 2)], late()], LATENESS, 9)
    assert rows([next(stream)])[0][0] == 1
    assert len(pulled) <= 2


@pytest.mark.parametrize("cuts", [[], [1], [2], [1, 2]])
def test_an_input_that_goes_back_too_far_is_refused_with_its_place(cuts):
    """The refusal names the input, the line from 1, and how far back it goes, however cut."""
    stream = cut([0, 400_000_000, 90_000_000], 0, cuts)
    with pytest.raises(UsageError) as refused:
        list(merge_batches([stream], 300_000_000, 100, ["access.log"]))
    assert str(refused.value) == (
        "access.log, line 3: event time goes back 310 s; the limit is 300 s (--lateness): "
        "sort the file by time, or remove line 3 if its time is wrong"
    )


def test_the_limit_itself_is_allowed():
    """Going back by exactly the lateness is still sorted."""
    got = rows(merge_batches([cut([0, 100, 50], 0, [1, 2])], LATENESS, 100))
    assert [t for t, _, _ in got] == [0, 50, 100]


def test_disorder_beyond_the_window_of_rows_is_refused(monkeypatch):
    """Where memory would not do, the input is refused, never silently out of order."""
    monkeypatch.setattr(merge, "WINDOW_ROWS_MAX", 10)
    stamps = [*range(100, 140), 100]
    with pytest.raises(UsageError, match="too many to sort"):
        list(merge_batches([cut(stamps, 0, [5, 10, 15, 20, 25, 30, 35])], LATENESS, 100))


def test_names_of_all_inputs_survive():
    """Every key's name of a merged batch can be looked up."""
    one = batch([1, 3], names=Names(keys={1: KeyName("a")}))
    two = batch([2, 4], names=Names(keys={2: KeyName("b")}))
    seen = {}
    for merged in merge_batches([[one], [two]], LATENESS, 100):
        seen |= merged.names.keys
    assert {n.text for n in seen.values()} == {"a", "b"}


def test_no_inputs_and_empty_batches():
    """Nothing in, nothing out."""
    assert list(merge_batches([], LATENESS, 10)) == []
    assert list(merge_batches([[EventBatch.empty()], []], LATENESS, 10)) == []
