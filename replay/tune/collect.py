"""What the fold says about a log, as bags of evidence: one bag a unit and channel.

A unit is a key and day of the clean log, or an attack. Its bag holds the rows that weights
near the shipped ones could find highest, because the row that counts depends on the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from detector.core import tables
from detector.core.episodes import CHANNELS, Candidate
from detector.core.events import I64, EventBatch
from detector.core.registry import KeyRegistry
from detector.core.settings import ChannelLimits, ShardSettings
from detector.core.shard import Shard
from models import fusion
from models.clock import CELL_US, DAY_US
from replay.tune.injection import InjectedLog, Injection, injected
from replay.tune.log import Log

FLOOR_NATS = 1.0  # rows below it are not seen; a missing bag scores 0
ROWS_HELD_MAX = 200_000
EVENTS_AT_ONCE = 1_000_000
F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bags:
    """Rows of evidence of one channel, bag after bag.

    - ``z``      evidence, each family at most its cap, float64[rows, families]
    - ``extra``  what a young key's threshold is raised by, less what other weights add and what
      the signs mean together, nats, float64[rows]
    - ``first``  row with which each bag begins (intp)
    - ``unit``   what each bag is about: number of a key-day or of an attack (int64)
    """

    z: F64
    extra: F64
    first: npt.NDArray[np.intp]
    unit: I64

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def of(cls, unit: I64, z: F32, extra: F64) -> Self:
        """Bags of rows in any order."""
        order = np.argsort(unit, kind="stable")
        unit = unit[order]
        first = np.flatnonzero(np.diff(unit, prepend=unit[:1] - 1))
        capped = np.minimum(z[order], np.array(fusion.CAPS))
        return cls(capped.astype(np.float64), extra[order], first, unit[first])

    def take(self, bags: npt.NDArray[np.bool_]) -> Self:
        """The chosen bags, in order."""
        size = np.diff(self.first, append=len(self.z))
        rows = np.repeat(bags, size)
        first = np.concatenate([[0], np.cumsum(size[bags])])[:-1]
        return replace(
            self, z=self.z[rows], extra=self.extra[rows], first=first, unit=self.unit[bags]
        )


def counted(z: F64, weights: F64) -> F64:
    """Evidence that counts: of routes and areas, which are nested, only the larger share."""
    z = z.copy()
    by_route = z[:, fusion.F_ROUTE] * weights[fusion.F_ROUTE]
    is_route = by_route >= z[:, fusion.F_AREA] * weights[fusion.F_AREA]
    z[is_route, fusion.F_AREA] = 0.0
    z[~is_route, fusion.F_ROUTE] = 0.0
    return z


def settled_part(z: F32, known: F64, limits: ChannelLimits) -> tuple[F32, F64]:
    """What the weights of settled keys act on, and what those of young keys add, nats.

    Only the former are fitted: of a key that is half settled, half of its evidence is theirs.
    """
    capped = np.minimum(z, np.array(fusion.CAPS, np.float32)).astype(np.float64)
    part, young_weights = 1.0 - known[:, None].astype(np.float64), np.array(limits.weights_of_young)
    young = counted(part * capped, young_weights) @ young_weights
    return (known[:, None] * capped).astype(np.float32), young


def directions(weights: F64) -> F64:
    """Weights that stand for those near the given ones: they themselves, and each family raised.

    ``float64[1 + families, families]``. A family is raised by as much as makes 4.5 nats at its cap.
    """
    raised = np.diag(0.5 * fusion.CAP / np.array(fusion.CAPS))
    return np.concatenate([weights[None], weights + raised])


class RowTap(Shard):
    """A shard that keeps its rows and builds no episodes.

    Parameters
    ----------
    settings, registry
        As of a live shard, but for the floor.

    Notes
    -----
    ``observe`` cuts batches at cells and forgets between them how high each episode has
    been, so that every cell's maximum comes out, to within the quarter of a nat in which
    the fold reports a rise, and not only the rise of an episode.

    Learning is held as in the live service, because the thresholds are the shipped ones: what
    is collected is what its fold says. The low floor changes little of that: an episode may
    last longer, and while it lasts is held once, which another hold within three days of the
    first would have shown.
    """

    def __init__(self, settings: ShardSettings, registry: KeyRegistry | None = None) -> None:
        super().__init__(_with_floor(settings, FLOOR_NATS), registry)
        self._taken: list[Any] = []

    def observe(self, events: EventBatch) -> tuple[npt.NDArray[Any], I64]:
        """Folds events in event-time order; returns rows (``tables.ROW``) and their events."""
        rows, at = [np.zeros(0, tables.ROW)], [np.zeros(0, np.int64)]
        cell = events.ts_us // CELL_US
        cuts = np.flatnonzero(np.diff(cell, prepend=-1, append=-1)).tolist()
        for start, end in pairwise(cuts):
            self.fold(events.take(slice(start, end)))
            self._state.episodes["peak"][: self.n_keys] = 0.0
            if self._taken:
                rows.append(np.array(self._taken, tables.ROW))
                at.append(rows[-1]["event"] + start)
                self._taken = []
        return np.concatenate(rows), np.concatenate(at)

    def _apply(self, row: Any, batch: EventBatch) -> Candidate | None:  # noqa: ARG002
        if row["kind"] in (tables.OPEN, tables.PEAK):
            self._taken.append(row.copy())
        return None


def _with_floor(settings: ShardSettings, floor: float) -> ShardSettings:
    channels = {c: replace(getattr(settings, c), floor=floor) for c in CHANNELS}
    return replace(settings, **channels)


class _Gathered:
    """Rows of one channel, thinned to those that can be the highest of their unit."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._directions = directions(np.array(weights))
        self._parts: list[tuple[I64, F32, F64]] = []
        self._held = 0

    def add(self, unit: I64, z: F32, extra: F64) -> None:
        self._parts.append((unit, z, extra))
        self._held += len(unit)
        if self._held > ROWS_HELD_MAX:
            self._thin()

    def bags(self) -> Bags:
        self._thin()
        return Bags.of(*self._parts[0])

    def _thin(self) -> None:
        unit, z, extra = (np.concatenate(c) for c in zip(*self._parts, strict=True))
        kept = _highest(unit, z, extra, self._directions)
        self._parts, self._held = [(unit[kept], z[kept], extra[kept])], 0


def _highest(unit: I64, z: F32, extra: F64, along: F64) -> npt.NDArray[np.intp]:
    """Rows with the highest score of their unit along at least one direction, in order."""
    capped = np.minimum(z, np.array(fusion.CAPS, np.float32))
    kept = np.zeros(len(unit), bool)
    for weights in along:
        score = counted(capped, weights) @ weights - extra
        order = np.lexsort((-score, unit))
        leads = np.flatnonzero(np.diff(unit[order], prepend=np.iinfo(np.int64).min))
        kept[order[leads]] = True
    return np.flatnonzero(kept)


@dataclass(frozen=True, slots=True)
class Collected:
    """Bags of the clean log's key-days and of the attacks, by channel.

    A clean bag's unit is ``key << 32 | day``; an attack's is its position.
    """

    clean: tuple[Bags, ...]
    attacks: tuple[Bags, ...]


def collect(
    log: Log,
    injections: Sequence[Injection],
    settings: ShardSettings,
    rng: np.random.Generator,
    from_us: int,
) -> Collected:
    """Folds the log, and the histories of all victims with their attacks.

    Of the clean log what happens from a time on counts, when every attack could have begun.
    """
    gathered = [_Gathered(c.weights) for c in settings.channels]
    _fold_clean(log, settings, from_us, gathered)
    clean = tuple(g.bags() for g in gathered)
    gathered = [_Gathered(c.weights) for c in settings.channels]
    done = 0
    for part in injected(log, injections, rng):
        now = injections[done : done + len(part.key_lo)]
        _fold_attacks(part, now, done, settings, gathered)
        done += len(now)
    return Collected(clean, tuple(g.bags() for g in gathered))


def _fold_clean(
    log: Log, settings: ShardSettings, from_us: int, gathered: Sequence[_Gathered]
) -> None:
    number = np.empty(len(log.events), np.int64)
    number[log.order] = np.repeat(np.arange(log.n_keys), np.diff(log.bounds))
    shard = RowTap(settings)
    for start in range(0, len(number), EVENTS_AT_ONCE):
        rows, at = shard.observe(log.events.take(slice(start, start + EVENTS_AT_ONCE)))
        unit = number[at + start] << 32 | rows["ts_us"] // DAY_US
        _sort_out(rows, unit, rows["ts_us"] >= from_us, settings, gathered)


def _fold_attacks(
    part: InjectedLog,
    injections: Sequence[Injection],
    first: int,
    settings: ShardSettings,
    gathered: Sequence[_Gathered],
) -> None:
    """An attack's rows are those from its first request to its last."""
    rows, at = RowTap(settings).observe(part.events)
    order = np.argsort(part.key_lo)
    which = order[np.searchsorted(part.key_lo[order], part.events.key_lo[at])]
    start_us = np.array([i.start_us for i in injections])
    end_us = np.array([i.end_us for i in injections])
    during = (rows["ts_us"] >= start_us[which]) & (rows["ts_us"] <= end_us[which])
    _sort_out(rows, which + first, during, settings, gathered)


def _sort_out(
    rows: npt.NDArray[Any],
    unit: I64,
    wanted: npt.NDArray[np.bool_],
    settings: ShardSettings,
    gathered: Sequence[_Gathered],
) -> None:
    for channel, (limits, mine) in enumerate(zip(settings.channels, gathered, strict=True)):
        kept = wanted & (rows["channel"] == channel)
        extra = rows["threshold"][kept] - limits.threshold
        z, young = settled_part(rows["z"][kept], rows["known"][kept], limits)
        mine.add(unit[kept], z, extra - young - rows["combined"][kept])
