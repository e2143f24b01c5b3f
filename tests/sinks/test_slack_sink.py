"""The Slack sink: one attempt, every answer mapped, the pace kept, the secret nowhere."""

from __future__ import annotations

import json
import logging
import traceback
from contextlib import suppress
from itertools import pairwise
from time import monotonic

import pytest

from detector.config import SecretRef, SlackSection
from detector.core.errors import ConfigError, DeliveryError
from detector.outbox import Outbox
from detector.sinks.slack import sink as slack_module
from detector.sinks.slack.sink import PACE_S, SlackSink
from detector.stores.memory import MemoryStore
from tests.sinks.sample import ManualClock, make_alert
from tests.sinks.stub_server import Answer, StubServer

TOKEN = "xoxb-canary-7f3a9c"
HOOK_PATH = "services/T000/B000/canary7f3a9c"
OK = Answer(200, b'{"ok": true, "ts": "1.2", "channel": "C1"}')


def refusal(kind: str) -> Answer:
    return Answer(200, json.dumps({"ok": False, "error": kind}).encode())


@pytest.fixture
def by_token(monkeypatch):
    """A sink by bot token against a stub with the given script, and its clock."""
    monkeypatch.setenv("TEST_SLACK_TOKEN", TOKEN)

    def make(server: StubServer, **options) -> SlackSink:
        section = SlackSection(
            bot_token=SecretRef(env="TEST_SLACK_TOKEN"),
            channel="#alerts",
            base_url=server.url + "api/",
            **options,
        )
        clock = ManualClock()
        return SlackSink(section, clock, clock.sleep)

    return make


@pytest.fixture
def by_webhook(monkeypatch):
    def make(server: StubServer) -> SlackSink:
        monkeypatch.setenv("TEST_SLACK_HOOK", server.url + HOOK_PATH)
        clock = ManualClock()
        section = SlackSection(webhook_url=SecretRef(env="TEST_SLACK_HOOK"))
        return SlackSink(section, clock, clock.sleep)

    return make


def test_a_message_by_token_is_complete_and_inert(by_token):
    """Channel, blocks, text, metadata with the alert id; parsing and unfurling are off."""
    with StubServer(default=OK) as server:
        by_token(server).deliver(make_alert(1))
    [request] = server.requests
    sent = request.json
    assert request.path == "/api/chat.postMessage"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert sent["channel"] == "#alerts"
    assert sent["blocks"][0]["type"] == "header"
    assert sent["text"].startswith("HIGH: API key looks stolen")
    assert sent["metadata"]["event_payload"] == {"alert_id": f"{1:020x}"}
    assert sent["parse"] == "none"
    assert [sent[k] for k in ("link_names", "unfurl_links", "unfurl_media")] == [False] * 3
    assert TOKEN not in request.body.decode()


def test_a_message_by_webhook_is_the_same_blocks(by_webhook):
    """The incoming webhook gets text and blocks."""
    with StubServer(default=Answer(200, b"ok")) as server:
        by_webhook(server).deliver(make_alert(1))
    [request] = server.requests
    assert request.path == "/" + HOOK_PATH
    assert request.json["blocks"][0]["type"] == "header"
    assert request.json["unfurl_links"] is False


ANSWERS = [
    (Answer(429, b'{"ok":false,"error":"ratelimited"}', {"Retry-After": "1"}), True, 1.0),
    (Answer(429, b"", {"Retry-After": "3600"}), True, 3600.0),
    (Answer(429, b""), True, None),
    (Answer(500, b"oops"), True, None),
    (Answer(503, b"", {"Retry-After": "30"}), True, 30.0),
    (Answer(404, b"no_service"), False, None),
    (Answer(403, b"invalid_token"), False, None),
    (Answer(kind="reset"), True, None),
]


@pytest.mark.parametrize("how", ["by_token", "by_webhook"])
@pytest.mark.parametrize(("answer", "retriable", "retry_after_s"), ANSWERS)
def test_each_http_answer_is_mapped_after_one_attempt(
    request, how, answer, retriable, retry_after_s
):
    """Retry belongs to the outbox: exactly one request reaches the server."""
    with StubServer([answer], default=OK) as server:
        with pytest.raises(DeliveryError) as caught:
            request.getfixturevalue(how)(server).deliver(make_alert())
        assert len(server.requests) == 1
    assert (caught.value.retriable, caught.value.retry_after_s) == (retriable, retry_after_s)


@pytest.mark.parametrize(
    ("answer", "retriable"),
    [
        (refusal("invalid_auth"), False),
        (refusal("channel_not_found"), False),
        (refusal("not_in_channel"), False),
        (refusal("invalid_blocks"), False),
        (refusal("internal_error"), True),
        (refusal("service_unavailable"), True),
        (refusal("ratelimited"), True),
        (Answer(200, b"<html>proxy</html>"), True),
        (Answer(200, b'["ok"]'), True),
        (Answer(200, b'{"ok": fal'), True),
        (Answer(200, b""), True),
        (Answer(200, b"\xff\xfe"), True),
    ],
)
def test_each_kind_of_refusal_is_mapped(by_token, answer, retriable):
    """What an operator must repair is not retried; what is no proper answer is."""
    with StubServer([answer]) as server, pytest.raises(DeliveryError) as caught:
        by_token(server).deliver(make_alert())
    assert caught.value.retriable is retriable


def test_an_answer_that_never_comes_ends_in_the_timeout(by_token, monkeypatch):
    """A server that takes the message and says nothing is a retriable failure."""
    monkeypatch.setattr(slack_module, "TIMEOUT_S", 0.2)
    started = monotonic()
    with StubServer([Answer(kind="hang")]) as server:
        with pytest.raises(DeliveryError) as caught:
            by_token(server).deliver(make_alert())
        assert caught.value.retriable
        assert monotonic() - started < 5


def test_an_unreachable_server_is_retried(by_token):
    """Connection refused."""
    with StubServer() as server:
        sink = by_token(server)
    with pytest.raises(DeliveryError) as caught:
        sink.deliver(make_alert())
    assert caught.value.retriable


def test_messages_are_at_least_a_second_apart(by_token):
    """The pace holds after failures too, and a clock set back does not stop the sink."""
    with StubServer([OK, Answer(500), OK], default=OK) as server:
        sink = by_token(server)
        clock = sink._clock
        times = []
        for n in range(4):
            with suppress(DeliveryError):
                sink.deliver(make_alert(n))
            times.append(clock())
        assert all(b - a >= PACE_S for a, b in pairwise(times))
        clock._now_s -= 100_000
        before = clock()
        sink.deliver(make_alert(9))
        assert clock() - before <= PACE_S


def test_alerts_below_the_threshold_are_not_posted(by_token):
    """They count as delivered."""
    with StubServer(default=OK) as server:
        sink = by_token(server, min_severity="high")
        sink.deliver(make_alert(severity="medium"))
        sink.deliver(make_alert(severity="critical"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("how", ["by_token", "by_webhook"])
def test_the_secret_appears_nowhere(request, how, caplog):
    """Not in repr, errors, tracebacks, debug logs or the store, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    answers = [a for a, _, _ in ANSWERS] + [refusal("invalid_auth"), Answer(200, b"<html>")]
    store, said = MemoryStore(), []
    with StubServer(answers, default=OK) as server:
        sink = request.getfixturevalue(how)(server)
        for n in range(len(answers)):
            try:
                sink.deliver(make_alert(n))
            except DeliveryError as e:
                said += [str(e), repr(e), "".join(traceback.format_exception(e))]
        outbox = Outbox(store, [sink], sink._clock, sink._clock.sleep)
        server.script.append(refusal("invalid_auth"))
        outbox.record(make_alert(99))
        outbox.stop(10)
    said += [repr(sink), str(sink), caplog.text]
    said += [(store.get(k) or b"").decode() for k in store.list("")]
    assert len(said) > 20
    assert not [s for s in said if "canary" in s]


@pytest.mark.parametrize(
    "bad", ["xoxb canary", "xoxb-\ncanary".replace("\n", "\x01"), "xoxb-canärý"]
)
def test_a_malformed_secret_is_refused_at_the_start_without_being_quoted(monkeypatch, bad):
    """One sentence that names the setting, not the value."""
    for field in ("bot_token", "webhook_url"):
        monkeypatch.setenv("TEST_SLACK", bad)
        section = SlackSection(**{field: SecretRef(env="TEST_SLACK")}, channel="#a")
        with pytest.raises(ConfigError, match=f"sinks.slack.{field}") as caught:
            SlackSink(section, ManualClock(), lambda _: None)
        assert "can" not in str(caught.value).split(": ")[0]
        assert bad not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", ["ftp://x/y", "not-a-url", "https://", "http://["])
def test_a_webhook_that_is_no_url_is_refused(monkeypatch, url):
    """Found when the sink is made."""
    monkeypatch.setenv("TEST_SLACK", url)
    with pytest.raises(ConfigError, match=r"sinks\.slack\.webhook_url"):
        SlackSink(
            SlackSection(webhook_url=SecretRef(env="TEST_SLACK")), ManualClock(), lambda _: None
        )


def test_a_recommendation_to_limit_a_rate_is_never_posted(by_token):
    """Whatever its severity and the configured least one: it counts as delivered at once."""
    with StubServer([OK]) as server:
        sink = by_token(server, min_severity="info")
        for n, severity in enumerate(("low", "critical")):
            sink.deliver(make_alert(n, channel="throttle", severity=severity, action="throttle"))
        assert not server.requests
        sink.deliver(make_alert(2, severity="low"))
        assert len(server.requests) == 1
