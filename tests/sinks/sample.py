"""Alerts and fakes that the tests of outbox and sinks share."""

from __future__ import annotations

import random
from dataclasses import replace
from threading import Event, Lock
from typing import Any

from detector.core.episodes import Actor, Episode, OwnerTraffic, Reason, Silencer
from detector.core.errors import DeliveryError

BASE_US = 1_790_000_000_000_000
BASE_S = BASE_US / 1e6

EPISODE = Episode(
    alert_id="a" * 20,
    key="acme_billing",
    owner="Acme Billing",
    channel="stolen",
    severity="high",
    state="open",
    opened_us=BASE_US - 900_000_000,
    first_suspicious_us=BASE_US - 1_200_000_000,
    peak_us=BASE_US,
    last_seen_us=BASE_US,
    closed_us=None,
    alerted_us=BASE_US,
    score=42.125,
    threshold=18.0,
    return_period_days=90.4,
    reasons=(
        Reason("new_network", 20.5, 310.0, 0.25, "310 requests from 203.0.113.0/24, never seen"),
        Reason("new_client", 12.0, 310.0, 0.5, "client curl 8, never seen for this key"),
        Reason("volume", 9.6, 1240.0, 310.0, "1,240 requests in 15 minutes, usually 310"),
        Reason("new_route", 3.0, 4.0, 0.1, "4 routes never called before"),
    ),
    actor=Actor("203.0.113.0/24", "curl 8", BASE_US - 1_200_000_000, 310),
    requests_leaked=310,
    bytes_leaked=5_240_000,
    action="suspend",
    simulated=True,
    curve=((BASE_US, 42.125, 310, 5_240_000),),
    credential=(("id", "0b3f1d0e"), ("consumer", "acme")),
    normal=("errors: none of 1,240 requests in this 15 min was answered 4xx",),
    silenced_by=Silencer(
        ("new_network", "new_client"), 9.6, "Without the new network it would score 9.6."
    ),
    owner_carries_on=OwnerTraffic(40, 38.0, 6, "the key's own sources carry on: 40 requests"),
    action_reason="The owner is at work beside it.",
)


def make_alert(n: int = 0, **changes: Any) -> dict[str, Any]:
    """The record of an alert; different ``n`` are different alerts, one second apart."""
    at = {"alert_id": f"{n:020x}", "alerted_us": BASE_US + n * 1_000_000}
    return replace(EPISODE, **{**at, **changes}).to_record()


class ManualClock:
    """Wall time that moves only when somebody sleeps or says so. Safe for threads."""

    def __init__(self, now_s: float = BASE_S) -> None:
        self._now_s = now_s
        self._lock = Lock()

    def __call__(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now_s += max(seconds, 0.0)


class ListSink:
    """Takes everything."""

    def __init__(self, name: str = "list") -> None:
        self.name = name
        self.ids: list[str] = []

    def deliver(self, alert: dict[str, Any]) -> None:
        self.ids.append(alert["alert_id"])


class FlakySink(ListSink):
    """Fails at random by seed, before or after the alert has arrived."""

    def __init__(self, seed: int, share: float = 0.5, name: str = "flaky") -> None:
        super().__init__(name)
        self._rng = random.Random(seed)
        self._share = share
        self.attempts = 0

    def deliver(self, alert: dict[str, Any]) -> None:
        self.attempts += 1
        kind = self._rng.random()
        if kind < self._share / 2:
            raise DeliveryError("down", retriable=True)
        super().deliver(alert)
        if kind < self._share:
            raise DeliveryError("no answer", retriable=True)


class HangingSink(ListSink):
    """Hangs in its first delivery until it is released."""

    def __init__(self, name: str = "hanging") -> None:
        super().__init__(name)
        self.entered = Event()
        self.release = Event()

    def deliver(self, alert: dict[str, Any]) -> None:
        self.entered.set()
        self.release.wait()
        super().deliver(alert)


class ScriptedSink(ListSink):
    """Raises the given errors in turn (``None`` = takes it), then takes everything."""

    def __init__(self, script: list[Exception | None], name: str = "scripted") -> None:
        super().__init__(name)
        self._script = list(script)
        self.tried: list[str] = []

    def deliver(self, alert: dict[str, Any]) -> None:
        self.tried.append(alert["alert_id"])
        error = self._script.pop(0) if self._script else None
        if error is not None:
            raise error
        super().deliver(alert)
