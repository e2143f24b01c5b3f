"""Deadlines and the watchdog: nothing here may wait for ever."""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Callable
from threading import Event, Thread

from detector.core.errors import EXIT_INTERNAL

_CHECK_EVERY_S = 0.5


class Deadline:
    """One monotonic budget shared by all steps of a shutdown.

    >>> Deadline(5.0, monotonic=lambda: 100.0).remaining_s()
    5.0
    """

    def __init__(self, budget_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._end_s = monotonic() + budget_s

    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end_s - self._monotonic())


class Watchdog:
    """Ends the process when the loop makes no progress for ``limit_s``.

    The Kafka client's calls into its own thread have no time limit, so a wedged one would
    hang the service silently. Dumps all stacks to stderr, then exits with 70 at once: what
    is not in a snapshot is read again after the restart.
    """

    def __init__(
        self,
        limit_s: float,
        monotonic: Callable[[], float] = time.monotonic,
        give_up: Callable[[float], None] | None = None,
    ) -> None:
        self._limit_s = limit_s
        self._monotonic = monotonic
        self._give_up = give_up or _dump_and_exit
        self._beat_s = monotonic()
        self._end_s: float | None = None
        self._stopped = Event()
        self._thread = Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self.start_after(0.0)

    def start_after(self, first_s: float) -> None:
        """Begins to watch, and waits this much longer for the first beat: a start is slow."""
        self._beat_s = self._monotonic() + first_s
        self._thread.start()

    def beat(self) -> None:
        """The loop has made progress."""
        self._beat_s = self._monotonic()

    def silence_s(self) -> float:
        """Seconds since the last beat."""
        return max(0.0, self._monotonic() - self._beat_s)

    def expect_end(self, within_s: float) -> None:
        """From now on beats do not count: the process must be gone in time."""
        self._end_s = self._monotonic() + within_s

    def stop(self) -> None:
        """Ends the watch."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(_CHECK_EVERY_S):
            late = self._end_s is not None and self._monotonic() > self._end_s
            if late or (self._end_s is None and self.silence_s() > self._limit_s):
                self._give_up(self.silence_s())
                return


def _dump_and_exit(silence_s: float) -> None:
    sys.stderr.write(f"keywatch: no progress for {silence_s:.0f} s, exiting; all stacks follow\n")
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(EXIT_INTERNAL)
