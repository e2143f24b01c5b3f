"""Posts alerts to Slack through slack-sdk: one attempt each, no retry of its own."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook import WebhookClient

from detector.config import SlackSection
from detector.core.episodes import CHANNELS, SEVERITIES, THROTTLE
from detector.core.errors import ConfigError, DeliveryError
from detector.sinks.http import parse_retry_after
from detector.sinks.slack.render import render

TIMEOUT_S = 10
PACE_S = 1.0  # Slack takes about one message a second and channel

# Kinds of ``ok: false`` that can go away by themselves; all others need an operator.
_PASSING = frozenset(
    {
        "accesslimited",
        "fatal_error",
        "internal_error",
        "ratelimited",
        "rate_limited",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
        "message_limit_exceeded",
    }
)
_KIND = re.compile(r"[a-z0-9_]{1,64}")


class SlackSink:
    """Sends one message per alert by bot token or incoming webhook.

    The receiver has no idempotency key: an alert whose delivery was in doubt at a crash may
    come twice, with the same alert id in its text and, by token, its metadata. Alerts below
    ``min_severity`` count as delivered, and so does a recommendation to limit a rate, whatever
    its severity: it is no reason to call anybody. ``clock`` and ``sleep`` (seconds) keep the pace.
    """

    name = "slack"

    def __init__(
        self,
        settings: SlackSection,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._min_rank = SEVERITIES.index(settings.min_severity)
        self._clock = clock
        self._sleep = sleep
        self._next_s = float("-inf")
        self._post = _poster(settings)

    def __repr__(self) -> str:
        return "SlackSink()"

    def deliver(self, alert: dict[str, Any]) -> None:
        """Posts the alert. Raises ``DeliveryError``; its text never holds token or URL."""
        is_quiet = SEVERITIES.index(alert["severity"]) < self._min_rank
        if is_quiet or alert["channel"] == CHANNELS[THROTTLE]:
            return
        message = render(alert)
        # a clock set back must not silence the sink
        wait_s = min(PACE_S, self._next_s - self._clock())
        if wait_s > 0:
            self._sleep(wait_s)
        try:
            self._post(message, alert["alert_id"])
        finally:
            self._next_s = self._clock() + PACE_S


def _poster(settings: SlackSection) -> Callable[[dict[str, Any], str], None]:
    if settings.bot_token is not None:
        token = settings.bot_token.read("sinks.slack.bot_token")
        _check_ascii(token, "sinks.slack.bot_token")
        client = WebClient(
            token=token,
            base_url=settings.base_url,
            timeout=TIMEOUT_S,
            retry_handlers=[],
            logger=_silent_logger(),
        )
        channel = settings.channel or ""
        return lambda message, alert_id: _post_by_token(client, channel, message, alert_id)
    assert settings.webhook_url is not None
    url = settings.webhook_url.read("sinks.slack.webhook_url")
    _check_ascii(url, "sinks.slack.webhook_url")
    if not _is_http_url(url):
        raise ConfigError("sinks.slack.webhook_url: not an http or https URL")
    hook = WebhookClient(url, timeout=TIMEOUT_S, retry_handlers=[], logger=_silent_logger())
    return lambda message, _: _post_by_webhook(hook, message)


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"https", "http"} and bool(parts.hostname)


def _post_by_token(client: WebClient, channel: str, message: dict[str, Any], alert_id: str) -> None:
    metadata = {"event_type": "keywatch_alert", "event_payload": {"alert_id": alert_id}}
    try:
        client.chat_postMessage(
            channel=channel,
            **message,
            metadata=metadata,
            mrkdwn=False,
            parse="none",
            link_names=False,
            unfurl_links=False,
            unfurl_media=False,
        )
    except SlackApiError as e:
        raise _from_api_error(e) from None  # the chain could carry the request's headers
    except Exception as e:  # no answer, or one that slack-sdk stumbles over
        raise DeliveryError(f"Slack: {type(e).__name__}", retriable=True) from None


def _post_by_webhook(hook: WebhookClient, message: dict[str, Any]) -> None:
    try:
        response = hook.send(**message, unfurl_links=False, unfurl_media=False)
    except Exception as e:  # no answer, or one that slack-sdk stumbles over
        raise DeliveryError(f"Slack: {type(e).__name__}", retriable=True) from None
    if response.status_code != 200:
        raise _from_status(response.status_code, response.headers, f"HTTP {response.status_code}")


def _from_api_error(error: SlackApiError) -> DeliveryError:
    response: Any = error.response
    status = int(getattr(response, "status_code", 0) or 0)
    data = getattr(response, "data", None)
    kind = data.get("error") if isinstance(data, dict) else None
    if status == 200 and isinstance(kind, str) and _KIND.fullmatch(kind):
        return DeliveryError(f"Slack refused: {kind}", retriable=kind in _PASSING)
    if status == 200:
        return DeliveryError("Slack: an answer that is not Slack's", retriable=True)
    return _from_status(status, getattr(response, "headers", {}), f"HTTP {status}")


def _from_status(status: int, headers: Any, what: str) -> DeliveryError:
    retriable = status == 0 or status in {408, 429} or status >= 500
    found = {str(k).lower(): v for k, v in dict(headers).items()}.get("retry-after")
    retry_after_s = parse_retry_after(found) if retriable else None
    return DeliveryError(f"Slack: {what}", retriable=retriable, retry_after_s=retry_after_s)


def _check_ascii(secret: str, what: str) -> None:
    """Refuses what could only fail later, with the secret in the library's error text."""
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ConfigError(f"{what}: has characters that cannot be part of it")


def _silent_logger() -> logging.Logger:
    """slack-sdk logs URLs and bodies when debugging; ours can hold a secret."""
    logger = logging.Logger("keywatch.slack", level=logging.CRITICAL + 1)
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
