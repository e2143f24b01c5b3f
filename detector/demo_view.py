"""What the demo prints. Log-derived text goes through ``safe`` everywhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from detector.safe_text import safe
from detector.sinks.slack.render import render as render_slack
from detector.sinks.terminal import render as render_terminal
from replay.evaluate import Evaluation
from replay.simulate import DemoScenario


class Bar:
    """A progress bar of one phase: events scored, events produced, keys, alerts."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self.total = total
        self._bar = Progress(
            TextColumn(f"{title} "),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} events scored"),
            TextColumn("· {task.fields[keys]} keys · {task.fields[alerts]} alerts"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task(title, total=total, keys=0, alerts=0)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, scored: int, produced: int, keys: int, alerts: int) -> None:
        """Moves the bar."""
        del produced  # the service's own count is what matters
        self._bar.update(self._task, completed=min(scored, self.total), keys=keys, alerts=alerts)


def show_intro(console: Console, seed: int, scenario: DemoScenario, address: str) -> None:
    """What is about to happen."""
    kinds = ", ".join(label.kind.replace("_", " ") for label in scenario.labels)
    console.print(
        Panel(
            Text(
                f"Simulated fleet {seed}: {len(scenario.registry)} API keys,"
                f" two weeks of history ({len(scenario.history):,} requests),"
                f" then three hours of live traffic in time lapse.\n"
                f"Injected attacks: {kinds}. Benign on purpose: a deploy, a batch job, a"
                f" developer with curl at home, and more.\n"
                f"Kafka-compatible broker on {address}; the service is a process of its own."
            ),
            title="keywatch demo",
            title_align="left",
        )
    )


def show_alert(console: Console, alert: dict[str, Any]) -> None:
    """An alert as it fires."""
    console.print(render_terminal(alert), soft_wrap=True)


def show_hook(console: Console, event: dict[str, Any]) -> None:
    """A revocation webhook that arrived at the local receiver, signature verified."""
    data = event["data"]
    text = Text("   revocation hook received (signature valid): ", style="magenta")
    text.append(f"{event['type']} for {safe(data['key'])}, alert {safe(data['alert_id'])}")
    console.print(text)


def preview_slack(console: Console, alert: dict[str, Any]) -> None:
    """The Slack message of one alert, as text."""
    lines = Text()
    for block in render_slack(alert)["blocks"]:
        for part in _texts(block):
            shown = part.replace("\n", ": ") if "fields" in block else part
            lines.append(shown + "\n", style="bold" if block["type"] == "header" else "")
    console.print(Panel(lines, title="the Slack message of the highest alert", title_align="left"))


def _texts(node: Any) -> list[str]:
    """All texts of a Block Kit block, in order."""
    if isinstance(node, dict):
        own = node.get("text")
        if isinstance(own, str):
            return [own]
        return [t for value in node.values() for t in _texts(value)]
    if isinstance(node, list):
        return [t for value in node for t in _texts(value)]
    return []


def show_result(console: Console, judged: Evaluation, rate: float, hooks: int) -> None:
    """The closing table."""
    table = Table(title="attacks injected", title_justify="left")
    for column in ("attack", "key", "requests", "caught", "leaked before the alert", "alert"):
        numeric = column in ("requests", "leaked before the alert")
        table.add_column(column, justify="right" if numeric else "left")
    for result in judged.attacks:
        label, alert = result.label, result.alert
        table.add_row(
            label.kind.replace("_", " "),
            safe(label.key),
            f"{label.requests:,}",
            "[green]yes[/green]" if result.caught else "[red]no[/red]",
            f"{result.leaked:,}",
            f"{alert['channel'].upper()} {alert['severity']}" if alert else "-",
        )
    console.print(table)
    console.print(
        f"{judged.caught} of {len(judged.attacks)} attacks caught, "
        f"{len(judged.false_alerts)} false alerts, {hooks} revocation hooks, "
        f"{rate:,.0f} events/s through Kafka during catch-up"
    )
