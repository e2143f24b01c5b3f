"""What really happened in a world: who was attacked when, and what else was going on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.core.events import EventBatch
from models.clock import DAY_US
from replay.evaluation.keys import KeyIndex
from replay.evaluation.points import I32, I64
from replay.simulate.world import World
from replay.simulate.world_settings import Attack, Happening

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Spans:
    """Times of keys, one row per (key, event of the truth), sorted by key.

    ``which`` is the number of the attack or happening; ``first[k] : first[k + 1]`` are the
    rows of key k.
    """

    key: I32
    which: I32
    start_us: I64
    end_us: I64
    first: I64

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, int, int]], n_keys: int) -> Spans:
        """From ``(key number, which, start_us, end_us)`` in any order."""
        table = np.array(sorted(rows), np.int64).reshape(-1, 4)
        first = np.searchsorted(table[:, 0], np.arange(n_keys + 1))
        key, which = table[:, 0].astype(np.int32), table[:, 1].astype(np.int32)
        return cls(key, which, table[:, 2], table[:, 3], first.astype(np.int64))

    def match(self, key: I32, ts_us: I64, after_us: int) -> tuple[Rows, Rows]:
        """All pairs (row given, row here) of one key with ``start <= ts <= end + after``."""
        known = np.flatnonzero(key >= 0)
        at, stop = self.first[key[known]], self.first[key[known] + 1]
        found: list[tuple[Rows, Rows]] = []
        while len(known):
            more = at < stop
            known, at, stop = known[more], at[more], stop[more]
            fits = (self.start_us[at] <= ts_us[known]) & (
                ts_us[known] <= self.end_us[at] + after_us
            )
            found.append((known[fits], at[fits]))
            at = at + 1
        if not found:
            return np.empty(0, np.intp), np.empty(0, np.intp)
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


@dataclass(frozen=True, slots=True)
class Requests:
    """The attacks' requests, sorted by (attack, ts_us)."""

    attack: I32
    key: I32
    ts_us: I64
    size_bytes: I64


@dataclass(frozen=True, slots=True)
class Truth:
    """Everything the judge knows about a world; nothing of it ever reaches a method.

    ``attacks`` are those with at least one request, in the order of ``spans.which``, of
    ``requests.attack`` and of all results. ``test_us`` is where false alerts are counted:
    from the end of the quiet days to the end of the log, ``[start, end)``.
    """

    keys: tuple[str, ...]
    class_of: tuple[str, ...]
    test_us: tuple[int, int]
    attacks: tuple[Attack, ...]
    happenings: tuple[Happening, ...]
    spans: Spans
    happening_spans: Spans
    requests: Requests

    @property
    def weeks(self) -> float:
        """Length of the test period."""
        return (self.test_us[1] - self.test_us[0]) / (7 * DAY_US)


class RequestLog:
    """Collects the attacks' requests while a world goes by."""

    def __init__(self, keys: KeyIndex) -> None:
        self._keys = keys
        self._parts: list[tuple[I32, I32, I64, I64]] = []

    def observe(self, batch: EventBatch, attack: I32) -> None:
        """Notes the rows with ``attack >= 0``."""
        rows = np.flatnonzero(attack >= 0)
        if len(rows):
            of = batch.take(rows)
            self._parts.append((attack[rows], self._keys.of(of), of.ts_us, of.size_bytes))

    def sorted(self) -> Requests:
        """All of them; ``attack`` as the world numbers it."""
        if not self._parts:
            empty, wide = np.empty(0, np.int32), np.empty(0, np.int64)
            return Requests(empty, empty, wide, wide)
        attack, key, ts_us, size = (np.concatenate(c) for c in zip(*self._parts, strict=True))
        order = np.lexsort((ts_us, attack))
        return Requests(attack[order], key[order], ts_us[order], size[order])


def truth_of(world: World, keys: KeyIndex, requests: Requests) -> Truth:
    """The truth about a world whose batches have all been read."""
    numbers = np.unique(requests.attack)  # an attack without a request never happened
    attacks = tuple(world.attacks[int(i)] for i in numbers)
    which = np.searchsorted(numbers, requests.attack).astype(np.int32)
    requests = Requests(which, requests.key, requests.ts_us, requests.size_bytes)
    happenings, settings = tuple(world.happenings), world.settings
    return Truth(
        keys=keys.texts,
        class_of=tuple(world.key_class[text] for text in keys.texts),
        test_us=(settings.test_us, settings.end_us),
        attacks=attacks,
        happenings=happenings,
        spans=Spans.of(_attack_rows(attacks, requests), len(keys)),
        happening_spans=Spans.of(_happening_rows(happenings, keys), len(keys)),
        requests=requests,
    )


def _attack_rows(
    attacks: Sequence[Attack], requests: Requests
) -> Iterator[tuple[int, int, int, int]]:
    """A key is attacked from its own first request on, to the end of the whole attack."""
    pairs = np.stack([requests.attack, requests.key], axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)  # requests are in time order
    for (which, key), at in zip(pairs.tolist(), first.tolist(), strict=True):
        yield key, which, int(requests.ts_us[at]), attacks[which].end_us


def _happening_rows(
    happenings: Sequence[Happening], keys: KeyIndex
) -> Iterator[tuple[int, int, int, int]]:
    """A happening that names no keys is the whole fleet's."""
    for i, happening in enumerate(happenings):
        for text in happening.keys or keys.texts:
            yield keys.number_of[text], i, happening.start_us, happening.end_us
