"""What one sender does next: a queue of alert ids with back-off, without threads of its own."""

from __future__ import annotations

import heapq
import random
from collections import deque
from threading import Event, Lock

BACKOFF_MIN_S, BACKOFF_MAX_S = 1.0, 900.0
RETRY_AFTER_MAX_S = 3600.0  # a receiver's wish beyond this is taken as this


class Lane:
    """Ids in order of arrival; a failed one comes back after its own back-off.

    One bad alert must not hold up the others, and a receiver that is down must not be
    hammered with every alert there is: when two different alerts fail one after the other
    the whole lane pauses, one alert probes at the end of each pause, and the first success
    releases them all. A receiver's ``Retry-After`` pauses the lane as well.

    Ids beyond ``queue_max`` are not kept: ``overflowed`` says that the store has more.
    """

    def __init__(self, rng: random.Random, queue_max: int) -> None:
        self.wake = Event()
        self.overflowed = False
        self._rng = rng
        self._queue_max = queue_max
        self._lock = Lock()
        self._known: set[str] = set()
        self._fresh: deque[str] = deque()
        self._waiting: list[tuple[float, int, str]] = []  # heap of (due, serial, id)
        self._attempts: dict[str, int] = {}
        self._serial = 0
        self._pause_until_s = 0.0
        self._streak = 0
        self._last_failed: str | None = None

    def __len__(self) -> int:
        return len(self._known)

    @property
    def is_half_empty(self) -> bool:
        """True when there is room again for at least half of ``queue_max``."""
        return len(self._known) <= self._queue_max // 2

    def knows(self, alert_id: str) -> bool:
        """True while the id is queued, waiting or being delivered."""
        return alert_id in self._known

    def add(self, alert_id: str) -> bool:
        """Queues an id once; over the limit it only notes that the store has more."""
        with self._lock:
            if alert_id in self._known:
                return False
            if len(self._known) >= self._queue_max:
                self.overflowed = True
                return False
            self._known.add(alert_id)
            self._fresh.append(alert_id)
        self.wake.set()
        return True

    def take(self, now_s: float) -> tuple[str | None, float | None]:
        """The id to try now, or how long to wait; (None, None) = until something is added."""
        with self._lock:
            # a wall clock set back must not turn a pause into a standstill
            pause_s = min(self._pause_until_s - now_s, RETRY_AFTER_MAX_S)
            if self._known and pause_s > 0:
                return None, pause_s
            if self._waiting and (self._is_down or self._waiting[0][0] <= now_s):
                return heapq.heappop(self._waiting)[2], None
            if self._fresh:
                return self._fresh.popleft(), None
            if self._waiting:
                return None, min(self._waiting[0][0] - now_s, BACKOFF_MAX_S)
            return None, None

    def succeeded(self, alert_id: str, now_s: float) -> None:
        """The id is delivered: forget it, and release the others if the lane was down."""
        with self._lock:
            self._forget(alert_id)
            self._last_failed = None
            if self._is_down:
                self._streak, self._pause_until_s = 0, 0.0
                self._waiting = [(min(due, now_s), n, i) for due, n, i in self._waiting]
                heapq.heapify(self._waiting)

    def failed(self, alert_id: str, now_s: float, retry_after_s: float | None) -> None:
        """The attempt failed and may be repeated."""
        with self._lock:
            self._attempts[alert_id] = self._attempts.get(alert_id, 0) + 1
            due_s = now_s + self._backoff_s(self._attempts[alert_id])
            if retry_after_s is not None:
                due_s = self._pause_until_s = now_s + min(max(retry_after_s, 0), RETRY_AFTER_MAX_S)
            elif self._is_down or self._last_failed not in (None, alert_id):
                self._streak += 1
                self._pause_until_s = now_s + self._backoff_s(self._streak)
            self._last_failed = alert_id
            self._serial += 1
            heapq.heappush(self._waiting, (due_s, self._serial, alert_id))

    def dropped(self, alert_id: str) -> None:
        """The id is given up: forget it. Says nothing about the receiver's health."""
        with self._lock:
            self._forget(alert_id)

    @property
    def _is_down(self) -> bool:
        return self._streak > 0

    def _forget(self, alert_id: str) -> None:
        self._known.discard(alert_id)
        self._attempts.pop(alert_id, None)

    def _backoff_s(self, attempts: int) -> float:
        ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(attempts, 20))
        return self._rng.uniform(BACKOFF_MIN_S, ceiling)
