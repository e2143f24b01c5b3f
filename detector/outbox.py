"""The outbox: an alert is journalled before anything is sent, and sent until it is marked."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Any

from detector.core.errors import DeliveryError, KeywatchError
from detector.core.ports import CheckpointStore, Sink
from detector.decode.timestamp import parse_timestamp
from detector.journal import Journal
from detector.lane import Lane
from detector.safe_text import safe
from detector.stores.keys import is_segment

GIVE_UP_AFTER_S = 72 * 3600.0
_SLICE_S = 0.5  # how long a waiting sender may be deaf to a new alert or a stop


class Outbox:
    """Takes alerts from the scoring thread and delivers each at least once to every sink.

    ``record`` costs one durable put; a slow, failing or hanging sink delays nobody else:
    each has its own daemon thread. An attempt that fails is repeated after 1 s to 15 min
    (full jitter, seeded), a refused one or one that fails for 72 h becomes a dead letter.
    Memory holds at most ``queue_max`` ids per sink; what does not fit waits in the store.

    ``clock`` gives wall time in seconds, ``sleep`` waits for seconds. ``step_hook`` is called
    with the name of each crash point passed. The threads start with the first call.
    """

    def __init__(
        self,
        store: CheckpointStore,
        sinks: Sequence[Sink],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        queue_max: int = 100_000,
        step_hook: Callable[[str], None] = lambda _: None,
        seed: int = 0,
    ) -> None:
        names = [s.name for s in sinks]
        if len(set(names)) != len(names) or not all(map(is_segment, names)):
            raise ValueError(f"sinks need distinct names that can be part of a key: {names}")
        self._journal = Journal(store, clock)
        self._clock = clock
        self._step = step_hook
        self._started = False
        self._senders = [
            _Sender(
                sink,
                Lane(random.Random(f"{seed}/{sink.name}"), queue_max),
                self._journal,
                clock,
                sleep,
                step_hook,
            )
            for sink in sinks
        ]

    @property
    def counters(self) -> dict[str, dict[str, int]]:
        """Per sink: ids in memory now (queued), and deliveries, failed attempts, dead letters."""
        return {s.name: {"queued": len(s.lane), **s.counts} for s in self._senders}

    def record(self, alert: dict[str, Any]) -> bool:
        """Journals the alert durably, then queues it; False when it was journalled before.

        Then it is queued only for sinks that have not had it. Raises what the store raises:
        an alert that is not journalled is not taken.
        """
        self._start()
        alert_id: str = alert["alert_id"]
        self._step("outbox.before_journal")
        is_new = self._journal.put(alert)
        self._step("outbox.after_journal")
        for sender in self._senders:
            if is_new:
                sender.lane.add(alert_id)
            else:
                sender.add_unless_done(alert_id)
        return is_new

    def recover(self) -> int:
        """Queues what an earlier process left undelivered; how many deliveries that is.

        In (alerted_at, alert_id) order. Call once, before the first ``record``.
        """
        self._start()
        return sum(sender.refill() for sender in self._senders)

    def alerted(self) -> list[dict[str, Any]]:
        """All journalled alerts, in (alerted_at, alert_id) order."""
        return self._journal.alerts(self._journal.ids())

    def alerted_us(self) -> int:
        """Event time of the newest journalled alert; 0 when there is none."""
        times = [parse_timestamp(str(a.get("alerted_at")).encode()) for a in self.alerted()[-1:]]
        return max(times, default=0)

    def stop(self, deadline_s: float) -> bool:
        """Tries once more what is due, for at most ``deadline_s``; True when nothing is left.

        What is left stays journalled, and the next process's ``recover`` finds it.
        """
        give_up_at_s = self._clock() + deadline_s
        for sender in self._senders:
            sender.stop()
        for sender in self._senders:
            # a wall clock set back must not lengthen the wait
            sender.join(min(deadline_s, max(0.0, give_up_at_s - self._clock())))
        return not any(len(s.lane) or s.lane.overflowed for s in self._senders)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for sender in self._senders:
                sender.start()


class _Sender:
    """One sink's queue, thread and marks."""

    def __init__(
        self,
        sink: Sink,
        lane: Lane,
        journal: Journal,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        step_hook: Callable[[str], None],
    ) -> None:
        self.name = sink.name
        self.lane = lane
        self.counts = {"sent": 0, "failed": 0, "dead": 0}
        self._sink = sink
        self._journal = journal
        self._clock = clock
        self._sleep = sleep
        self._step = step_hook
        self._thread = Thread(target=self._run, name=f"sender-{sink.name}", daemon=True)
        self._stopping = Event()
        self._abandoned = Event()
        self._unmarked: set[str] = set()  # delivered, but the mark could not be written
        self._first_try_s: dict[str, float] = {}
        self._not_ours: frozenset[str] = frozenset()

    def start(self) -> None:
        self._not_ours = self._journal.ids_before(self.name)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self.lane.wake.set()

    def join(self, timeout_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._abandoned.set()

    def add_unless_done(self, alert_id: str) -> bool:
        # in this order, because the thread marks in the store before it forgets the id
        if self.lane.knows(alert_id) or alert_id in self._not_ours:
            return False
        return not self._journal.is_done(alert_id, self.name) and self.lane.add(alert_id)

    def refill(self) -> int:
        """Queues the journalled alerts that are not done, oldest first, as many as fit."""
        self.lane.overflowed = False
        ids = self._journal.ids() - self._not_ours - self._journal.done_ids(self.name)
        return sum(self.add_unless_done(a["alert_id"]) for a in self._journal.alerts(ids))

    def _run(self) -> None:
        while not self._abandoned.is_set():
            alert_id, wait_s = self.lane.take(self._clock())
            if alert_id is not None:
                self._attempt(alert_id)
                self._refill_if_drained()
            elif self._stopping.is_set():
                return
            elif wait_s is None:
                self.lane.wake.wait()
                self.lane.wake.clear()
            else:
                self._sleep(min(wait_s, _SLICE_S))

    def _refill_if_drained(self) -> None:
        if self.lane.overflowed and self.lane.is_half_empty:
            try:
                self.refill()
            except KeywatchError:
                self.lane.overflowed = True  # the store failed: again after the next delivery

    def _attempt(self, alert_id: str) -> None:
        """1. deliver, 2. mark as sent, 3. forget. A crash between 1 and 2 delivers again."""
        try:
            if alert_id not in self._unmarked:
                self._deliver(alert_id)
                self._unmarked.add(alert_id)
            self._journal.mark("sent", alert_id, self.name)
        except DeliveryError as e:
            self._failed(alert_id, e)
        except KeywatchError:  # the store: what is delivered stays so, the mark must follow
            self.counts["failed"] += 1
            self.lane.failed(alert_id, self._clock(), None)
        else:
            self._step("outbox.after_mark")
            self._unmarked.discard(alert_id)
            self._first_try_s.pop(alert_id, None)
            self.counts["sent"] += 1
            self.lane.succeeded(alert_id, self._clock())

    def _deliver(self, alert_id: str) -> None:
        alert = self._journal.get(alert_id)
        if alert is None:
            raise DeliveryError("its journal record cannot be read", retriable=False)
        self._step("outbox.before_send")
        try:
            self._sink.deliver(alert)
        except KeywatchError:
            raise
        except (
            Exception,
            SystemExit,
        ) as e:  # a bug must not end the thread; its text may be secret
            raise DeliveryError(f"{type(e).__name__} in the sink", retriable=True) from None
        self._step("outbox.after_send")

    def _failed(self, alert_id: str, error: DeliveryError) -> None:
        now_s = self._clock()
        self.counts["failed"] += 1
        try:
            if error.retriable and now_s - self._tried_since_s(alert_id) < GIVE_UP_AFTER_S:
                self.lane.failed(alert_id, now_s, error.retry_after_s)
                return
            self._journal.mark("dead", alert_id, self.name, reason=safe(error))
        except KeywatchError:  # the store: try again later
            self.lane.failed(alert_id, now_s, None)
            return
        self.counts["dead"] += 1
        self._first_try_s.pop(alert_id, None)
        self.lane.dropped(alert_id)

    def _tried_since_s(self, alert_id: str) -> float:
        if alert_id not in self._first_try_s:
            self._first_try_s[alert_id] = self._journal.first_try_s(alert_id, self.name)
        return self._first_try_s[alert_id]
