"""A whole log in memory, key by key, or of a log that is too long for that a sample of its keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.config import Config
from detector.core.events import AUTH_FAILED, I64, EventBatch, KeyName
from detector.core.registry import KeyRegistry
from detector.decode import make_decoder
from detector.decode.seed import PUBLIC_SEED, seed_of
from models.clock import DAY_US
from replay.merge import ROWS_PER_BLOCK, InputFile, merge_batches
from replay.secrets import ReplaySecrets

EVENTS_MAX = 10_000_000  # about 130 bytes each, and as much again while they are joined
TELL_EVERY_EVENTS = 2_000_000
_HALVINGS_MAX = 16
_PEPPER = bytes(32)  # names made from raw keys are shown nowhere and kept nowhere

Rows = npt.NDArray[np.intp]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Log:
    """Events in event-time order, and where each key's events are.

    - ``events``  those with a key whose secret was accepted
    - ``names``   of the keys, by number
    - ``owners``  of the keys, by number; ``None`` = unknown
    - ``order``   rows of ``events``, key after key, each in event-time order (intp)
    - ``bounds``  rows of key k are ``order[bounds[k]:bounds[k + 1]]`` (intp)
    - ``share``   of all keys that are in the log: 1, or 1/2, 1/4 ... of a sample
    """

    events: EventBatch
    names: tuple[KeyName, ...]
    owners: tuple[str | None, ...]
    order: Rows
    bounds: Rows
    share: float = 1.0

    @classmethod
    def of(cls, events: EventBatch, registry: KeyRegistry | None = None, share: float = 1.0) -> Log:
        """The log of events in event-time order."""
        events = _usable(events, 0)
        # 64 of the 128 bits: a keyed hash, so no two keys of a log share them
        _, first, number = np.unique(events.key_lo, return_index=True, return_inverse=True)
        wide = zip(events.key_hi[first].tolist(), events.key_lo[first].tolist(), strict=True)
        names = tuple(events.names.keys[hi << 64 | lo] for hi, lo in wide)
        order = np.argsort(number, kind="stable")
        bounds = np.searchsorted(number[order], np.arange(len(names) + 1))
        return cls(
            events, names, tuple(_owner(name, registry) for name in names), order, bounds, share
        )

    @property
    def n_keys(self) -> int:
        """Keys with at least one event."""
        return len(self.names)

    @property
    def span_us(self) -> int:
        """Event time between the first and the last event."""
        ts_us = self.events.ts_us
        return int(ts_us[-1] - ts_us[0]) if len(ts_us) else 0

    def at_us(self, part: float) -> int:
        """The event time at which this part of the span has passed."""
        return int(self.events.ts_us[0]) + int(part * self.span_us)

    def rows_of(self, key: int) -> Rows:
        """Rows of a key, in event-time order."""
        return self.order[self.bounds[key] : self.bounds[key + 1]]

    def times_of(self, key: int) -> I64:
        """Event times of a key, sorted."""
        return self.events.ts_us[self.rows_of(key)]

    def key_days(self, from_us: int) -> int:
        """Pairs of a key and a UTC day with an event of it, from a time on."""
        ts_us = self.events.ts_us[self.order]
        key = np.repeat(np.arange(self.n_keys), np.diff(self.bounds))
        day = (ts_us // DAY_US)[ts_us >= from_us]
        return len(np.unique(np.stack([key[ts_us >= from_us], day]), axis=1).T)


def _owner(name: KeyName, registry: KeyRegistry | None) -> str | None:
    entry = registry.get(name.text) if registry is not None else None
    return entry.owner if entry is not None and entry.owner else name.owner


def read_log(
    inputs: Sequence[InputFile],
    config: Config,
    registry: KeyRegistry | None,
    *,
    input_format: str,
    lateness_s: float,
    say: Say,
) -> Log:
    """Reads and merges log files as a replay does. Raises ``UsageError``.

    Lines that cannot be decoded are skipped and counted. Of a log of more than ``EVENTS_MAX``
    events every other key stays, by its hash, and again every other one if need be.
    """
    pepper = None if config.decode.pepper is None else config.decode.pepper.read("decode.pepper")
    secret = _PEPPER if pepper is None else pepper.encode()
    seed = PUBLIC_SEED if pepper is None else seed_of(secret)
    settings = ReplaySecrets(secret, seed).decode_settings(config)

    refused = 0

    def decoded(file: InputFile) -> Iterator[EventBatch]:
        nonlocal refused
        decoder = make_decoder(input_format, settings)  # type: ignore[arg-type]
        for records in file.blocks():
            found = decoder.decode(records)
            refused += len(found.rejected)
            yield found.batch

    names = [str(f.path) for f in inputs]
    merged = merge_batches(
        [decoded(f) for f in inputs], int(lateness_s * 1e6), ROWS_PER_BLOCK, names
    )
    events, share = sampled(_told(merged, say), EVENTS_MAX)
    for sentence in (file.damage for file in inputs if file.damage):
        say(sentence)
    if refused:
        say(f"{refused:,} lines could not be read and were skipped")
    return Log.of(events, registry, share)


def _told(batches: Iterable[EventBatch], say: Say) -> Iterator[EventBatch]:
    read, told = 0, 0
    for batch in batches:
        read += len(batch)
        if read - told >= TELL_EVERY_EVENTS:
            told = read
            say(f"{read:,} events read")
        yield batch


def sampled(batches: Iterable[EventBatch], events_max: int) -> tuple[EventBatch, float]:
    """All events, or those of a share of the keys that fits; the share is a power of 1/2.

    Nothing a key's evidence rests on is lost: it depends on the key's own events alone.
    """
    parts: list[EventBatch] = []
    held, halvings = 0, 0
    for batch in batches:
        parts.append(_usable(batch, halvings))
        held += len(parts[-1])
        while held > events_max and halvings < _HALVINGS_MAX:
            halvings += 1
            parts = [_usable(part, halvings) for part in parts]
            held = sum(map(len, parts))
    return EventBatch.concat(parts), 0.5**halvings


def _usable(batch: EventBatch, halvings: int) -> EventBatch:
    """Events of a share of the keys whose secret was accepted; no copy when that is all."""
    mask = np.uint64((1 << halvings) - 1)
    is_usable = (batch.key_hi != 0) | (batch.key_lo != 0)
    is_usable &= (batch.auth != AUTH_FAILED) & (batch.key_lo & mask == 0)
    return batch if is_usable.all() else batch.take(np.flatnonzero(is_usable))
