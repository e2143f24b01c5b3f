"""Client addresses and client software."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from detector.core.network import pack_v4
from detector.decode.address import parse_address
from detector.decode.bytes import PAD
from detector.decode.client import client_of
from detector.decode.kernel_value import network_v4
from models._jit import njit

from .helpers import decode, event, one, shown


@njit
def _network(data, n):
    return network_v4(np.int64(data.ctypes.data), n)


def by_kernel(text: bytes) -> int:
    return int(_network(np.frombuffer(text + PAD, np.uint8), len(text)))


@pytest.mark.parametrize(
    ("source_ip", "network"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("203.0.113.7:443", "203.0.113.0/24"),
        (" 203.0.113.7 ", "203.0.113.0/24"),
        ("0.0.0.0", "0.0.0.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("[2001:db8:1:2::3]", "2001:db8:1::/48"),
        ("[2001:db8:1:2::3]:8080", "2001:db8:1::/48"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("::ffff:cb00:7107", "203.0.113.0/24"),
        ("6.6.6.6, 203.0.113.7", "203.0.113.0/24"),
        ("08.1.250.216", "08.1.250.216"),
        ("0x7f.1", "0x7f.1"),
        ("256.1.1.1", "256.1.1.1"),
        ("1.2.3", "1.2.3"),
        ("203.0.113.7:", "203.0.113.7:"),
        ("203.0.113.7:123456", "203.0.113.7:123456"),
        ("2001:db8::1%eth0", "2001:db8::1%eth0"),
        ("fe80::1%<!channel>", "fe80::1%<!channel>"),
        ("s3.amazonaws.com", "s3.amazonaws.com"),
        ("S3.AmazonAWS.com", "s3.amazonaws.com"),
        ("AWS Internal", "aws internal"),
        ("evil\x1b[31m\u202ehost", "evil[31mhost"),
        ("\u200b", None),
        (",", None),
        ("", None),
        (None, None),
    ],
)
def test_source_networks(source_ip, network):
    """/24, /48 (v4-mapped as v4), text networks for what is no address, unknown for nothing."""
    assert one(source_ip=source_ip)["network"] == network


@pytest.mark.parametrize(
    ("chain", "network"),
    [
        ("6.6.6.6, 203.0.113.7, 10.0.0.2, 10.0.0.1", "203.0.113.0/24"),
        ("203.0.113.7, [2001:db8::9]:80", "203.0.113.0/24"),
        ("203.0.113.7,::ffff:10.0.0.9", "203.0.113.0/24"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.0/24"),
        ("10.0.0.3", "10.0.0.0/24"),
        ("6.6.6.6, unknown, 10.0.0.2", "unknown"),
        ("6.6.6.6, 203.0.113.7, , -, 10.0.0.2", "203.0.113.0/24"),
        ("x" * 5000 + ", 203.0.113.7, 10.0.0.2", "203.0.113.0/24"),
    ],
)
def test_lists_are_walked_from_the_right(chain, network):
    """Trusted proxies are skipped; what stands left of the first other entry proves nothing."""
    proxies = ("10.0.0.0/8", "2001:db8::/32")
    decoded = decode(event(source_ip=chain), trusted_proxies=proxies)
    assert shown(decoded.batch)[0]["network"] == network


@run(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.ip_addresses(v=4).map(str),
        st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,3}){2,4}(:[0-9]{0,6})?", fullmatch=True),
        st.text("0123456789.:", max_size=24),
    )
)
def test_kernel_takes_an_address_only_if_the_library_does(text):
    """Plain IPv4: exactly the addresses that ipaddress and the port rule accept."""
    found = by_kernel(text.encode())
    address = parse_address(text)
    if isinstance(address, IPv4Address) and not text.startswith(":"):
        assert found == pack_v4(int(address))
    else:
        assert found == 0


@run(max_examples=200, deadline=None)
@given(st.ip_addresses(v=6), st.booleans())
def test_all_spellings_of_an_ipv6_address_are_one_network(address, compressed):
    """Exploded or compressed, upper or lower case: the same /48."""
    text = str(address) if compressed else address.exploded.upper()
    expected = parse_address(str(address))
    assert parse_address(text) == expected
    assert ip_address(str(address)) == address


WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
GOOGLEBOT = "(compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.mark.parametrize(
    ("agent", "client"),
    [
        ("acme-sdk/2.4 python/3.12", "acme-sdk/2"),
        ("curl/8.4.0", "curl/8"),
        ("python-requests/2.31.0", "python-requests/2"),
        ("Go-http-client/1.1", "Go-http-client/1"),
        ("aws-sdk-go-v2/1.32.3 os/linux lang/go#1.23.1", "aws-sdk-go-v2/1"),
        ("Boto3/1.34.1 md/Botocore#1.34.1", "Boto3/1"),
        ("moodle-web", "moodle-web"),
        ("tool/v2.1", "tool/2"),
        ("tool/20240131", "tool"),
        ("stratus-red-team_5c59eb79-6dac-405c-a4c4-e19aec03c666", "stratus-red-team"),
        ("5c59eb79-6dac-405c-a4c4-e19aec03c666", "{id}"),
        ("[S3Console/0.4, aws-internal/3]", "S3Console/0"),
        ("Googlebot/2.1 (+http://www.google.com/bot.html)", "Googlebot/2"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot/2"),
        (f"{LINUX} {WEBKIT} Chrome/156.0.0.0 Mobile Safari/537.36 {GOOGLEBOT}", "Googlebot/2"),
        (f"{WINDOWS} {WEBKIT} Chrome/156.0.0.0 Safari/537.36", "Chrome/156"),
        (f"{WINDOWS} {WEBKIT} Chrome/156.0.0.0 Safari/537.36 Edg/156.0.1", "Edge/156"),
        (f"{WINDOWS} {WEBKIT} Chrome/156.0.0.0 Safari/537.36 OPR/120.0", "Opera/120"),
        (f"{LINUX} Gecko/20100101 Firefox/140.0", "Firefox/140"),
        (f"{MAC} {WEBKIT} Version/18.1 Safari/605.1.15", "Safari/18"),
        (f"{MAC} {WEBKIT} CriOS/156.0 Mobile/15E148 Safari/604.1", "Chrome/156"),
        ("Mozilla/5.0 (Windows NT 10.0; Trident/7.0; rv:11.0) like Gecko", "IE/11"),
        ("Mozilla/5.0 (Windows NT; en-US) WindowsPowerShell/5.1.19041", "WindowsPowerShell/5"),
        ("Mozilla/5.0", "Mozilla"),
        ("x" * 200 + "/3", "{id}/3"),
        ("ab-" * 100 + "/3", ("ab-" * 100)[:62] + "/3"),
        ("evil\x1b]0;pwned\x07/1", "evil]0"),
        ("<!channel>/1", "<!channel>/1"),
        ("/", "/"),
        (" \t", ""),
        ("-", ""),
    ],
)
def test_clients(agent, client):
    """Product and major version; browsers by family; robots by name; printable text."""
    assert client_of(agent) == client
    assert one(user_agent=agent)["client"] == (client or None)


@run(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_clients_are_short_and_printable(agent):
    """Any agent: at most 64 characters, none of them a control, bidi or zero-width one."""
    client = client_of(agent)
    assert len(client) <= 64
    assert all(c.isprintable() or c.isspace() for c in client)


def test_agents_of_one_client_share_its_hash():
    """The hash is that of the client's text, not of the raw agent."""
    batch = decode(
        event(user_agent="a/2.1"), event(user_agent="a/2.9 x"), event(user_agent="a/3")
    ).batch
    assert batch.client[0] == batch.client[1] != batch.client[2]
