"""Identifiers of requests, hashed as the decoder hashes those of a line. Compiled."""

from __future__ import annotations

import numpy as np

from detector.core.events import I64, U8, U64
from detector.decode.bytes import PAD_BYTES, signed, store8
from detector.decode.siphash import sip64
from models._jit import njit
from replay.simulate import api

SCRATCH_BYTES = 128 + PAD_BYTES
_U = np.uint64
_GOLDEN = 0x9E3779B97F4A7C15
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_NUMBER, _HEXES, _UUID, _PAGE = api.ID_NUMBER, api.ID_HEX, api.ID_UUID, api.ID_PAGE


@njit
def _mix(value: int, salt: int) -> _U:
    """``randomness.mix`` of one number."""
    x = _U(value) + _U(salt) * _U(_GOLDEN) + _U(_GOLDEN)
    x = (x ^ (x >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U(27))) * _U(0x94D049BB133111EB)
    return x ^ (x >> _U(31))


@njit
def _digits(at: int, value: int) -> int:
    """Writes a number from 0 up; where it ends."""
    n, rest = 1, value // 10
    while rest:
        n, rest = n + 1, rest // 10
    for i in range(n):
        store8(at + n - 1 - i, 48 + value % 10)
        value //= 10
    return at + n


@njit
def _hexes(at: int, value: _U, skip: int, n: int) -> int:
    """Writes n hex digits of a word after skipping some; where they end."""
    for i in range(n):
        store8(at + i, int(_HEX[signed((value >> _U(60 - 4 * (skip + i))) & _U(15))]))
    return at + n


@njit
def _uuid(at: int, ident: int) -> int:
    high, low = _mix(ident, 4), _mix(ident, 5)
    at = _hexes(at, high, 0, 8)
    store8(at, 45)
    at = _hexes(at + 1, high, 8, 4)
    store8(at, 45)
    store8(at + 1, 52)  # version 4
    at = _hexes(at + 2, high, 13, 3)
    store8(at, 45)
    store8(at + 1, 97)  # variant a
    at = _hexes(at + 2, low, 1, 3)
    store8(at, 45)
    return _hexes(at + 1, low, 4, 12)


@njit
def hash_idents(
    route: I64, ident: I64, kinds: I64, prefixes: U8, key: U64, out: U64, number: I64
) -> None:
    """Fills the hash of each request's identifiers (0 = none) and its last number (-1 = none).

    ``kinds`` holds the kind of identifier of each route, ``prefixes`` a row per route: how many
    bytes stand before the identifier in its segment, and these bytes.
    """
    scratch = np.zeros(SCRATCH_BYTES, np.uint8)
    base = signed(_U(scratch.ctypes.data))
    for i in range(len(route)):
        kind, value, at = int(kinds[route[i]]), int(ident[i]), base
        out[i], number[i] = _U(0), -1
        if kind == _NUMBER:
            at = _digits(at, value)
            number[i] = value
        elif kind == _PAGE:
            store8(at, 53)
            store8(at + 1, 48)
            store8(at + 2, 0)
            at = _digits(at + 3, 1 + value % 20)
            number[i] = 1 + value % 20
        elif kind == _HEXES:
            n = int(prefixes[route[i], 0])
            for j in range(n):
                store8(at + j, int(prefixes[route[i], 1 + j]))
            at = _hexes(at + n, _mix(value, 3), 0, 14)
        elif kind == _UUID:
            at = _uuid(at, value)
        else:
            continue
        store8(at, 0)
        out[i] = sip64(base, at + 1 - base, key[0], key[1])
