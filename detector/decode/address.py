"""Source networks: what counts as the client's address.

The field may hold one address (``ip``, ``ip:port``, ``[v6]``, ``[v6]:port``) or a list as in
``X-Forwarded-For``. A single address is used as it is. In a list, entries are read from the
right; trusted proxies are skipped and the first other entry is the client, because only
that one was written by somebody we trust. If all are trusted, the leftmost is the client.

IPv4 with leading zeros (octal somewhere), zone ids and everything else that is not an
address is a text of its own: a host or service name, or a forgery worth seeing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from detector.core.events import U64
from detector.core.network import pack_other, pack_v4, pack_v6
from detector.decode.siphash import hash_text
from detector.decode.text import printable

LIST_CHARS_MAX = 2048
OTHER_CHARS_MAX = 100

_V4_PORT = re.compile(r"([0-9.]{7,15})(?::[0-9]{1,5})?\Z")
_V6_PORT = re.compile(r"\[([0-9a-fA-F:.]{2,45})\](?::[0-9]{1,5})?\Z")
_V6 = re.compile(r"[0-9a-fA-F:.]{2,45}\Z")

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]


def parse_address(text: str) -> Address | None:
    """The address in one entry, v4-mapped as IPv4; ``None`` for anything else.

    >>> parse_address("[2001:db8::1]:443"), parse_address("::ffff:203.0.113.7")
    (IPv6Address('2001:db8::1'), IPv4Address('203.0.113.7'))
    >>> parse_address("fe80::1%eth0"), parse_address("08.1.250.216")
    (None, None)
    """
    match = _V4_PORT.match(text) or _V6_PORT.match(text)
    bare = match[1] if match else text
    if not match and not _V6.match(text):
        return None
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def client_entry(text: str, trusted: Networks) -> str:
    """The entry of a list that counts as the client.

    >>> from ipaddress import ip_network
    >>> client_entry("6.6.6.6, 203.0.113.7, 10.0.0.2", [ip_network("10.0.0.0/8")])
    '203.0.113.7'
    """
    if len(text) > LIST_CHARS_MAX:
        _, _, text = text[-LIST_CHARS_MAX:].partition(",")
    entries = [entry.strip() for entry in text.split(",")]
    entries = [entry for entry in entries if entry and entry != "-"]
    for entry in reversed(entries):
        address = parse_address(entry)
        if address is None or not any(address in network for network in trusted):
            return entry
    return entries[0] if entries else ""


def network_of(text: str, trusted: Networks, key: U64) -> tuple[int, str | None]:
    """The packed network and, where it is no address, its text; ``(0, None)`` = unknown."""
    entry = client_entry(text, trusted)
    address = parse_address(entry)
    if isinstance(address, IPv4Address):
        return pack_v4(int(address)), None
    if isinstance(address, IPv6Address):
        return pack_v6(int(address)), None
    shown = printable(entry).lower()
    if not shown or shown == "-":
        return 0, None
    return pack_other(hash_text(shown, key)), shown[:OTHER_CHARS_MAX]
