"""Writes small MaxMind DB files, so that no test needs a real one.

The format: https://maxmind.github.io/MaxMind-DB/ (version 2.0).
"""

from __future__ import annotations

import struct
from ipaddress import ip_network
from pathlib import Path
from typing import Any

_MARKER = b"\xab\xcd\xefMaxMind.com"
_TEXT, _DOUBLE, _U16, _U32, _MAP, _U64, _LIST = 2, 3, 5, 6, 7, 9, 11


def write_mmdb(
    path: Path, kind: str, records: dict[str, Any], *, ip_version: int = 6, damaged: bool = False
) -> Path:
    """A database of ``kind`` (its type) from records by network; ``damaged``: its data is not.

    Networks must not overlap.
    """
    nodes: list[list[int | None]] = [[None, None]]
    data, places = b"", {}
    for text, record in records.items():
        places[text] = len(data)
        data += _value(record)
    for text in records:
        _insert(nodes, _bits(text, ip_version), -1 - places[text])
    tree = b"".join(_record(child, len(nodes)) for node in nodes for child in node)
    head = tree + bytes(16)
    about = {
        "node_count": (_U32, len(nodes)),
        "record_size": (_U16, 32),
        "ip_version": (_U16, ip_version),
        "database_type": kind,
        "languages": ["en"],
        "binary_format_major_version": (_U16, 2),
        "binary_format_minor_version": (_U16, 0),
        "build_epoch": (_U64, 1_790_000_000),
        "description": {"en": "made by a test"},
    }
    path.write_bytes(head + (b"\xff" * len(data) if damaged else data) + _MARKER + _value(about))
    return path


def _bits(text: str, ip_version: int) -> str:
    network = ip_network(text)
    wide = network.max_prefixlen
    bits = f"{int(network.network_address):0{wide}b}"[: network.prefixlen]
    return "0" * 96 + bits if network.version == 4 and ip_version == 6 else bits


def _insert(nodes: list[list[int | None]], bits: str, leaf: int) -> None:
    at = 0
    for bit in map(int, bits[:-1]):
        child = nodes[at][bit]
        if child is None:
            child = nodes[at][bit] = len(nodes)
            nodes.append([None, None])
        at = child
    nodes[at][int(bits[-1])] = leaf


def _record(child: int | None, n_nodes: int) -> bytes:
    if child is None:
        return struct.pack(">I", n_nodes)
    return struct.pack(">I", child if child >= 0 else n_nodes + 16 - 1 - child)


def _value(value: Any) -> bytes:
    if isinstance(value, dict):
        body = b"".join(_value(k) + _value(v) for k, v in value.items())
        return _control(_MAP, len(value)) + body
    if isinstance(value, list):
        return _control(_LIST, len(value)) + b"".join(map(_value, value))
    if isinstance(value, str):
        return _control(_TEXT, len(value.encode())) + value.encode()
    if isinstance(value, float):
        return _control(_DOUBLE, 8) + struct.pack(">d", value)
    kind, number = value if isinstance(value, tuple) else (_U32, value)
    body = number.to_bytes(8, "big").lstrip(b"\0")
    return _control(kind, len(body)) + body


def _control(kind: int, size: int) -> bytes:
    head, extra = (size, b"") if size < 29 else (29, bytes([size - 29]))
    assert size < 285, "no test needs more"
    if kind <= 7:
        return bytes([kind << 5 | head]) + extra
    return bytes([head, kind - 7]) + extra
