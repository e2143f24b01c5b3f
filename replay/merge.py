"""Several inputs as one stream of events in event-time order.

The time of an event is known once it is decoded, so decoded batches are merged. Order is
(time, input, line): it does not depend on how the inputs were cut into batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from detector.core.errors import UsageError
from detector.core.events import I64, EventBatch, Names
from replay.files import ROWS_PER_BLOCK, InputFile, open_inputs, read_blocks

__all__ = [
    "LATENESS_S",
    "ROWS_PER_BLOCK",
    "WINDOW_ROWS_MAX",
    "InputFile",
    "merge_batches",
    "open_inputs",
    "read_blocks",
]

LATENESS_S = 300.0
# Rows held back to sort one input: about 100 bytes each.
WINDOW_ROWS_MAX = 2_000_000


def merge_batches(
    streams: Sequence[Iterable[EventBatch]],
    lateness_us: int,
    rows_max: int,
    names: Sequence[str] = (),
) -> Iterator[EventBatch]:
    """Merges decoded inputs by (time, input, line) into batches of at most ``rows_max`` rows.

    Each input may go back in time by ``lateness_us``; it is held back that long and sorted.
    An input already in order passes through as it is, uncopied where it is the only one.
    ``names`` call the inputs in the ``UsageError`` that refuses one which goes back further,
    or further than its last ``WINDOW_ROWS_MAX`` rows (give or take a batch: only in this case
    does it matter how the input was cut). ``offset`` must be the line from 0.

    Memory: per input the rows of ``lateness_us`` (at most ``WINDOW_ROWS_MAX``) plus one batch.
    """
    called = [names[i] if i < len(names) else f"input {i + 1}" for i in range(len(streams))]
    ordered = [_in_order(s, lateness_us, n) for s, n in zip(streams, called, strict=True)]
    merged = iter(ordered[0]) if len(ordered) == 1 else _merged(ordered)
    for batch in merged:
        for start in range(0, len(batch), rows_max):
            whole = start == 0 and len(batch) <= rows_max
            yield batch if whole else batch.take(slice(start, start + rows_max))


def _in_order(stream: Iterable[EventBatch], lateness_us: int, name: str) -> Iterator[EventBatch]:
    """One input, sorted within its window."""
    window: deque[EventBatch] = deque()  # sorted, and each after the one before
    held, newest_us, released_us = 0, -(1 << 62), -(1 << 62)
    for batch in stream:
        if not len(batch):
            continue
        if not _sorted(batch.ts_us) or batch.ts_us[0] < newest_us:
            _refuse_late(batch, newest_us, released_us, lateness_us, name)
            batch = _sort_in(window, batch)
        newest_us = max(newest_us, int(batch.ts_us[-1]))
        window.append(batch)
        held = sum(map(len, window))
        while window and (window[0].ts_us[-1] <= newest_us - lateness_us or held > WINDOW_ROWS_MAX):
            released_us, held = int(window[0].ts_us[-1]), held - len(window[0])
            yield window.popleft()
    yield from window


def _sorted(ts_us: I64) -> bool:
    return bool((ts_us[1:] >= ts_us[:-1]).all())


def _refuse_late(
    batch: EventBatch, newest_us: int, released_us: int, lateness_us: int, name: str
) -> None:
    """Raises for the first row that goes back too far."""
    before = np.maximum.accumulate(np.concatenate([[newest_us], batch.ts_us[:-1]]))
    back_us = before - batch.ts_us
    bad = np.flatnonzero((back_us > lateness_us) | (batch.ts_us < released_us))
    if not len(bad):
        return
    row = int(bad[0])
    line, back_s = int(batch.offset[row]) + 1, back_us[row] / 1e6
    limit = f"the limit is {lateness_us / 1e6:g} s (--lateness)"
    if back_us[row] <= lateness_us:
        limit = f"more than {WINDOW_ROWS_MAX} events lie between, too many to sort in memory"
    raise UsageError(
        f"{name}, line {line}: event time goes back {back_s:.0f} s; {limit}: "
        f"sort the file by time, or remove line {line} if its time is wrong"
    )


def _sort_in(window: deque[EventBatch], batch: EventBatch) -> EventBatch:
    """The batch together with those held rows that belong after its first, sorted."""
    first_us = batch.ts_us.min()
    parts = [batch]
    while window and window[-1].ts_us[-1] > first_us:
        last = window.pop()
        cut = int(np.searchsorted(last.ts_us, first_us, side="right"))
        parts.append(last.take(slice(cut, None)))
        if cut:
            window.append(last.take(slice(0, cut)))
            break
    joined = _joined(parts[::-1])
    return joined.take(np.argsort(joined.ts_us, kind="stable"))


def _merged(streams: Sequence[Iterator[EventBatch]]) -> Iterator[EventBatch]:
    """Several sorted streams as one.

    A round may emit what no stream can still precede: up to the earliest end among the batches
    at hand. At that very time, later streams wait for the one that may have more of it.
    """
    heads: list[EventBatch | None] = [next(s, None) for s in streams]
    while any(head is not None for head in heads):
        ends = [None if h is None else int(h.ts_us[-1]) for h in heads]
        bound_us = min(e for e in ends if e is not None)
        first = ends.index(bound_us)
        parts = []
        for i, head in enumerate(heads):
            if head is None:
                continue
            side = "right" if i <= first else "left"
            cut = int(np.searchsorted(head.ts_us, bound_us, side=side))  # type: ignore[call-overload]
            if cut:
                parts.append(head.take(slice(0, cut)))
            heads[i] = head.take(slice(cut, None)) if cut < len(head) else next(streams[i], None)
        yield _woven(parts)


def _woven(parts: list[EventBatch]) -> EventBatch:
    if len(parts) == 1:
        return parts[0]
    joined = _joined(parts)
    return joined.take(np.argsort(joined.ts_us, kind="stable"))


def _joined(parts: Sequence[EventBatch]) -> EventBatch:
    """The rows of all parts; their names are shared where they are one and the same."""
    if len(parts) == 1:
        return parts[0]
    distinct = {id(p.names): p.names for p in parts}
    columns = {c: np.concatenate([getattr(p, c) for p in parts]) for c in EventBatch.COLUMNS}
    if len(distinct) == 1:
        return EventBatch(**columns, names=parts[0].names)
    together = Names()
    for own in distinct.values():
        for kind in Names.__slots__:
            getattr(together, kind).update(getattr(own, kind))
    return EventBatch(**columns, names=together)
