"""Does N alerts a week mean N? Attack-free fleets, several budgets from one pass over each.

``python -m benchmarks.calibration [--n 10,40] [--fleet-weeks 10] [--seeds 301-399] [-o DIR]``

Each seed is a fleet of 2,000 keys for ``--weeks`` weeks without attacks, but with all that looks
like one. Its candidates go to one fleet stage for each N, twice: with the rule that a quiet fleet
is not shown its noise (``LOWEST``, as shipped), and without it, which is the controller alone.
Alerts and notices count, hard facts do not. The first weeks of a fleet are reported apart: the
controller knows nothing in the first and little in the second.

A finished seed is kept as ``seed-N.json`` and not run again. A fleet-week takes about 30 seconds.
Exit code 1 when a target is missed (see ``TARGETS``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import msgspec
import numpy as np

from detector.core.events import EventBatch
from detector.core.fleet import LOWEST, FleetStage
from detector.core.fleet_budgets import CAP_FACTOR
from detector.core.settings import ShardSettings
from detector.core.shard import Shard
from models.clock import DAY_US
from replay.evaluation.store import code_digest
from replay.simulate.world import World, WorldSettings
from replay.simulate.world_settings import START_US

WEEK_US = 7 * DAY_US
END_US = (1 << 63) - 1
RULES = {"controller alone": 0.0, "as shipped": LOWEST}
N_ALL = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)
LEAST, MOST = 0.7, 1.25  # of N, for the controller alone
TARGETS = {10.0: 10, 20.0: 10, 40.0: 10, 5.0: 40, 1.0: 100, 2.0: 100}  # N: fleet-weeks it takes


class Run(msgspec.Struct):
    """What one fleet was told: times of alerts and notices by N and rule, microseconds."""

    seed: int
    weeks: int
    code: str
    raised: dict[str, list[int]]


class Row(msgspec.Struct):
    """A line of the table. Rates are alerts and notices per week, over N."""

    n: float
    rule: str
    fleet_weeks: int
    realised: float
    burn_in: list[float]
    worst_week: int

    @property
    def is_good(self) -> bool:
        """Whether it meets the targets; too few fleet-weeks for its N do not count against it."""
        if self.worst_week > ceil(CAP_FACTOR * self.n - 1e-9):
            return False
        is_judged = self.rule != "as shipped" and self.fleet_weeks >= TARGETS.get(self.n, 100)
        return not is_judged or LEAST <= self.realised <= MOST


class Fleet:
    """One shard and a fleet stage for each N and rule."""

    def __init__(self, world: World, budgets: tuple[float, ...]) -> None:
        settings = ShardSettings()
        self._shard = Shard(settings, world.registry())
        self._stages = {
            name_of(n, rule): FleetStage(
                n, settings=settings, lowest=lowest, population=self._shard.keys_by
            )
            for n in budgets
            for rule, lowest in RULES.items()
        }
        self.raised: dict[str, list[int]] = {name: [] for name in self._stages}

    def observe(self, batch: EventBatch) -> None:
        """Folds a batch and lets every stage decide."""
        if not len(batch):
            return
        candidates = self._shard.fold(batch)
        last_us = int(batch.ts_us[-1])
        for name, stage in self._stages.items():
            stage.start(int(batch.ts_us[0]))
            stage.offer(candidates)
            self._release(name, stage, last_us)
        self._shard.take_closed(last_us)

    def finish(self) -> None:
        """Decides what is left."""
        for name, stage in self._stages.items():
            self._release(name, stage, END_US)

    def _release(self, name: str, stage: FleetStage, until_us: int) -> None:
        found = stage.release(until_us)
        stage.take_throttles()
        self.raised[name] += [a.alerted_us or 0 for a in found if not a.is_hard]


def name_of(n: float, rule: str) -> str:
    """How a stage is named in a saved run."""
    return f"{n:g} {rule}"


def run_seed(settings: WorldSettings, budgets: tuple[float, ...]) -> Run:
    """Runs one fleet from its first day to its last."""
    world = World(settings)
    fleet = Fleet(world, budgets)
    for batch, _ in world.batches():
        fleet.observe(batch)
    fleet.finish()
    return Run(settings.seed, settings.days // 7, code_digest(), fleet.raised)


def rows_of(runs: list[Run], budgets: tuple[float, ...], burn_in: int) -> list[Row]:
    """The table: one row for each N and rule."""
    rows = []
    for n in budgets:
        for rule in RULES:
            times = [np.array(r.raised[name_of(n, rule)], np.int64) for r in runs]
            by_week = [
                np.bincount((t - START_US) // WEEK_US, minlength=r.weeks)[: r.weeks]
                for t, r in zip(times, runs, strict=True)
            ]
            counted = np.concatenate([w[burn_in:] for w in by_week])
            first = [float(np.mean([w[i] for w in by_week])) / n for i in range(burn_in)]
            worst = max(in_any_week(t) for t in times)
            rows.append(
                Row(n, rule, len(counted), float(counted.mean()) / n, first, worst),
            )
    return rows


def in_any_week(times_us: np.ndarray) -> int:
    """The largest number of times within any seven days.

    >>> in_any_week(np.array([0, 1, 6, 7, 30]) * DAY_US)
    3
    """
    times = np.sort(times_us)
    if not len(times):
        return 0
    begin = np.searchsorted(times, times - WEEK_US, side="right")
    return int((np.arange(len(times)) - begin).max() + 1)


def table(rows: list[Row]) -> str:
    """The rows as text."""
    lines = [
        "| N | rule | fleet-weeks | realised / N | first weeks / N | worst 7 days | allowed | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        first = ", ".join(f"{x:.2f}" for x in r.burn_in)
        allowed = ceil(CAP_FACTOR * r.n - 1e-9)
        cells = (
            f"{r.n:g} | {r.rule} | {r.fleet_weeks} | {r.realised:.2f} | {first}"
            f" | {r.worst_week} | {allowed} | {'good' if r.is_good else 'misses'}"
        )
        lines.append(f"| {cells} |")
    return "\n".join(lines)


def seeds_of(text: str) -> Iterator[int]:
    """Seeds of ``301-399`` or ``301,305``.

    >>> list(seeds_of("1,5-7"))
    [1, 5, 6, 7]
    """
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def main(argv: list[str] | None = None) -> int:
    """Runs as many seeds as the fleet-weeks need and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration")
    parser.add_argument("--n", default=",".join(f"{n:g}" for n in N_ALL))
    parser.add_argument("--fleet-weeks", type=int, default=10)
    parser.add_argument("--seeds", default="301-399")
    parser.add_argument("--weeks", type=int, default=10, help="weeks of each fleet")
    parser.add_argument("--burn-in", type=int, default=2, help="first weeks that do not count")
    parser.add_argument("--keys", type=int, default=2000)
    parser.add_argument("-o", "--out", type=Path, default=Path("calibration"))
    args = parser.parse_args(argv)
    budgets = tuple(float(n) for n in args.n.split(","))
    args.out.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    for seed in seeds_of(args.seeds):
        if len(runs) * (args.weeks - args.burn_in) >= args.fleet_weeks:
            break
        settings = WorldSettings(
            seed=seed,
            keys=args.keys,
            days=7 * args.weeks,
            quiet_days=7 * min(2, args.weeks - 1),
            attacks_per_scenario=0,
        )
        runs.append(_run_once(args.out, settings, budgets))
    rows = rows_of(runs, budgets, args.burn_in)
    print(table(rows))
    return 0 if all(r.is_good for r in rows) else 1


def _run_once(out: Path, settings: WorldSettings, budgets: tuple[float, ...]) -> Run:
    """The saved run of a seed if it answers the same question, else a new one, saved."""
    path = out / f"seed-{settings.seed}-{settings.keys}.json"
    if path.exists():
        run = msgspec.json.decode(path.read_bytes(), type=Run)
        wanted = {name_of(n, rule) for n in budgets for rule in RULES}
        if run.weeks == settings.days // 7 and wanted <= run.raised.keys():
            if run.code != code_digest():
                sys.stderr.write(f"seed {settings.seed} was run by another version of the code\n")
            return run
    sys.stderr.write(f"seed {settings.seed}: {settings.days // 7} weeks of {settings.keys} keys\n")
    run = run_seed(settings, budgets)
    path.write_bytes(msgspec.json.encode(run))
    return run


if __name__ == "__main__":
    raise SystemExit(main())
