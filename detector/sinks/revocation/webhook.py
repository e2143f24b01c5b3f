"""Asks a receiver to revoke a key: a signed webhook, or a record of what it would have been."""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from detector.config import RevocationSection
from detector.core.episodes import rfc3339
from detector.core.errors import ConfigError, DeliveryError
from detector.core.ports import CheckpointStore
from detector.core.registry import KeyRegistry
from detector.safe_text import safe
from detector.sinks.http import parse_retry_after
from detector.sinks.revocation.guards import Slots, not_applicable, too_old
from detector.sinks.revocation.transport import Resolve, parse_endpoint, post, resolve_host

EVENT_TYPE = "key.revocation_requested"
BODY_BYTES_MAX = 20_000
_REASONS_MAX = 5
_TEXT_MAX = 120  # a thief must not be able to make the request too long to be sent
_CREDENTIAL_IDS_MAX = 20
_SLOW_DOWN = frozenset({408, 425, 429})

Outcome = Literal["requested", "simulated", "proposed", "not_applicable"]


@dataclass(frozen=True, slots=True)
class Result:
    """What the last delivery came to; ``reason`` says why when nothing was requested."""

    alert_id: str
    key: str
    outcome: Outcome
    reason: str | None = None


class RevocationSink:
    """One attempt to have a key revoked, behind guards that are read anew every time.

    ``mode = "simulate"`` runs all guards and both limits (over what was simulated), journals
    ``simulated/{alert_id}`` and opens no socket. An alert that is no case for revocation counts
    as delivered; evidence that is too old becomes ``proposed/{alert_id}`` for a person. Beyond
    the limits of ``Slots`` the alert is held back: a dead letter that names the limit.

    ``settings`` and ``registry`` are called for each delivery, so that a reload counts at once;
    URL and secret are read once, at construction, which raises ``ConfigError``.
    """

    name = "revocation"

    def __init__(
        self,
        settings: Callable[[], RevocationSection],
        registry: Callable[[], KeyRegistry | None],
        store: CheckpointStore,
        clock: Callable[[], float],
        resolve: Resolve = resolve_host,
    ) -> None:
        section = settings()
        self._endpoint = parse_endpoint(
            section.url, allow_http_loopback=section.allow_http_loopback
        )
        self._webhook = _signer(section)
        self._settings = settings
        self._registry = registry
        self._store = store
        self._clock = clock
        self._resolve = resolve
        self._slots = Slots(store, clock, self.name, "requested")
        self._rehearsed = Slots(store, clock, self.name, "simulated")
        self._gone = False
        self.last_result: Result | None = None

    def __repr__(self) -> str:
        return f"RevocationSink({self._endpoint.host})"

    def deliver(self, alert: dict[str, Any]) -> None:
        """Requests, simulates or proposes the revocation. Raises ``DeliveryError``."""
        settings = self._settings()
        reason = not_applicable(alert, settings, self._registry())
        if reason is not None:
            self._result(alert, "not_applicable", reason)
            return
        reason = too_old(alert, settings, self._clock())
        if reason is not None:
            self._note("proposed", alert, reason)
            return
        if settings.mode == "simulate":
            _raise_if(self._rehearsed.held_back(alert, settings.max_per_hour))
            self._note("simulated", alert, None)
            return
        _raise_if(self._slots.take(alert, settings.max_per_hour))
        self._request(alert)
        self._result(alert, "requested", None)

    def _request(self, alert: dict[str, Any]) -> None:
        if self._gone:
            raise DeliveryError("the receiver said 410 Gone: endpoint disabled", retriable=False)
        now = datetime.fromtimestamp(self._clock(), UTC)
        body = self._body(alert, now, is_simulated=False)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "keywatch",
            "webhook-id": alert["alert_id"],
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(alert["alert_id"], now, body),
        }
        reply = post(self._endpoint, body.encode(), headers, self._resolve)
        self._judge(reply.status, parse_retry_after(reply.headers.get("retry-after"), now))

    def _judge(self, status: int, retry_after_s: float | None) -> None:
        """2xx is done, and so is 409: the receiver says that nothing is left to revoke.

        404 is not: a mistyped address answers it too, and would pass for a revoked key.
        """
        if 200 <= status < 300 or status == 409:
            return
        if status == 410:
            self._gone = True
        retriable = status in _SLOW_DOWN or status >= 500
        raise DeliveryError(
            f"the receiver answered HTTP {status}",
            retriable=retriable,
            retry_after_s=retry_after_s if retriable else None,
        )

    def _body(self, alert: dict[str, Any], now: datetime, *, is_simulated: bool) -> str:
        at = rfc3339(int(now.timestamp()) * 1_000_000)
        data = request_data(alert, self._registry(), is_simulated=is_simulated)
        body = json.dumps({"type": EVENT_TYPE, "timestamp": at, "data": data}, allow_nan=False)
        if len(body) > BODY_BYTES_MAX:
            raise DeliveryError(f"a request of {len(body)} bytes is too long", retriable=False)
        return body

    def _note(
        self, outcome: Literal["simulated", "proposed"], alert: dict[str, Any], reason: str | None
    ) -> None:
        now = datetime.fromtimestamp(self._clock(), UTC)
        record = json.loads(self._body(alert, now, is_simulated=True))
        record["reason"] = reason
        self._store.put_if_absent(f"{outcome}/{alert['alert_id']}", json.dumps(record).encode())
        self._result(alert, outcome, reason)

    def _result(self, alert: dict[str, Any], outcome: Outcome, reason: str | None) -> None:
        self.last_result = Result(alert["alert_id"], safe(alert["key"]), outcome, reason)


def request_data(
    alert: dict[str, Any], registry: KeyRegistry | None, *, is_simulated: bool
) -> dict[str, Any]:
    """The ``data`` of a request: who, how sure, why, and the gateway's ids to act upon.

    The key and the credential ids are passed exactly, everything meant for people is made
    inert and cut.
    """
    entry = registry.get(alert["key"]) if registry is not None else None
    actor = alert.get("actor")
    credential = sorted(alert.get("credential", {}).items())[:_CREDENTIAL_IDS_MAX]
    return {
        "alert_id": alert["alert_id"],
        "key": alert["key"],
        "credential": dict(credential),
        "owner": safe(alert["owner"], _TEXT_MAX) if alert.get("owner") else None,
        "key_class": entry.key_class if entry is not None else "approve",
        "channel": alert["channel"],
        "severity": alert["severity"],
        "score": alert["score"],
        "reasons": [safe(r["text"], _TEXT_MAX) for r in alert["reasons"][:_REASONS_MAX]],
        "actor": actor
        and {
            "network": safe(actor["network"], _TEXT_MAX),
            "client": safe(actor["client"], _TEXT_MAX),
            "first_seen": actor["first_seen"],
            "requests": actor["requests"],
        },
        "requests_leaked": alert["requests_leaked"],
        "simulated": is_simulated,
    }


def _raise_if(held_back: str | None) -> None:
    if held_back is not None:
        raise DeliveryError(held_back, retriable=False)


def _signer(settings: RevocationSection) -> Webhook:
    what = "sinks.revocation.secret"
    secret = settings.secret.read(what)
    try:
        raw = binascii.a2b_base64(secret.removeprefix("whsec_") + "==")
        if not 24 <= len(raw) <= 64:
            raise ConfigError(f"{what}: must be 24 to 64 bytes in base64, not {len(raw)}")
        return Webhook(secret)
    except (ValueError, EmptyWebhookSecretError):
        raise ConfigError(f"{what}: must be whsec_ followed by base64") from None
