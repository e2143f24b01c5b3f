"""``keywatch tune``: fitting detection to one's own logs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli.options import ConfigFile, Output, OutputFormat, print_json, print_table
from detector.core.errors import UsageError

if TYPE_CHECKING:
    from replay.tune.run import Report

tune_app = typer.Typer(help="Fit detection to your own logs.", no_args_is_help=True)


@tune_app.command()
def fit(
    paths: Annotated[list[Path], typer.Argument(help="Log files: NDJSON, .gz, .zst, Parquet.")],
    config: ConfigFile = None,
    format: Annotated[  # noqa: A002 - the option's name
        str, typer.Option("--format", help="auto, canonical or combined.")
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other made-up attacks.")] = 1,
    strength: Annotated[
        float, typer.Option(min=0, help="Pull towards the weights in use; 100 hardly moves them.")
    ] = 3.0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="New TOML file for the weights.")
    ] = None,
    output: OutputFormat = Output.TABLE,
) -> None:
    """Learn how much each signal should count, from clean logs of yours and made-up attacks."""
    from detector.config import load

    if format not in ("auto", "canonical", "combined"):
        raise UsageError(f"--format is auto, canonical or combined, not {format!r}")
    settings = load(config)
    if out is not None and out.exists():
        raise UsageError(f"{out} exists already")
    from detector.detection_settings import shard_settings
    from replay.tune.run import fit_logs, record_of, toml_of

    report = fit_logs(
        paths,
        settings,
        shard_settings(settings),
        input_format=format,
        seed=seed,
        strength=strength,
        say=_say,
    )
    if output is Output.JSON:
        print_json(record_of(report))
    else:
        _print(report)
    if not report.improved:
        _say("no channel improved: keep the weights in use")
    elif out is None:
        _say("give -o FILE to write the weights")
    else:
        _write(out, toml_of(report))


def _say(sentence: str) -> None:
    from detector.safe_text import safe

    sys.stderr.write(f"keywatch: {safe(sentence, 1000)}\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise UsageError(f"cannot write {path}: {e.strerror}") from e


def _print(report: Report) -> None:
    from detector.sinks.wording import number
    from models.families import FAMILIES

    budgets = [f"{number(round(n, 1))} a week" for n in report.alerts_per_week()]
    rows: list[tuple[object, ...]] = []
    for judged in report.judgements:
        for found in judged.found:
            pairs = zip(found.before, found.after, strict=True)
            shares = [f"{100 * b:.0f} -> {100 * a:.0f} %" for b, a in pairs]
            rows.append((judged.channel, found.kind, found.attacks, *shares))
    title = "held-out attacks found at so many false alerts: weights in use -> fitted"
    print_table(title, ("channel", "attack", "made", *budgets), rows)
    channels = [j.channel for j in report.judgements]
    verdicts = [
        (j.channel, j.reason or f"better by {100 * j.gain:.1f} points (+- {100 * j.error:.1f})")
        for j in report.judgements
    ]
    print_table("fitted weights", ("channel", "verdict"), verdicts)
    table = zip(FAMILIES, *(j.weights for j in report.judgements), strict=True)
    weights = [(family, *(f"{w:g}" for w in row)) for family, *row in table]
    print_table("weights", ("signal", *channels), weights)
