"""What looks like an attack and is none, one scenario at a time, against the same world without it.

``python -m benchmarks.hard_negatives [--seed 1] [--keys 1000] [--only L01a,B17] [--per-week 5]``

Clock skew, duplicated lines and late shipments (B17 to B19) must add no alert. A release, a
marketing campaign, an outage (B01, B03, B13) and changes of the log (L01a to L01g) may add one
notice, and no alert on their keys. Exit code 1 if one does. About ten seconds a scenario per
million events; the events of the default are 9 million.

An alert is not added if the key has one within a day in the world without the scenario too, or an
episode of the same channel there that passes the alert's threshold and was kept quiet by the cap.

The worlds of B17 to B19 and L01 have the very same requests as the one without. Those of B01, B03
and B13 differ a little everywhere, because their rates are scaled to the same total: only alerts
in the time of the scenario and a day after count.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from detector.core.episodes import Episode
from detector.core.fleet import LOWEST, FleetStage
from detector.core.settings import ShardSettings
from detector.core.shard import Shard
from models.clock import DAY_US
from replay.engine import Engine
from replay.simulate.world import World, WorldSettings

SILENT = ("B17", "B18", "B19")
ONE_NOTICE = ("B01", "B03", "B13", "L01a", "L01b", "L01c", "L01d", "L01e", "L01f", "L01g")
ABOUT_NOBODY = "*"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was raised in a world, and when its scenario ran on which keys.

    ``episodes`` are all there were, those that stayed quiet too.
    """

    alerts: list[Episode]
    episodes: list[Episode]
    late: int
    keys: frozenset[str]
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many alerts and notices a scenario added; ``alerts`` names the keys."""

    scenario: str
    keys: int
    late: int
    alerts: list[str]
    notices: int

    @property
    def is_good(self) -> bool:
        """Whether it keeps what the module promises."""
        return not self.alerts and self.notices <= (self.scenario in ONE_NOTICE)


def run_world(settings: WorldSettings, per_week: float) -> Seen:
    """Runs one world through the engine of replay at one budget."""
    world = World(settings)
    shard = Shard(ShardSettings(), world.registry())
    engine = Engine([shard], FleetStage(per_week, settings=ShardSettings(), lowest=LOWEST))
    for batch, _ in world.batches():
        engine.fold(batch)
    episodes = engine.finish()
    spans = [h for h in world.happenings if h.scenario in settings.benign]
    return Seen(
        alerts=engine.alerts,
        episodes=episodes,
        late=shard.counters["late"],
        keys=frozenset(k for h in spans for k in h.keys),
        start_us=min((h.start_us for h in spans), default=0),
        end_us=max((h.end_us for h in spans), default=0),
    )


def compare(scenario: str, with_it: Seen, without: Seen) -> Verdict:
    """Counts what was raised beyond the world without the scenario.

    An alert is matched by one on the same key within a day; hard facts count like others.
    """
    until_us = with_it.end_us + DAY_US

    def during(seen: Seen, *, notices: bool) -> list[Episode]:
        return [
            a
            for a in seen.alerts
            if (a.key == ABOUT_NOBODY) == notices and with_it.start_us <= _at(a) < until_us
        ]

    def is_usual(alert: Episode) -> bool:
        same = [a for a in without.alerts if a.key == alert.key]
        mine = [e for e in without.episodes if (e.key, e.channel) == (alert.key, alert.channel)]
        high = [e for e in mine if e.score >= alert.threshold]
        times = [_at(a) for a in same] + [e.peak_us for e in high]
        return any(abs(_at(alert) - t) <= DAY_US for t in times)

    added = [
        a.key
        for a in during(with_it, notices=False)
        if (scenario in SILENT or a.key in with_it.keys) and not is_usual(a)
    ]
    notices = len(during(with_it, notices=True)) - len(during(without, notices=True))
    late = with_it.late - without.late
    return Verdict(scenario, len(with_it.keys), late, sorted(added), max(0, notices))


def _at(alert: Episode) -> int:
    assert alert.alerted_us is not None
    return alert.alerted_us


def table(verdicts: list[Verdict]) -> str:
    """One line a scenario."""
    lines = ["scenario  keys  late events  added alerts  added notices"]
    for v in verdicts:
        word = "good" if v.is_good else "FAILS"
        names = " ".join(v.alerts[:4])
        row = (
            f"{v.scenario:8}  {v.keys:4}  {v.late:11,}  {len(v.alerts):12}  {v.notices:13}"
            f"  {word} {names}"
        )
        lines.append(row.rstrip())
    return "\n".join(lines)


def report(verdicts: list[Verdict]) -> int:
    """Prints the table; 1 when a scenario fails."""
    print(table(verdicts))
    return 0 if all(v.is_good for v in verdicts) else 1


def main(argv: list[str] | None = None) -> int:
    """Runs the scenarios and reports on them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hard_negatives")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--days", type=int, default=18)
    parser.add_argument("--quiet-days", type=int, default=14)
    parser.add_argument("--per-week", type=float, default=5.0)
    parser.add_argument("--only", default=",".join(SILENT + ONE_NOTICE))
    args = parser.parse_args(argv)
    chosen = [name.strip() for name in args.only.split(",")]
    for name in chosen:
        if name not in SILENT + ONE_NOTICE:
            parser.error(f"nothing is promised of {name!r}")

    def seen(benign: tuple[str, ...]) -> Seen:
        sys.stderr.write(f"running {' '.join(benign) or 'the world without'}\n")
        settings = WorldSettings(
            seed=args.seed,
            keys=args.keys,
            days=args.days,
            quiet_days=args.quiet_days,
            attacks_per_scenario=0,
            benign=benign,
        )
        return run_world(settings, args.per_week)

    without = seen(())
    verdicts = [compare(name, seen((name,)), without) for name in chosen]
    return report(verdicts)


if __name__ == "__main__":
    raise SystemExit(main())
