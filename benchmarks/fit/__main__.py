"""Makes ``models/combination.json``: rows of evidence, then trees.

::

    python -m benchmarks.fit rows -o ROWS --worlds 1,2,4,5,6,7,8,9,10,11 --young 21,22,23,24
    python -m benchmarks.fit splice LOG LOG -o SPLICED --sets 8
    python -m benchmarks.fit rows -o ROWS --spliced SPLICED
    python -m benchmarks.fit trees ROWS                    # writes models/combination.json
    python -m benchmarks.fit trees ROWS --hold 5,6,y23     # only says what trees are worth there

A world takes two minutes, trees take three. No seed used here may be among the reported ones.
The rows are of the current weights and thresholds: after a change of those, make them again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.fit.boosting import F64, Settings
from benchmarks.fit.rows import Rows, log_rows, world_rows
from benchmarks.fit.splice import Log, Splicer
from benchmarks.fit.trees import BUDGETS, corrections, fitted, ranked, recall
from models.combination import trees_of

TABLE = Path(__file__).resolve().parents[2] / "models" / "combination.json"
SETS = 8


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def make_rows(args: argparse.Namespace) -> None:
    """One ``.npz`` for each world or pair of spliced logs that has none yet."""
    args.output.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, Callable[[], Rows]] = {}
    jobs |= {str(seed): partial(world_rows, seed) for seed in _numbers(args.worlds)}
    jobs |= {f"y{s}": partial(world_rows, s, young=True) for s in _numbers(args.young)}
    labels = sorted(args.spliced.glob("*.labels.json")) if args.spliced else []
    for path in labels:
        name = path.name.removesuffix(".labels.json")
        logs = sorted(args.spliced.glob(f"{name}.*.ndjson.gz"))
        jobs[f"s{name}"] = partial(log_rows, logs, path)
    for name, job in jobs.items():
        to = args.output / f"{name}.npz"
        if not to.exists():
            job().save(to)
            print(f"{to}: written")


def splice(args: argparse.Namespace) -> None:
    """Sets of spliced thefts, from a pair of logs."""
    args.output.mkdir(parents=True, exist_ok=True)
    logs = Log(args.logs[0]), Log(args.logs[1])
    for seed in range(args.sets):
        made = Splicer(logs, seed)
        made.make()
        made.save(args.output, str(seed))
        print(f"set {seed}: {len(made.labels)} thefts")


def make_trees(args: argparse.Namespace) -> None:
    """Fits to all rows and writes the table; or to all but some, and measures on those."""
    held = set(args.hold.split(",")) - {""}
    files = sorted(args.rows.glob("*.npz"))
    rows = {path.stem: Rows.load(path) for path in files}
    table = fitted([r for name, r in rows.items() if name not in held], Settings(args.trees))
    if not held:
        lines = (
            f'"{channel}": [\n' + ",\n".join(json.dumps(tree) for tree in trees) + "\n]"
            for channel, trees in table.items()
        )
        TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{TABLE}: {args.trees} trees a channel")
    for name in sorted(held):
        _report(name, rows[name], corrections(rows[name], trees_of(table)))


def _report(name: str, rows: Rows, correction: F64) -> None:
    for what, score in (("sum", rows.total), ("with trees", rows.total + correction)):
        if rows.weeks:
            at = zip(BUDGETS, recall(rows, score), strict=True)
            said = "  ".join(f"{r:.3f} leaks {leak:.3f} at {n}" for n, (r, leak) in at)
        else:
            found = ranked(rows, score).items()
            said = "  ".join(f"{kind} {n} at {100 * q:.0f} %" for (kind, q), n in found)
        print(f"{name:>6} {what:11} {said}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("rows")
    one.add_argument("-o", "--output", type=Path, required=True)
    one.add_argument("--worlds", default="")
    one.add_argument("--young", default="")
    one.add_argument("--spliced", type=Path)
    one.set_defaults(run=make_rows)
    one = commands.add_parser("splice")
    one.add_argument("logs", type=Path, nargs=2)
    one.add_argument("-o", "--output", type=Path, required=True)
    one.add_argument("--sets", type=int, default=SETS)
    one.set_defaults(run=splice)
    one = commands.add_parser("trees")
    one.add_argument("rows", type=Path)
    one.add_argument("--hold", default="")
    one.add_argument("--trees", type=int, default=Settings().trees)
    one.set_defaults(run=make_trees)
    args = parser.parse_args()
    args.run(args)


_Formatter = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
