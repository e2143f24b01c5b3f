"""One HTTP POST to a configured address that cannot be turned against our own network."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Event, Timer
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from detector.core.errors import ConfigError, DeliveryError

TIMEOUT_S = 15.0

# IPv6 networks whose last 32 bits are an IPv4 address: NAT64 and "IPv4-compatible"
_EMBEDDING = (ip_network("64:ff9b::/96"), ip_network("::/96"))

Resolve = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to post. ``target`` (path and query) may hold a secret and is in no message."""

    scheme: str
    host: str
    port: int
    target: str
    loopback_allowed: bool

    def __repr__(self) -> str:
        return f"Endpoint({self.scheme}://{self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the status and the headers, names in lower case. The body is not read."""

    status: int
    headers: dict[str, str]


def parse_endpoint(url: str, *, allow_http_loopback: bool) -> Endpoint:
    """Checks the URL of the configuration. Raises ``ConfigError``, which never quotes it whole.

    ``https`` only; plain ``http`` just to this machine and when allowed.
    """
    what = "sinks.revocation.url"
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{what}: has characters that cannot be part of a URL")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{what}: not a valid URL") from None
    if parts.scheme not in {"https", "http"} or not host:
        raise ConfigError(f"{what}: must begin with https:// and name a host")
    if parts.username is not None:
        raise ConfigError(f"{what}: must not hold a user name or password")
    if parts.scheme == "http" and not (allow_http_loopback and _names_loopback(host)):
        raise ConfigError(
            f"{what}: must be https (plain http only to this machine, with allow_http_loopback)"
        )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    default = 443 if parts.scheme == "https" else 80
    return Endpoint(parts.scheme, host, port or default, target, allow_http_loopback)


def resolve_host(host: str, port: int) -> list[str]:
    """The host's addresses, in the resolver's order. Raises ``OSError``."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def pinned_address(endpoint: Endpoint, resolve: Resolve) -> str:
    """The one address this attempt connects to, looked up once.

    Raises ``DeliveryError``: retriable when the name does not resolve, not retriable when
    any of its addresses is private, link-local, or otherwise not public.
    """
    try:
        addresses = resolve(endpoint.host, endpoint.port)
    except OSError:
        raise DeliveryError(f"cannot resolve {endpoint.host}", retriable=True) from None
    if not addresses:
        raise DeliveryError(f"cannot resolve {endpoint.host}", retriable=True)
    for text in addresses:
        if not _is_allowed(text, endpoint):
            raise DeliveryError(
                f"{endpoint.host} resolves to an address that is not public", retriable=False
            )
    return addresses[0]


def post(
    endpoint: Endpoint,
    body: bytes,
    headers: dict[str, str],
    resolve: Resolve = resolve_host,
    timeout_s: float = TIMEOUT_S,
) -> Reply:
    """One POST, from name look-up to reply within about ``timeout_s``.

    No redirect is followed, no proxy is used, and the reply's body is not read. Raises
    ``DeliveryError``, retriable, when no status comes back.
    """
    connection = _connect(endpoint, pinned_address(endpoint, resolve), timeout_s)
    # socket timeouts are per read: only this ends a receiver that drips byte after byte
    cut_off = Event()
    watchdog = Timer(timeout_s, _hang_up, [connection, cut_off])
    watchdog.daemon = True
    watchdog.start()
    try:
        reply = _exchange(connection, endpoint, body, headers)
        if cut_off.is_set():
            raise TimeoutError  # http.client takes the end of input for the end of the header
        return reply
    except (OSError, HTTPException, HTTPError, ValueError, AttributeError) as e:
        # ValueError and AttributeError: what http.client makes of a socket closed under it
        raise DeliveryError(
            f"no reply from {endpoint.host}: {type(e).__name__}", retriable=True
        ) from None
    finally:
        watchdog.cancel()
        connection.close()


def _exchange(
    connection: HTTPConnection, endpoint: Endpoint, body: bytes, headers: dict[str, str]
) -> Reply:
    is_default = endpoint.port == (443 if endpoint.scheme == "https" else 80)
    name = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    host = name if is_default else f"{name}:{endpoint.port}"
    connection.request(
        "POST",
        endpoint.target,
        body=body,
        headers={"Host": host, **headers},
        preload_content=False,
        decode_content=False,
    )
    response = connection.getresponse()  # its header is bounded by http.client: 100 lines of 64 kB
    return Reply(response.status, {k.lower(): v for k, v in response.headers.items()})


def _connect(endpoint: Endpoint, address: str, timeout_s: float) -> HTTPConnection:
    if endpoint.scheme == "http":
        return HTTPConnection(address, endpoint.port, timeout=timeout_s)
    return HTTPSConnection(
        address,
        endpoint.port,
        timeout=timeout_s,
        cert_reqs="CERT_REQUIRED",
        server_hostname=endpoint.host,
        assert_hostname=endpoint.host,
    )


def _hang_up(connection: HTTPConnection, cut_off: Event) -> None:
    cut_off.set()
    sock = connection.sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _names_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_allowed(text: str, endpoint: Endpoint) -> bool:
    try:
        address = _innermost(ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    if address.is_loopback:
        return endpoint.loopback_allowed
    if endpoint.scheme == "http":
        return False
    return address.is_global and not address.is_multicast


def _innermost(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64), else itself."""
    if isinstance(address, IPv4Address) or int(address) <= 1:
        return address
    if any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
