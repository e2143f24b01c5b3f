"""The configured sinks."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from detector.config import SinksSection
from detector.core.ports import CheckpointStore, Sink
from detector.core.registry import KeyRegistry


def make_sinks(
    config: SinksSection,
    store: CheckpointStore,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    registry: Callable[[], KeyRegistry | None] = lambda: None,
    console: Console | None = None,
) -> list[Sink]:
    """Builds what the configuration names: terminal, jsonl, slack, revocation, in this order.

    ``clock`` gives wall time in seconds. Raises ``ConfigError`` for a missing secret, a
    file that cannot be written, or an address that cannot be used.
    """
    sinks: list[Sink] = []
    if config.terminal:
        from detector.sinks.terminal import TerminalSink

        sinks.append(TerminalSink(console))
    if config.jsonl is not None:
        from detector.sinks.jsonl import JsonlSink

        sinks.append(JsonlSink(config.jsonl))
    if config.slack is not None:
        from detector.sinks.slack.sink import SlackSink

        sinks.append(SlackSink(config.slack, clock, sleep))
    section = config.revocation
    if section is not None:
        from detector.sinks.revocation.webhook import RevocationSink

        sinks.append(RevocationSink(lambda: section, registry, store, clock))
    return sinks
