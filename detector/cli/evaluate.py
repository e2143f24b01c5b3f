"""``keywatch evaluate``: detection at a stated budget of false alerts, on simulated worlds."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from detector.core.errors import UsageError

OUT = Path("evaluation")


def evaluate(
    seeds: Annotated[
        str, typer.Option(help="Seeds of the worlds: 1,2,7 or 1-5; or tuning, or reported.")
    ] = "1",
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory for the results.")] = OUT,
    keys: Annotated[int, typer.Option(help="Keys of a world.")] = 2000,
    days: Annotated[int, typer.Option(help="Days of a world.")] = 35,
    quiet_days: Annotated[int, typer.Option(help="Days before the first attack.")] = 21,
    attacks_per_scenario: Annotated[
        int, typer.Option(help="Instances of each attack scenario; 0 = none.")
    ] = 8,
    attacks: Annotated[str, typer.Option(help="Attack scenarios: all, or A01,A13,...")] = "all",
    benign: Annotated[
        str,
        typer.Option(help="Benign scenarios: all, or B01,L01a,...; L01 changes the log itself."),
    ] = "all",
    methods: Annotated[
        str, typer.Option(help="all, or names joined by commas: ours and any rivals.")
    ] = "all",
    ablate: Annotated[
        str,
        typer.Option(
            help="Also run ours without signals: a,b+c runs it without a, and without b and c."
        ),
    ] = "",
    share_stolen: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="STOLEN's share of a budget; else one common threshold."),
    ] = None,
    feedback_days: Annotated[
        float,
        typer.Option(
            min=0, max=35, help="Days until the alerts really raised are answered; 0 = never."
        ),
    ] = 1,
    again: Annotated[bool, typer.Option("--again", help="Run what is already there anew.")] = False,
) -> None:
    """Measure what is found at 2, 10 and 40 false alerts a week, against rival methods."""
    from replay.evaluation.run import ALL, Plan, ablated, named
    from replay.evaluation.sweep import sweep
    from replay.simulate.world_settings import ALL_ATTACKS, ALL_BENIGN, WorldSettings

    names = ALL if methods == "all" else tuple(map(named, _listed(methods)))
    plan = Plan((*names, *map(ablated, _listed(ablate))), share_stolen, feedback_days=feedback_days)
    settings = WorldSettings(
        seed=0,
        keys=keys,
        days=days,
        quiet_days=quiet_days,
        attacks_per_scenario=attacks_per_scenario,
        attacks=ALL_ATTACKS if attacks == "all" else _listed(attacks),
        benign=ALL_BENIGN if benign == "all" else _listed(benign),
    )
    sys.stdout.write(sweep(out, settings, _seeds(seeds), plan, again=again, say=_say))


def _seeds(text: str) -> list[int]:
    """The seeds a text names, in its order. Raises ``UsageError``."""
    from replay.evaluation import seeds

    if text in ("tuning", "reported"):
        return list(seeds.TUNING if text == "tuning" else seeds.REPORTED)
    found: list[int] = []
    for part in _listed(text):
        span = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        if span is None:
            raise UsageError(f"--seeds {text!r}: seeds look like 1,2,7 or 1-5")
        found += range(int(span[1]), int(span[2] or span[1]) + 1)
    if not found:
        raise UsageError(f"--seeds {text!r} names no seed")
    return found


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _say(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
