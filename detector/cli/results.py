"""Commands that look at results: alerts, explanations, snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from detector.cli.options import (
    ConfigFile,
    Output,
    OutputFormat,
    RequiredConfigFile,
    print_json,
    print_table,
    read_ndjson,
)
from detector.core.errors import SnapshotError, UsageError

alerts_app = typer.Typer(help="The alerts of a service or a replay.", no_args_is_help=True)
checkpoint_app = typer.Typer(help="The snapshots of a service.", no_args_is_help=True)

_FromDir = Annotated[
    Path | None, typer.Option("--from", help="Output directory of a replay, instead of -c.")
]


@alerts_app.command("list")
def list_(
    config: ConfigFile = None,
    from_dir: _FromDir = None,
    output: OutputFormat = Output.TABLE,
) -> None:
    """List the alerts in order of their time."""
    from detector.sinks.wording import number, when

    if from_dir is not None:
        alerts = read_ndjson(from_dir / "alerts.ndjson")
    else:
        from detector.cli.state import list_alerts

        alerts = list_alerts(_store(config))
    if output is Output.JSON:
        print_json(alerts)
        return
    columns = ("alerted", "severity", "channel", "key", "score", "leaked", "state", "id")
    rows = [
        (
            when(a["alerted_at"]),
            a["severity"],
            a["channel"],
            a["key"],
            number(a["score"]),
            f"{a['requests_leaked']:,}",
            a["state"],
            a["alert_id"],
        )
        for a in alerts
    ]
    print_table(f"{len(rows)} alerts", columns, rows)


def explain(
    alert_id: Annotated[str, typer.Argument(help="The id shown with the alert.")],
    config: ConfigFile = None,
    from_dir: _FromDir = None,
    output: OutputFormat = Output.TABLE,
) -> None:
    """Show why an alert was raised, what stayed normal and what would have silenced it."""
    record = _find(alert_id, config, from_dir)
    if output is Output.JSON:
        print_json(record)
        return
    from rich.console import Console

    from detector.sinks.terminal import render
    from detector.sinks.wording import number, when

    Console().print(render(record), soft_wrap=True)
    rows: list[tuple[object, ...]] = [
        (r["signal"], number(r["nats"]), number(r["observed"]), number(r["expected"]), r["text"])
        for r in record["reasons"]
    ]
    if together := record.get("combined_nats"):
        rows.append(("(together)", number(together), "", "", "what these signs mean together"))
    print_table("evidence", ("signal", "nats", "now", "usual", "what"), rows)
    if record.get("normal"):
        print_table("what stayed normal", ("as of the alert",), [(n,) for n in record["normal"]])
    known = [(r["framework"], r["id"], r["name"]) for r in record.get("references") or ()]
    if known:
        print_table("where to read on", ("catalogue", "id", "name"), known)
    curve = [(when(t), number(s), f"{n:,}", f"{b:,}") for t, s, n, b in record["curve"]]
    print_table("how the score rose", ("time", "score", "requests leaked", "bytes leaked"), curve)


@checkpoint_app.command()
def verify(config: RequiredConfigFile, output: OutputFormat = Output.TABLE) -> None:
    """Read the newest snapshot set whole and show its digests; damage is an error (70)."""
    from detector.checkpointer import load_newest_set
    from detector.config import load
    from detector.core.shard import Shard
    from detector.detection_settings import shard_settings

    settings = shard_settings(load(config))
    found = load_newest_set(_store(config))
    partitions = {}
    for partition, (next_offset, state) in sorted(found.states.items()):
        shard = Shard.from_state(state, settings)
        partitions[partition] = {
            "next_offset": next_offset,
            "events": shard.n_events,
            "keys": shard.n_keys,
            "bytes": len(state),
            "digest": shard.digest(),
        }
    if output is Output.JSON:
        print_json({"serial": found.serial, "damaged": found.damaged, "partitions": partitions})
    else:
        columns = ("partition", "next offset", "events", "keys", "bytes", "digest")
        rows = [(p, *fields.values()) for p, fields in partitions.items()]
        print_table(f"snapshot set {found.serial}", columns, rows)
    if found.damaged:
        raise SnapshotError(f"{len(found.damaged)} newer set(s) are damaged: {found.damaged[0]}")


def _find(alert_id: str, config: Path | None, from_dir: Path | None) -> dict[str, Any]:
    if from_dir is not None:
        for name in ("alerts.ndjson", "episodes.ndjson"):
            for record in read_ndjson(from_dir / name):
                if record["alert_id"] == alert_id:
                    return record
        raise UsageError(f"no alert {alert_id} in {from_dir}")
    from detector.cli.state import find_record

    found = find_record(_store(config), alert_id)
    if found is None:
        raise UsageError(f"no alert {alert_id} in the state directory")
    return found


def _store(config: Path | None) -> Any:
    from detector.cli.state import ReadOnlyStore
    from detector.config import load

    if config is None:
        raise UsageError("give -c FILE (a service) or --from DIR (a replay)")
    return ReadOnlyStore(load(config).state.dir)
