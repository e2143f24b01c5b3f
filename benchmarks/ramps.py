"""Baselines that are led astray: a key's traffic grows a little every day, for thirty days.

``python -m benchmarks.ramps [--seeds 401-410] [--keys 400] [--per-week 1]``

Each seed is a simulated fleet without attacks, four weeks old, in which one steady key for each
of four rates begins to grow: by 1, 2, 5 and 10 % a day. What is added are the key's own requests
again, some minutes later: own sources, own routes, own identifiers, so that nothing but their
number gives them away, and a baseline that follows its key would never see it. The ratio is that
of the day to the four weeks before ("frozen"); the budget is the part of 5 a week for 2,000 keys.

Exit code 1 when a ramp that reaches three times the frozen level is not alerted before it. Ramps
of 1 and 2 % reach 1.3 and 1.8 times in thirty days and are shown. About 20 seconds a seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.calibration import seeds_of
from detector.core.episodes import Episode
from detector.core.events import I64, EventBatch
from detector.core.fleet import LOWEST, FleetStage
from detector.core.settings import ShardSettings
from detector.core.shard import Shard
from models.clock import DAY_US
from replay.engine import Engine
from replay.evaluation.keys import KeyIndex
from replay.evaluation.points import F64
from replay.simulate.world import World, WorldSettings
from replay.simulate.world_settings import START_US

QUIET_DAYS, RAMP_DAYS = 28, 30
GROWTHS = (0.01, 0.02, 0.05, 0.10)
LIMIT = 3.0  # times the frozen level: an alert must come before
PER_DAY_MIN = 150  # of a key that is chosen; the quietest of its days has a third of it
SIGNAL = "slow_drift"  # has to be among the reasons: other alerts are not about the ramp
AGAIN_US = 1_800_000_000  # a request comes again within so long


@dataclass(frozen=True, slots=True)
class Ramp:
    """What became of one ramp; ratios are ``None`` where nothing was said.

    - ``reached``    ratio of the last day
    - ``alert``      ratio of the day of the first alert on the key after it began to grow
    - ``throttle``   the same of the first recommendation to throttle
    """

    growth: float
    reached: float
    alert: float | None
    throttle: float | None

    @property
    def is_good(self) -> bool:
        """Whether it was alerted in time, or never came so far."""
        return self.reached < LIMIT or (self.alert is not None and self.alert < LIMIT)


class Growth:
    """Adds to a stream what the growing keys ask for again.

    Parameters
    ----------
    growth_of
        Of each key by its number, what it grows by a day; 0 = it does not.
    keys
        The world's keys.
    seed
        Of the times and numbers of what is added.
    """

    def __init__(self, growth_of: F64, keys: KeyIndex, seed: int) -> None:
        self._growth_of, self._keys = growth_of, keys
        self._rng = np.random.default_rng(seed)
        self._later = EventBatch.empty()

    def over(self, batches: Iterator[EventBatch]) -> Iterator[EventBatch]:
        """The stream with the additions, in event-time order."""
        for batch in batches:
            if len(batch):
                yield self._upto(EventBatch.concat([batch, self._again(batch)]), batch.ts_us[-1])
        yield self._upto(EventBatch.empty(), np.int64((1 << 63) - 1))

    def _again(self, batch: EventBatch) -> EventBatch:
        day = (batch.ts_us - START_US) // DAY_US - QUIET_DAYS
        number = self._keys.of(batch)
        growth = np.where(number >= 0, self._growth_of[number], 0.0)
        more = ratio_of(growth, day) - 1.0
        rows = np.repeat(np.arange(len(batch)), self._rng.poisson(more))
        later = batch.take(rows)
        return replace(later, ts_us=later.ts_us + self._rng.integers(AGAIN_US, size=len(rows)))

    def _upto(self, more: EventBatch, until_us: np.int64) -> EventBatch:
        both = EventBatch.concat([more, self._later])
        both = both.take(np.argsort(both.ts_us, kind="stable"))
        cut = int(np.searchsorted(both.ts_us, until_us, side="right"))
        self._later = both.take(slice(cut, None))
        return both.take(slice(0, cut))


def ratio_of(growth: F64, day: I64) -> F64:
    """Traffic of a day of the ramp, the first being 0, over the frozen level.

    >>> ratio_of(np.array([0.1, 0.1]), np.array([-1, 1]))
    array([1.  , 1.21])
    """
    return np.asarray((1.0 + growth) ** np.maximum(day + 1, 0))


def chosen(world: World, keys: KeyIndex) -> list[int]:
    """One steady key for each of ``GROWTHS``, by number; the same for equal worlds."""
    per_day = np.zeros((QUIET_DAYS, len(keys)), np.int64)
    for batch, _ in world.batches():
        number, day = keys.of(batch), (batch.ts_us - START_US) // DAY_US
        counts = (number >= 0) & (day < QUIET_DAYS)
        np.add.at(per_day, (day[counts], number[counts]), 1)
        if len(day) and day[-1] >= QUIET_DAYS:
            break
    steady = (per_day.mean(axis=0) >= PER_DAY_MIN) & (per_day.min(axis=0) >= PER_DAY_MIN // 3)
    rng = np.random.default_rng(world.settings.seed)
    return [int(n) for n in rng.choice(np.flatnonzero(steady), len(GROWTHS), replace=False)]


def run_seed(settings: WorldSettings, per_week: float) -> list[Ramp]:
    """Runs one fleet with a growing key for each rate."""
    world = World(settings)
    keys = KeyIndex(world.key_class)
    number = chosen(world, keys)
    growth_of = np.zeros(len(keys))
    growth_of[number] = GROWTHS
    shard = Shard(ShardSettings(), world.registry())
    engine = Engine([shard], FleetStage(per_week, settings=ShardSettings(), lowest=LOWEST))
    for batch in Growth(growth_of, keys, settings.seed).over(b for b, _ in world.batches()):
        engine.fold(batch)
    engine.finish()
    return [
        Ramp(
            growth,
            _ratio(growth, RAMP_DAYS - 1),
            _first(engine.alerts, keys.texts[key], growth),
            _first(engine.throttles, keys.texts[key], growth),
        )
        for key, growth in zip(number, GROWTHS, strict=True)
    ]


def _first(said: list[Episode], key: str, growth: float) -> float | None:
    mine = [e for e in said if e.key == key and any(r.signal == SIGNAL for r in e.reasons)]
    times = [e.alerted_us or e.opened_us for e in mine]
    days = [(ts_us - START_US) // DAY_US - QUIET_DAYS for ts_us in times]
    days = [day for day in days if day >= 0]
    return _ratio(growth, min(days)) if days else None


def _ratio(growth: float, day: int) -> float:
    return float(ratio_of(np.array(growth), np.array(day)))


def table(ramps: list[Ramp]) -> str:
    """One line a rate."""
    lines = [
        "| a day | ramps | reach | alerted | before 3x | at (median) | throttle before 3x | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for growth in GROWTHS:
        of = [r for r in ramps if r.growth == growth]
        at = [r.alert for r in of if r.alert is not None]
        limits = [r.throttle for r in of if r.throttle is not None and r.throttle < LIMIT]
        lines.append(
            f"| {growth:.0%} | {len(of)} | {of[0].reached:.1f}x | {len(at)}"
            f" | {sum(a < LIMIT for a in at)} | {f'{np.median(at):.1f}x' if at else '-'}"
            f" | {len(limits)} | {'good' if all(r.is_good for r in of) else 'misses'} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs the seeds and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ramps")
    parser.add_argument("--seeds", default="401-410")
    parser.add_argument("--keys", type=int, default=400)
    parser.add_argument("--per-week", type=float, default=1.0, help="5 for 2,000 keys")
    args = parser.parse_args(argv)
    ramps: list[Ramp] = []
    for seed in seeds_of(args.seeds):
        sys.stderr.write(f"fleet {seed}\n")
        settings = WorldSettings(
            seed=seed,
            keys=args.keys,
            days=QUIET_DAYS + RAMP_DAYS,
            quiet_days=QUIET_DAYS,
            attacks_per_scenario=0,
        )
        ramps += run_seed(settings, args.per_week)
    print(table(ramps))
    return 0 if all(r.is_good for r in ramps) else 1


if __name__ == "__main__":
    raise SystemExit(main())
