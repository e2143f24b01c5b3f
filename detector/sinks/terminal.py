"""Alerts on the operator's terminal."""

from __future__ import annotations

import io
from typing import Any, cast

from rich.console import Console
from rich.text import Text

from detector.core.errors import DeliveryError
from detector.safe_text import safe
from detector.sinks.wording import (
    EXPLANATION_MAX,
    NORMAL_SHOWN,
    REASONS_SHOWN,
    advice,
    headline,
    number,
    owner_traffic,
    rarity,
    references,
    signal_name,
    silenced_by,
    size,
    when,
)

_STYLES = {"critical": "bold white on red", "high": "bold red", "medium": "bold yellow"}


class TerminalSink:
    """Prints a few lines per alert, log-derived text escaped, nothing of it parsed as mark-up.

    Repeats an alert that is delivered twice: a terminal keeps no record.
    """

    name = "terminal"

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        # styled apart from the real file: on a broken pipe rich would end the thread and
        # redirect the process's standard output
        self._scratch = Console(
            file=io.StringIO(),
            force_terminal=self._console.is_terminal,
            color_system=cast("Any", self._console.color_system),
            no_color=self._console.no_color,
            width=self._console.width,
        )

    def deliver(self, alert: dict[str, Any]) -> None:
        """Prints the alert. Raises ``DeliveryError``, not retriable, when nobody reads any more."""
        with self._scratch.capture() as captured:
            self._scratch.print(render(alert), soft_wrap=True)
        file = self._console.file
        encoding = getattr(file, "encoding", None) or "utf-8"
        text = captured.get().encode(encoding, "backslashreplace").decode(encoding)
        try:
            file.write(text)
            file.flush()
        except (OSError, ValueError) as e:
            raise DeliveryError(f"terminal: {type(e).__name__}", retriable=False) from e


def render(alert: dict[str, Any]) -> Text:
    """The lines of one alert."""
    text = Text()
    text.append(f" {headline(alert)} ", style=_STYLES.get(alert["severity"], "bold"))
    text.append(f"  {safe(alert['key'])}", style="bold")
    text.append(f"  owner {safe(alert['owner'])}\n" if alert.get("owner") else "\n")
    score = f"score {alert['score']:.1f} (alerts from {alert['threshold']:.1f})"
    n = alert["requests_leaked"]
    leaked = f"{n:,} request{'' if n == 1 else 's'}, {size(alert['bytes_leaked'])} leaked"
    text.append(f"   {when(alert['alerted_at'])}  {score}, {rarity(alert)}; {leaked}\n")
    for reason in alert["reasons"][:REASONS_SHOWN]:
        usual = f"now {number(reason['observed'])}, usually {number(reason['expected'])}"
        text.append(f"   - {signal_name(safe(reason['signal']))}: ", style="cyan")
        text.append(f"{safe(reason['text'])} ({usual})\n")
    _add_normal(text, alert)
    _add_source(text, alert)
    _add_silencer(text, alert)
    simulated = " (revocation is simulated)" if alert.get("simulated") else ""
    why = alert.get("action_reason")
    text.append(f"   -> {advice(alert)}", style="green")
    text.append(f"{f' {safe(why, EXPLANATION_MAX)}' if why else ''}{simulated}")
    known = references(alert)
    text.append(f"  [{safe(alert['alert_id'])}]{f'  {safe(known)}' if known else ''}", style="dim")
    return text


def _add_normal(text: Text, alert: dict[str, Any]) -> None:
    for sentence in (alert.get("normal") or ())[:NORMAL_SHOWN]:
        text.append("   = normal, ", style="green")
        text.append(f"{safe(sentence)}\n")


def _add_source(text: Text, alert: dict[str, Any]) -> None:
    actor = alert.get("actor")
    if actor:
        text.append(f"   source {safe(actor['network'])} with {safe(actor['client'])}, ")
        text.append(f"{actor['requests']:,} requests since {when(actor['first_seen'])}\n")
    owner = owner_traffic(alert)
    if owner:
        text.append(f"   owner: {safe(owner)}\n")


def _add_silencer(text: Text, alert: dict[str, Any]) -> None:
    silencer = silenced_by(alert)
    if silencer:
        text.append(f"   what if: {safe(silencer, EXPLANATION_MAX)}\n")
