"""The records of alerts and their deliveries in the checkpoint store. None is rewritten.

- ``alert/{alert_id}``          the alert's JSON: decided, to be delivered
- ``sent/{alert_id}/{sink}``    delivered, with the wall time
- ``tried/{alert_id}/{sink}``   the first failed attempt, with the wall time
- ``dead/{alert_id}/{sink}``    given up, with the reason
- ``sink/{sink}``               the alerts that were there before the sink was: not for it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Literal

from detector.core.episodes import rfc3339
from detector.core.ports import CheckpointStore

Mark = Literal["sent", "tried", "dead"]


def encode(alert: dict[str, Any]) -> bytes:
    """The one JSON text of an alert, ASCII, without a line end. Refuses NaN and infinity."""
    return json.dumps(alert, separators=(",", ":"), allow_nan=False).encode("ascii")


class Journal:
    """Reads and writes the records. Raises what the store raises."""

    def __init__(self, store: CheckpointStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    def put(self, alert: dict[str, Any]) -> bool:
        """Journals an alert durably; False when its id was there already."""
        return self._store.put_if_absent(f"alert/{alert['alert_id']}", encode(alert))

    def get(self, alert_id: str) -> dict[str, Any] | None:
        """The alert, or ``None`` when its record is gone or not readable."""
        text = self._store.get(f"alert/{alert_id}")
        try:
            alert = json.loads(text) if text is not None else None
        except ValueError:
            return None
        return alert if isinstance(alert, dict) else None

    def ids(self) -> set[str]:
        """The ids of all alerts ever journalled."""
        return {k.removeprefix("alert/") for k in self._store.list("alert/")}

    def alerts(self, alert_ids: Iterable[str]) -> list[dict[str, Any]]:
        """The readable ones of these alerts, in (alerted_at, alert_id) order."""
        found = [a for a in map(self.get, alert_ids) if a is not None]
        return sorted(found, key=lambda a: (a.get("alerted_at") or "", a["alert_id"]))

    def is_done(self, alert_id: str, sink: str) -> bool:
        """True when the alert is delivered to the sink or given up."""
        marks = (f"{mark}/{alert_id}/{sink}" for mark in ("sent", "dead"))
        return any(self._store.get(m) is not None for m in marks)

    def done_ids(self, sink: str) -> set[str]:
        """The ids of all alerts delivered to the sink or given up."""
        keys = self._store.list("sent/") + self._store.list("dead/")
        return {alert_id for _, alert_id, name in (k.split("/") for k in keys) if name == sink}

    def mark(self, mark: Mark, alert_id: str, sink: str, reason: str | None = None) -> None:
        """Notes, once, what became of a delivery and when."""
        now_s = self._clock()
        record: dict[str, Any] = {"at": rfc3339(int(now_s) * 1_000_000), "at_s": round(now_s, 3)}
        if reason is not None:
            record["reason"] = reason
        self._store.put_if_absent(f"{mark}/{alert_id}/{sink}", json.dumps(record).encode())

    def first_try_s(self, alert_id: str, sink: str) -> float:
        """Wall time of the first failed attempt, which is now when none was noted before."""
        self.mark("tried", alert_id, sink)
        record = self._store.get(f"tried/{alert_id}/{sink}")
        return float(json.loads(record)["at_s"]) if record else self._clock()

    def ids_before(self, sink: str) -> frozenset[str]:
        """The alerts journalled before the sink was first seen, which is now if never before.

        A sink added to a running deployment must not get the alerts of years at once.
        """
        self._store.put_if_absent(f"sink/{sink}", json.dumps(sorted(self.ids())).encode())
        return frozenset(json.loads(self._store.get(f"sink/{sink}") or b"[]"))
