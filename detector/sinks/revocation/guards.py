"""What must hold before a revocation is asked for. Looked at again for every attempt."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from detector.config import RevocationSection
from detector.core.episodes import SEVERITIES
from detector.core.ports import CheckpointStore
from detector.core.registry import KeyRegistry

REPEAT_AFTER_S = 86_400.0
_HOUR_S = 3600.0


def not_applicable(
    alert: dict[str, Any], settings: RevocationSection, registry: KeyRegistry | None
) -> str | None:
    """Why this alert is no case for revocation at all; ``None`` when it is one."""
    if alert["channel"] != "stolen":
        return f"channel {alert['channel']} is never revoked"
    if SEVERITIES.index(alert["severity"]) < SEVERITIES.index(settings.min_severity):
        return f"severity {alert['severity']} is below {settings.min_severity}"
    if alert["key"] in settings.never_revoke:
        return "the key is on the never_revoke list"
    entry = registry.get(alert["key"]) if registry is not None else None
    if entry is not None and entry.key_class == "never":
        return "the registry says never for this key"
    return None


def too_old(alert: dict[str, Any], settings: RevocationSection, now_s: float) -> str | None:
    """Why the evidence is too old to act upon without a person; ``None`` when it is fresh."""
    seen_s = datetime.fromisoformat(alert["last_seen_at"]).timestamp()
    if now_s - seen_s > settings.evidence_age_max_s:
        return f"the evidence is older than {settings.evidence_age_max_s:g} s"
    return None


class Slots:
    """The requests made so far: one ``requested/{alert_id}`` record each, put before the call.

    Because the record comes first, neither limit can be passed by crashing in between. Over
    the folder ``simulated`` the same limits hold for requests that were only recorded.
    """

    def __init__(
        self,
        store: CheckpointStore,
        clock: Callable[[], float],
        sink: str,
        folder: Literal["requested", "simulated"],
    ) -> None:
        self._sink = sink
        self._store = store
        self._clock = clock
        self._folder = folder

    def take(self, alert: dict[str, Any], max_per_hour: int) -> str | None:
        """Takes a slot for the alert, or says why it is held back."""
        reason = self.held_back(alert, max_per_hour)
        if reason is None:
            at_s = round(self._clock(), 3)
            record = {"alert_id": alert["alert_id"], "key": alert["key"], "at_s": at_s}
            self._store.put_if_absent(self._key(alert), json.dumps(record).encode())
        return reason

    def held_back(self, alert: dict[str, Any], max_per_hour: int) -> str | None:
        """Why the alert gets no slot now; ``None`` when it does. Takes none.

        A retry of a request that has its slot passes. At most ``max_per_hour`` requests in
        any hour, and one per key in 24 h unless that one became a dead letter.
        """
        if self._store.get(self._key(alert)) is not None:
            return None
        now_s = self._clock()
        earlier = [r for r in self._requests() if now_s - r["at_s"] < REPEAT_AFTER_S]
        same_key = [r["alert_id"] for r in earlier if r["key"] == alert["key"]]
        if any(self._store.get(f"dead/{i}/{self._sink}") is None for i in same_key):
            return "revocation of this key was requested less than 24 h ago"
        if sum(now_s - r["at_s"] < _HOUR_S for r in earlier) >= max_per_hour:
            return f"held back: {max_per_hour} revocations in an hour are the limit"
        return None

    def _key(self, alert: dict[str, Any]) -> str:
        return f"{self._folder}/{alert['alert_id']}"

    def _requests(self) -> list[dict[str, Any]]:
        texts = (self._store.get(k) for k in self._store.list(f"{self._folder}/"))
        return [_request_of(json.loads(t)) for t in texts if t is not None]


def _request_of(record: dict[str, Any]) -> dict[str, Any]:
    """Alert, key and time of a record: a slot has them itself, a simulated request within."""
    if "data" not in record:
        return record
    data, at = record["data"], datetime.fromisoformat(record["timestamp"])
    return {"alert_id": data["alert_id"], "key": data["key"], "at_s": at.timestamp()}
