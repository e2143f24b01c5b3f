"""The command that replays logs, without a broker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from detector.cli.options import ConfigFile
from detector.core.errors import UsageError


def replay(
    paths: Annotated[list[Path], typer.Argument(help="Log files: NDJSON, .gz, .zst, Parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory for the results.")],
    config: ConfigFile = None,
    format: Annotated[  # noqa: A002 - the option's name
        str, typer.Option("--format", help="auto, canonical or combined.")
    ] = "auto",
    shards: Annotated[int, typer.Option(min=1, max=1024, help="Parts of the state.")] = 1,
    state: Annotated[
        Path | None, typer.Option("--state", help="Also save the final state there.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Known attacks, to judge the result by.")
    ] = None,
    verdicts: Annotated[
        Path | None, typer.Option("--verdicts", help="What people said, applied at its time.")
    ] = None,
    lateness: Annotated[
        float,
        typer.Option(min=0, max=86_400, help="Seconds a file may go back in time; it is sorted."),
    ] = 300,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Score historical logs with the engine of the live service; nothing is ever sent."""
    from detector.config import load

    if format not in ("auto", "canonical", "combined"):
        raise UsageError(f"--format is auto, canonical or combined, not {format!r}")
    settings = load(config)
    from detector.safe_text import safe
    from replay.run import replay_files

    summary = replay_files(
        paths,
        out,
        settings,
        input_format=format,
        shards=shards,
        state=state,
        labels=labels,
        verdicts=verdicts,
        lateness_s=lateness,
        progress=progress and sys.stderr.isatty(),
    )
    for sentence in _warnings(summary, out):
        sys.stderr.write(f"keywatch: {safe(sentence, 1000)}\n")
    found = sum(summary["alerts"].values()) + summary["hard_alerts"]
    sys.stdout.write(
        f"{summary['lines']:,} lines, {summary['keys']:,} keys, {found} alerts, "
        f"{summary['events_per_s']:,} events/s: see {out / 'report.html'}\n"
    )


def _warnings(summary: dict[str, Any], out: Path) -> Iterator[str]:
    """What of the input could not be used."""
    refused = sum(summary["rejected"].values())
    if refused:
        where = out / "rejected.ndjson"
        yield f"{refused:,} of {summary['lines']:,} lines could not be read: see {where}"
    yield from summary["damaged"]
