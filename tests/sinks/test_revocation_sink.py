"""A revocation is asked for behind guards, signed, once per key, and by default not at all."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import time
import traceback
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from detector.config import RevocationSection, SecretRef
from detector.core.episodes import Actor, Reason
from detector.core.errors import ConfigError, DeliveryError
from detector.core.registry import KeyRegistry, RegistryEntry
from detector.outbox import Outbox
from detector.safe_text import is_unsafe
from detector.sinks.revocation.receiver import Receiver
from detector.sinks.revocation.webhook import BODY_BYTES_MAX, EVENT_TYPE, RevocationSink
from detector.stores.memory import MemoryStore
from tests.sinks.sample import BASE_S, ManualClock, make_alert
from tests.sinks.stub_server import Answer, StubServer
from tests.sinks.test_slack_render import INJECTIONS

SECRET = "whsec_" + base64.b64encode(b"canary-secret-of-32-bytes-length").decode()


class World:
    """One sink with all it touches; ``settings`` and ``registry`` may change under it."""

    def __init__(self, url: str, **options) -> None:
        self.settings = RevocationSection(
            **{
                "url": url,
                "secret": SecretRef(env="TEST_WEBHOOK_SECRET"),
                "mode": "live",
                "allow_http_loopback": True,
                **options,
            }
        )
        self.registry: KeyRegistry | None = None
        self.store = MemoryStore()
        self.clock = ManualClock(BASE_S + 30)
        self.sink = self.make_sink()

    def make_sink(self) -> RevocationSink:
        return RevocationSink(lambda: self.settings, lambda: self.registry, self.store, self.clock)

    def deliver(self, *args, **changes):
        self.sink.deliver(make_alert(*args, **changes))
        return self.sink.last_result


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("TEST_WEBHOOK_SECRET", SECRET)


@pytest.fixture
def server():
    with StubServer(default=Answer(204)) as stub:
        yield stub


@pytest.fixture
def world(server) -> World:
    return World(server.url)


def test_the_request_is_signed_as_standard_webhooks_says(world, server):
    """Signature over id, time and the exact body; computed here by hand from the spec."""
    assert world.deliver(1).outcome == "requested"
    [request] = server.requests
    headers = {k.lower(): v for k, v in request.headers.items()}
    assert headers["webhook-id"] == f"{1:020x}"
    assert headers["webhook-timestamp"] == str(int(BASE_S + 30))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    digest = hmac.new(b"canary-secret-of-32-bytes-length", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert headers["content-type"] == "application/json"


def test_the_library_agrees_with_the_published_vector():
    """The example of the Standard Webhooks specification's reference implementations."""
    webhook = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    signature = webhook.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, '{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_data_tell_a_receiver_all_it_needs(world, server):
    """Key, credential ids, why and how sure; the type names the request."""
    world.registry = KeyRegistry([RegistryEntry("acme_billing", key_class="auto")])
    world.deliver(1)
    body = server.requests[0].json
    assert body["type"] == EVENT_TYPE
    assert body["timestamp"] == "2026-09-21T14:13:50Z"
    data = body["data"]
    assert data["key"] == "acme_billing"
    assert data["credential"] == {"id": "0b3f1d0e", "consumer": "acme"}
    assert (data["owner"], data["channel"], data["severity"]) == ("Acme Billing", "stolen", "high")
    assert data["score"] == 42.125
    assert data["reasons"][0] == "310 requests from 203.0.113.0/24, never seen"
    assert data["actor"]["network"] == "203.0.113.0/24"
    assert (data["requests_leaked"], data["alert_id"]) == (310, f"{1:020x}")
    assert (data["simulated"], data["key_class"]) == (False, "auto")


def test_retries_keep_the_id_and_sign_a_new_time(world, server):
    """webhook-id is the idempotency key; the time is that of each attempt."""
    server.script += [Answer(503), Answer(500)]
    for _ in range(2):
        with pytest.raises(DeliveryError):
            world.deliver(1)
        world.clock.sleep(60)
    world.deliver(1)
    ids = {r.headers["webhook-id"] for r in server.requests}
    times = [int(r.headers["webhook-timestamp"]) for r in server.requests]
    assert ids == {f"{1:020x}"}
    assert times[2] - times[1] == times[1] - times[0] == 60


@pytest.mark.parametrize("status", [200, 201, 202, 204, 409])
def test_answers_that_mean_done(world, server, status):
    """2xx is success; 409 means that there is nothing left to revoke."""
    server.script.append(Answer(status))
    assert world.deliver().outcome == "requested"


@pytest.mark.parametrize(
    ("answer", "retriable", "retry_after_s"),
    [
        (Answer(301, headers={"Location": "http://169.254.169.254/"}), False, None),
        (Answer(307, headers={"Location": "https://evil.test/"}), False, None),
        (Answer(400), False, None),
        (Answer(401), False, None),
        (Answer(404), False, None),
        (Answer(429, headers={"Retry-After": "30"}), True, 30.0),
        (Answer(429), True, None),
        (Answer(502), True, None),
        (Answer(503, headers={"Retry-After": "Mon, 21 Sep 2026 14:14:50 GMT"}), True, 60.0),
        (Answer(504, headers={"Retry-After": "soon"}), True, None),
        (Answer(500), True, None),
        (Answer(kind="reset"), True, None),
    ],
)
def test_answers_that_mean_failure(world, server, answer, retriable, retry_after_s):
    """One request each; only what can pass is retriable, with the receiver's own wish."""
    server.script.append(answer)
    with pytest.raises(DeliveryError) as caught:
        world.deliver()
    assert len(server.requests) == 1
    assert (caught.value.retriable, caught.value.retry_after_s) == (retriable, retry_after_s)


def test_gone_disables_the_endpoint(world, server):
    """After 410 no request is made any more until the service is started anew."""
    server.script.append(Answer(410))
    for n in range(3):
        with pytest.raises(DeliveryError, match="410") as caught:
            world.deliver(n, key=f"k{n}")
        assert not caught.value.retriable
    assert len(server.requests) == 1


class NoSocketError(Exception):
    pass


@pytest.fixture
def no_socket(monkeypatch):
    def refuse(*_, **__):
        raise NoSocketError

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_simulate_is_the_default_and_opens_no_socket(no_socket):
    """The record holds exactly what would have been sent, marked as simulated."""
    world = World("https://hooks.example.test/revoke")
    world.settings = RevocationSection(
        url="https://hooks.example.test/revoke", secret=SecretRef(env="TEST_WEBHOOK_SECRET")
    )
    assert world.settings.mode == "simulate"
    result = world.deliver(1)
    assert (result.outcome, result.key) == ("simulated", "acme_billing")
    record = json.loads(world.store.get(f"simulated/{1:020x}"))
    assert record["type"] == EVENT_TYPE
    assert record["data"]["simulated"] is True
    assert record["data"]["key"] == "acme_billing"
    assert world.store.list("") == [f"simulated/{1:020x}"]
    world.deliver(1)
    assert len(world.store.list("")) == 1


@pytest.mark.parametrize("mode", ["simulate", "live"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"channel": "abused"}, "channel abused"),
        ({"severity": "low"}, "severity low is below medium"),
        ({"severity": "info"}, "severity info is below medium"),
        ({"key": "payments-core"}, "never_revoke"),
        ({"key": "never-key"}, "registry says never"),
    ],
)
def test_what_is_no_case_for_revocation_is_left_alone(no_socket, mode, changes, says):
    """Delivered, without a request and without a record; the result says why."""
    world = World("https://h.example.test/", mode=mode, never_revoke=["payments-core"])
    world.registry = KeyRegistry([RegistryEntry("never-key", key_class="never")])
    result = world.deliver(1, **changes)
    assert result.outcome == "not_applicable"
    assert says in result.reason
    assert world.store.list("") == []


def test_guards_are_read_anew_for_every_attempt(world, server):
    """A key put on the list while a request is being retried is not revoked."""
    server.script.append(Answer(503))
    with pytest.raises(DeliveryError):
        world.deliver(1)
    world.settings = world.settings.model_copy(update={"never_revoke": ["acme_billing"]})
    assert world.deliver(1).outcome == "not_applicable"
    world.settings = world.settings.model_copy(update={"never_revoke": []})
    world.registry = KeyRegistry([RegistryEntry("acme_billing", key_class="never")])
    assert world.deliver(1).outcome == "not_applicable"
    assert len(server.requests) == 1


@pytest.mark.parametrize("mode", ["simulate", "live"])
def test_old_evidence_is_only_proposed(no_socket, mode):
    """After an outage nobody's key is revoked for what happened an hour ago."""
    world = World("https://h.example.test/", mode=mode)
    world.clock.sleep(900)
    result = world.deliver(1)
    assert result.outcome == "proposed"
    record = json.loads(world.store.get(f"proposed/{1:020x}"))
    assert "older than 900 s" in record["reason"]
    assert world.store.list("requested/") == world.store.list("simulated/") == []


def test_only_so_many_in_an_hour(world, server):
    """The eleventh is held back as a dead letter; an hour later there is room again."""
    last_seen = {"last_seen_us": int((BASE_S + 7200) * 1e6)}
    for n in range(10):
        world.deliver(n, key=f"k{n}", **last_seen)
        world.clock.sleep(60)
    with pytest.raises(DeliveryError, match="held back: 10 revocations in an hour") as caught:
        world.deliver(10, key="k10", **last_seen)
    assert not caught.value.retriable
    assert len(server.requests) == 10
    world.clock.sleep(3600 - 600)
    assert world.deliver(11, key="k11", **last_seen).outcome == "requested"
    with pytest.raises(DeliveryError, match="held back"):
        world.deliver(12, key="k12", **last_seen)


def test_a_mistyped_address_is_a_dead_letter_that_says_so(world, server):
    """404 asks for nothing and revokes nothing: the key's next alert is asked for again."""
    server.script.append(Answer(404))
    with pytest.raises(DeliveryError, match="HTTP 404"):
        world.deliver(1)
    assert world.sink.last_result is None
    world.store.put_if_absent(f"dead/{1:020x}/revocation", b"{}")
    assert world.deliver(2).outcome == "requested"


def test_a_rehearsal_has_the_limits_of_live(no_socket):
    """Simulated requests count by the hour and by key and day, across a restart, and no other's."""
    world = World("https://h.example.test/", mode="simulate", max_per_hour=2)
    last_seen = {"last_seen_us": int((BASE_S + 100_000) * 1e6)}
    world.store.put_if_absent(
        "requested/live", json.dumps({"alert_id": "live", "key": "k1", "at_s": BASE_S}).encode()
    )
    for n in range(2):
        assert world.deliver(n, key=f"k{n}", **last_seen).outcome == "simulated"
    world.sink = world.make_sink()
    with pytest.raises(DeliveryError, match="held back: 2 revocations in an hour") as caught:
        world.deliver(2, key="k2", **last_seen)
    assert not caught.value.retriable
    assert world.deliver(1, key="k1", **last_seen).outcome == "simulated"
    world.clock.sleep(3601)
    with pytest.raises(DeliveryError, match="less than 24 h ago"):
        world.deliver(3, key="k1", **last_seen)
    assert world.deliver(4, key="k4", **last_seen).outcome == "simulated"
    world.clock.sleep(86_401 - 3601)
    assert world.deliver(5, key="k1", **last_seen).outcome == "simulated"
    assert len(world.store.list("simulated/")) == 4
    assert world.store.list("requested/") == ["requested/live"]


def test_the_limits_survive_a_restart(world, server):
    """A crash loop cannot revoke more than the limit: the slots are in the store."""
    world.settings = world.settings.model_copy(update={"max_per_hour": 2})
    sent = 0
    for n in range(6):
        world.sink = world.make_sink()
        try:
            world.deliver(n, key=f"k{n}")
            sent += 1
        except DeliveryError:
            pass
    assert sent == len(server.requests) == 2


def test_a_failed_attempt_keeps_its_slot_and_its_retry_passes(world, server):
    """At the limit, the retry of what has its slot still goes out."""
    world.settings = world.settings.model_copy(update={"max_per_hour": 1})
    server.script.append(Answer(503))
    with pytest.raises(DeliveryError, match="503"):
        world.deliver(1)
    assert world.deliver(1).outcome == "requested"


def test_one_request_per_key_and_day(world, server):
    """A second alert about the same key asks for nothing more, unless the first came to nothing."""
    later = {"last_seen_us": int((BASE_S + 100_000) * 1e6)}
    world.deliver(1)
    with pytest.raises(DeliveryError, match="less than 24 h ago"):
        world.deliver(2)
    assert len(server.requests) == 1
    world.store.put_if_absent(f"dead/{1:020x}/revocation", b"{}")
    assert world.deliver(3).outcome == "requested"
    world.clock.sleep(86_401)
    assert world.deliver(4, **later).outcome == "requested"


@pytest.mark.parametrize("text", [*INJECTIONS, "\u0000" * 300], ids=range(len(INJECTIONS) + 1))
def test_hostile_text_keeps_the_request_short_and_inert(world, server, text):
    """No user agent is long enough to stop a revocation; only an absurd key is a dead letter."""
    changes = {
        "owner": text,
        "reasons": tuple(Reason("volume", 1.0, 1.0, 1.0, text) for _ in range(40)),
        "actor": Actor(text, text, 1, 2),
    }
    world.deliver(1, **changes)
    [request] = server.requests
    assert len(request.body) <= BODY_BYTES_MAX
    data = request.json["data"]
    for shown in (data["owner"], *data["reasons"], data["actor"]["client"]):
        assert len(shown) <= 120
        assert not any(is_unsafe(c) for c in shown)
    with pytest.raises(DeliveryError, match="too long") as caught:
        world.deliver(2, key="k" * 1_000_000)
    assert not caught.value.retriable


@pytest.mark.parametrize(
    "bad", ["canary", "whsec_", "whsec_!!!canary", "whsec_" + base64.b64encode(b"c" * 65).decode()]
)
def test_a_bad_secret_is_refused_at_the_start_without_being_quoted(monkeypatch, bad):
    """24 to 64 bytes of base64, as the specification says."""
    monkeypatch.setenv("TEST_WEBHOOK_SECRET", bad)
    with pytest.raises(ConfigError, match=r"sinks\.revocation\.secret") as caught:
        World("https://hooks.example.test/")
    assert bad.removeprefix("whsec_") not in str(caught.value) or bad == "whsec_"


def test_the_secret_and_the_path_appear_nowhere(server, caplog):
    """Not in repr, errors, tracebacks, debug logs, bodies or the store, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    world = World(server.url + "canary-path")
    server.script += [Answer(503), Answer(kind="reset"), Answer(301), Answer(400), Answer(410)]
    said = [repr(world.sink), str(world.sink)]
    for n in range(6):
        try:
            world.deliver(n, key=f"k{n}")
        except DeliveryError as e:
            said += [str(e), repr(e), "".join(traceback.format_exception(e))]
    said += [(world.store.get(k) or b"").decode() for k in world.store.list("")]
    said += [caplog.text, *(r.body.decode() for r in server.requests)]
    said += [str(r.headers) for r in server.requests]
    encoded = SECRET.removeprefix("whsec_")
    assert not [s for s in said if "canary" in s or encoded in s]


def test_through_the_outbox_to_the_receiver(monkeypatch):
    """The whole way: journalled, signed, verified, recorded, marked, and once."""
    store, clock = MemoryStore(), time.time
    with Receiver(SECRET) as receiver:
        section = RevocationSection(
            url=receiver.url,
            secret=SecretRef(env="TEST_WEBHOOK_SECRET"),
            mode="live",
            allow_http_loopback=True,
        )
        sink = RevocationSink(lambda: section, lambda: None, store, clock)
        outbox = Outbox(store, [sink], clock, lambda _: time.sleep(0.01))
        outbox.record(make_alert(1, last_seen_us=int(clock() * 1e6)))
        assert receiver.wait_for(1, 10)
        assert outbox.stop(10)
    [arrival] = receiver.arrivals
    assert arrival.webhook_id == f"{1:020x}"
    assert arrival.event["data"]["key"] == "acme_billing"
    assert not arrival.repeated
    assert store.list("sent/") == [f"sent/{1:020x}/revocation"]


def sign(body: str, at: float, secret: str = SECRET, webhook_id: str = "m1") -> dict[str, str]:
    now = datetime.fromtimestamp(at, UTC)
    return {
        "webhook-id": webhook_id,
        "Webhook-Timestamp": str(int(at)),
        "webhook-signature": Webhook(secret).sign(webhook_id, now, body),
    }


def test_the_receiver_takes_what_is_signed_and_fresh_only():
    """Tampered, foreign, unsigned, replayed late or early: refused and counted."""
    receiver = Receiver(SECRET)
    other = "whsec_" + base64.b64encode(b"another-secret-of-32-bytes-lengt").decode()
    now, body = time.time(), '{"type":"x"}'
    good = sign(body, now)
    bad = [
        (body + " ", good),
        (body, sign(body, now, other)),
        (body, {}),
        (body, {**good, "webhook-id": "m2"}),
        (body, {**good, "webhook-signature": "v1,AAAA"}),
        (body, {**good, "webhook-signature": "nonsense"}),
        (body, sign(body, now - 301)),
        (body, sign(body, now + 310)),
        ("not json", sign("not json", now)),
    ]
    assert [receiver.take(b.encode(), h) for b, h in bad] == [401] * len(bad)
    assert receiver.take(b"\xff\xfe", good) == 401
    assert receiver.refused == len(bad) + 1
    assert [receiver.take(body.encode(), h) for h in (good, sign(body, now - 290))] == [204, 204]
    assert [a.repeated for a in receiver.arrivals] == [False, True]


def test_the_receiver_refuses_long_bodies_unread():
    """More than 20 kB is answered with 413."""
    with Receiver(SECRET) as receiver:
        host, port = receiver.url.removeprefix("http://").split("/")[0].split(":")
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(b"POST /revoke HTTP/1.1\r\nContent-Length: 999999\r\n\r\n")
            assert b" 413 " in connection.recv(200)
    assert receiver.refused == 1
