"""A progress bar over input bytes, silent unless asked for."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from replay.merge import InputFile


class Progress:
    """Shows how much of the inputs is read, events and alerts so far.

    ``enabled`` False shows nothing and costs nothing. Pipes have no length: the bar pulses.
    """

    def __init__(self, inputs: Sequence[InputFile], *, enabled: bool) -> None:
        self._inputs = inputs
        self._enabled = enabled

    def __enter__(self) -> Progress:
        if self._enabled:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("replay"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[events]:,} events"),
                TextColumn("{task.fields[alerts]} alerts"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            total = sum(f.bytes_total for f in self._inputs) or None
            self._task = self._bar.add_task("replay", total=total, events=0, alerts=0)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._enabled:
            self._bar.stop()

    def update(self, events: int, alerts: int) -> None:
        """Moves the bar to what has been read."""
        if self._enabled:
            done = sum(f.bytes_done for f in self._inputs)
            self._bar.update(self._task, completed=done, events=events, alerts=alerts)
