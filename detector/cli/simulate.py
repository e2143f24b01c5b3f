"""The command that writes a made-up access log with known attacks in it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.core.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from replay.simulate.columns import EventColumns
    from replay.simulate.world import WorldSettings


def simulate(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The log: .ndjson, or .gz and .zst to compress.")
    ],
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another fleet.")] = 1,
    keys: Annotated[int, typer.Option(help="API keys of the fleet, 30 to 20,000.")] = 100,
    days: Annotated[int, typer.Option(help="Days of the log, from Monday 2026-01-05 on.")] = 21,
    quiet_days: Annotated[
        int | None,
        typer.Option(help="No attack starts before this day.", show_default="two thirds of them"),
    ] = None,
    requests_per_day: Annotated[
        int, typer.Option(min=1, help="Benign requests of the whole fleet, on average.")
    ] = 20_000,
    attacks: Annotated[
        str,
        typer.Option(help="Attack scenarios, A01 to A22: such as A01,A13; or all; or none."),
    ] = "all",
    per_scenario: Annotated[
        int, typer.Option(min=1, help="How many attacks of each of these scenarios.")
    ] = 1,
    benign: Annotated[
        str,
        typer.Option(
            help="Benign look-alikes that must occur, B01 to B20: such as B05,B08; or all (but"
            " B19); or none. B19: events arrive 6 hours late, out of order. L01: from some time"
            " on, all lines lose their user agent (L01a), get another path prefix (L01b) or one"
            " address (L01c)."
        ),
    ] = "all",
    labels: Annotated[
        Path | None, typer.Option(help="Also write the attacks there, for replay --labels.")
    ] = None,
    registry: Annotated[
        Path | None, typer.Option(help="Also write the key registry there, with some grants.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Write a made-up but lifelike access log: the same bytes for the same options."""
    from replay.simulate.world import World
    from replay.simulate.world_output import write_world
    from replay.simulate.world_settings import ALL_ATTACKS, ALL_BENIGN, WorldSettings

    if keys < 1:
        raise UsageError(f"a fleet has 30 to 20,000 keys, not {keys}")
    settings = WorldSettings(
        seed=seed,
        keys=keys,
        days=days,
        quiet_days=max(1, days * 2 // 3) if quiet_days is None else quiet_days,
        requests_per_day=round(requests_per_day * 2000 / keys),
        attacks_per_scenario=per_scenario,
        attacks=_chosen(attacks, ALL_ATTACKS),
        benign=_chosen(benign, ALL_BENIGN),
    )
    world = World(settings)
    with _bar(settings, enabled=progress and sys.stderr.isatty()) as bar:
        tell = _teller(bar, settings)
        lines = write_world(
            world, out, labels=labels, registry=registry, force=force, progress=tell
        )
    sys.stdout.write(f"{lines:,} events of {keys:,} keys, {len(world.attacks)} attacks, in {out}\n")


def _chosen(text: str, everything: tuple[str, ...]) -> tuple[str, ...]:
    """The scenarios an option names, each once, in order."""
    if text in ("all", "none"):
        return everything if text == "all" else ()
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _bar(settings: WorldSettings, *, enabled: bool) -> Any:
    if not enabled:
        return nullcontext()
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("simulate"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[events]:,} events"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.add_task("simulate", total=settings.days * 86_400, events=0)
    return bar


def _teller(bar: Progress | None, settings: WorldSettings) -> Callable[[EventColumns], None]:
    if bar is None:
        return lambda _chunk: None
    events = 0
    start_s = settings.end_us // 1_000_000 - settings.days * 86_400

    def tell(chunk: EventColumns) -> None:
        nonlocal events
        events += len(chunk)
        done_s = int(chunk.ts_us[-1]) // 1_000_000 - start_s
        bar.update(bar.task_ids[0], completed=done_s, events=events)

    return tell
