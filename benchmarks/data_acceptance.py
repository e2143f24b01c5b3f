"""Replays every log below a folder and says what came of it.

``python -m benchmarks.data_acceptance DIR [-o OUT]`` replays each ``*.ndjson.gz`` alone; where
a ``labels.json`` lies beside them, that folder's logs together too, judged by the labels. Every
replay must account for each line and keep to the published JSON Schemas: the exit code is 1
otherwise. Results stay in OUT (a temporary folder by default).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from detector.config import Config
from detector.core.episodes import HARD_FACTS
from detector.core.errors import KeywatchError
from replay.run import replay_files

SCHEMAS = Path(__file__).resolve().parents[1] / "docs" / "schema"
HEAD = ("log", "lines", "accepted", "no_key", "rejected", "keys", "episodes", "alerts", "events/s")
FAULTS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Job:
    """Logs to replay as one."""

    name: str
    paths: Sequence[Path]
    labels: Path | None = None


def jobs(root: Path) -> Iterator[Job]:
    """Each log alone, then those of a labelled folder together."""
    for folder in sorted({p.parent for p in root.rglob("*.ndjson.gz")}):
        logs = sorted(folder.glob("*.ndjson.gz"))
        name = folder.relative_to(root)
        for log in logs:
            yield Job(str(name / log.name.removesuffix(".ndjson.gz")), [log])
        labels = folder / "labels.json"
        if labels.is_file():
            yield Job(f"{name} (labelled)", logs, labels)


def faults(out: Path) -> list[str]:
    """What is wrong with a replay's files: the count equation, then the schemas."""
    summary = json.loads((out / "summary.json").read_bytes())
    refused = sum(summary["rejected"].values())
    found = []
    if summary["lines"] != summary["accepted"] + summary["no_key"] + refused:
        found.append("lines are not accepted + no_key + rejected")
    files = (out / f"{kind}.ndjson" for kind in ("alerts", "episodes", "throttles"))
    alerts, episodes, throttles = map(_records, files)
    if len(episodes) != summary["episodes"]:
        found.append("the summary counts other episodes than the file holds")
    told = summary["hard_alerts"] + sum(summary["alerts"].values())
    if sum(not _is_of_many_keys(a) for a in alerts) != told:
        found.append("the summary counts other alerts than the file holds")
    if sum(a["key"] == "*" for a in alerts) != summary["notices"]:
        found.append("the summary counts other notices than the file holds")
    if len(throttles) != summary["throttles"]:
        found.append("the summary counts other throttles than the file holds")
    found += _invalid("alert", alerts) + _invalid("episode", episodes + throttles)
    return found + _invalid("summary", [summary])


def _is_of_many_keys(alert: dict[str, Any]) -> bool:
    """A notice about a common cause: the summary counts those about hard facts with the facts."""
    return alert["key"] == "*" and alert["reasons"][0]["signal"] not in HARD_FACTS


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _invalid(name: str, records: Sequence[dict[str, Any]]) -> list[str]:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_bytes())
    errors = Draft202012Validator(schema).iter_errors
    return [
        f"{name} {i + 1}: {e.json_path}: {e.message}"
        for i, record in enumerate(records)
        for e in errors(record)
    ]


def row(name: str, summary: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    numbers = (
        summary["lines"],
        summary["accepted"],
        summary["no_key"],
        sum(summary["rejected"].values()),
        summary["keys"],
        summary["episodes"],
        sum(summary["alerts"].values()) + summary["hard_alerts"],
        summary["events_per_s"],
    )
    return (name, *(f"{n:,}" for n in numbers))


def ranking(summary: dict[str, Any]) -> str:
    """How many victims of each kind rank above all but 5 % of the clean keys, and all but 2 %."""
    told = summary["evaluation"]
    ranks = told["ranking"]
    found = ", ".join(
        f"{kind} {ranks['found'][kind]}/{n} ({ranks['found_strict'][kind]})"
        for kind, n in ranks["victims"].items()
    )
    return (
        f"    found with at most {ranks['clean_above_max']} of {ranks['clean_keys']} clean keys "
        f"above (2 %): {found}; alerts: {told['caught']} attacks, {told['false_alerts']} false"
    )


def _show(cells: Sequence[str]) -> None:
    widths = (34, 8, 8, 7, 8, 6, 8, 6, 9)
    first, *rest = (f"{c:{'<' if i == 0 else '>'}{widths[i]}}" for i, c in enumerate(cells))
    sys.stdout.write(" ".join([first, *rest]) + "\n")
    sys.stdout.flush()


def run(root: Path, out: Path) -> bool:
    """Replays all; True when every result was as promised."""
    work = list(jobs(root))
    replay_files(work[0].paths, out / "warm-up", Config())  # compiles, so that speeds compare
    _show(HEAD)
    good = True
    for number, job in enumerate(work):
        folder = out / f"{number:02}"
        summary = replay_files(job.paths, folder, Config(), labels=job.labels)
        _show(row(job.name, summary))
        if job.labels is not None:
            sys.stdout.write(ranking(summary) + "\n")
        wrong = faults(folder)
        for fault in wrong[:FAULTS_SHOWN]:
            sys.stdout.write(f"    FAULT {fault}\n")
        good = good and not wrong
    return good


def main() -> None:
    """Parses the command line and ends with 0, 1 (a promise broken) or 2 (usage)."""
    parser = argparse.ArgumentParser(prog="data_acceptance", description=__doc__)
    parser.add_argument("root", type=Path, metavar="DIR")
    parser.add_argument("-o", "--out", type=Path, help="keep the results there")
    args = parser.parse_args()
    if not any(args.root.rglob("*.ndjson.gz")):
        parser.error(f"there is no *.ndjson.gz below {args.root}")
    out = args.out or Path(tempfile.mkdtemp(prefix="keywatch-acceptance-"))
    try:
        good = run(args.root, out)
    except KeywatchError as e:
        parser.error(str(e))
    sys.stdout.write(f"results in {out}\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
