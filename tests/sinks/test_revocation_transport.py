"""The revocation POST goes to one checked address, once, and nothing can redirect or hold it."""

from __future__ import annotations

import traceback
from time import monotonic

import pytest

from detector.core.errors import ConfigError, DeliveryError
from detector.sinks.revocation.transport import parse_endpoint, pinned_address, post
from tests.sinks.stub_server import Answer, StubServer


def endpoint(url: str, **options):
    return parse_endpoint(url, **{"allow_http_loopback": False, **options})


def send(server: StubServer, timeout_s: float = 5.0):
    target = endpoint(server.url + "revoke?t=canary", allow_http_loopback=True)
    return post(target, b"{}", {"X-Test": "1"}, timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://hooks.example.test/x", "must be https"),
        ("http://127.0.0.1/x", "must be https"),
        ("ftp://hooks.example.test/x", "must begin with https"),
        ("hooks.example.test/x", "must begin with https"),
        ("https://", "must begin with https"),
        ("https://user:canary@hooks.example.test/", "user name or password"),
        ("https://hooks.example.test:99999/", "not a valid URL"),
        ("https://[::1/", "not a valid URL"),
        ("https://hooks.example.test/a b", "characters"),
        ("https://hooks.example.test/\r\nX-Evil: canary", "characters"),
        ("https://hööks.example.test/", "characters"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_quoted(url, says):
    """One sentence at the start; what may be secret in the URL is not repeated."""
    with pytest.raises(ConfigError, match=says) as caught:
        endpoint(url)
    assert "canary" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("host", ["hooks.example.test", "10.0.0.1", "192.168.1.1"])
def test_plain_http_is_for_this_machine_only(host):
    """allow_http_loopback does not open plain http to anywhere else."""
    with pytest.raises(ConfigError):
        endpoint(f"http://{host}/", allow_http_loopback=True)
    for local in ("127.0.0.1", "[::1]", "localhost"):
        assert endpoint(f"http://{local}/", allow_http_loopback=True).port == 80


NOT_PUBLIC = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254",
    "100.64.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "::ffff:169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
    "::169.254.169.254", "not-an-address",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_name_leads_into_our_own_network(address):
    """Every spelling of a private, link-local or otherwise special address is refused."""
    target = endpoint("https://hooks.example.test/")
    for answer in ([address], ["8.8.8.8", address]):
        with pytest.raises(DeliveryError, match="not public") as caught:
            pinned_address(target, lambda *_, a=answer: a)
        assert not caught.value.retriable


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1"])
def test_odd_spellings_of_loopback_are_judged_by_what_they_resolve_to(host):
    """Whatever the system's resolver makes of them, a public address is all that passes."""
    with pytest.raises(DeliveryError):
        pinned_address(endpoint(f"https://{host}/"), lambda *_: ["127.0.0.1"])


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_pass(address):
    """Including IPv6 and a translated public IPv4."""
    assert pinned_address(endpoint("https://h.test/"), lambda *_: [address]) == address


def test_a_name_that_does_not_resolve_is_tried_again():
    """DNS trouble passes."""

    def fail(*_):
        raise OSError("temporary failure in name resolution")

    for resolve in (fail, lambda *_: []):
        with pytest.raises(DeliveryError, match="cannot resolve") as caught:
            pinned_address(endpoint("https://h.test/"), resolve)
        assert caught.value.retriable


def test_the_name_is_looked_up_once_and_the_answer_is_used():
    """A name that changes between check and use gains nothing (DNS rebinding)."""
    asked = []

    def resolve(host, port):
        asked.append((host, port))
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    with StubServer() as server:
        target = endpoint(f"http://localhost:{server.port}/", allow_http_loopback=True)
        assert post(target, b"{}", {}, resolve).status == 200
    assert asked == [("localhost", server.port)]
    assert server.requests[0].headers["Host"] == f"localhost:{server.port}"


def test_a_post_arrives_as_it_was_given():
    """Path, query, headers and the exact body."""
    with StubServer([Answer(202, headers={"Retry-After": "7"})]) as server:
        reply = send(server)
    assert (reply.status, reply.headers["retry-after"]) == (202, "7")
    [request] = server.requests
    assert request.path == "/revoke?t=canary"
    assert request.headers["X-Test"] == "1"
    assert request.body == b"{}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(status):
    """No second request, wherever it points."""
    with StubServer(default=Answer(200)) as other:
        for place in ("http://169.254.169.254/latest/", other.url):
            with StubServer([Answer(status, headers={"Location": place})]) as server:
                assert send(server).status == status
                assert len(server.requests) == 1
        assert other.requests == []


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    """The signed request goes to the receiver only."""
    with StubServer() as proxy, StubServer() as server:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert send(server).status == 200
    assert proxy.requests == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["hang", "drip", "reset"])
def test_a_receiver_that_gives_no_answer_costs_the_timeout_at_most(kind):
    """Silence, one byte now and then, or a reset: retriable, soon, and without the URL."""
    started = monotonic()
    silent = StubServer([Answer(kind=kind)])
    with silent as server, pytest.raises(DeliveryError, match="no reply from 127") as caught:
        send(server, timeout_s=0.3)
    assert monotonic() - started < 3
    assert caught.value.retriable
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_a_huge_body_is_not_read():
    """The status is all that counts: a promised gigabyte is left where it is."""
    started = monotonic()
    huge = Answer(200, b"x" * 100_000, {"Content-Length": str(1 << 30)})
    with StubServer([huge]) as server:
        assert send(server).status == 200
    assert monotonic() - started < 3


def test_a_refused_connection_is_tried_again():
    """Nobody listens."""
    with StubServer() as server:
        target = endpoint(server.url, allow_http_loopback=True)
    with pytest.raises(DeliveryError) as caught:
        post(target, b"{}", {})
    assert caught.value.retriable


def test_the_endpoint_does_not_show_its_path():
    """A URL's path may be its secret."""
    assert "canary" not in repr(endpoint("https://hooks.example.test/canary?x=canary"))
