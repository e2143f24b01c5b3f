"""SipHash-2-4: the keyed hash of the kernels (Aumasson and Bernstein, 2012).

Keyed, because senders choose paths, addresses and agents: without the key they cannot
make values collide. 64 bits for values, 128 bits for looking up keys.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from detector.core.events import U8, U64
from detector.decode.bytes import PAD, load64, low_bytes
from models._jit import njit

_U = np.uint64
_I0 = _U(0x736F6D6570736575)
_I1 = _U(0x646F72616E646F6D)
_I2 = _U(0x6C7967656E657261)
_I3 = _U(0x7465646279746573)
_FF = _U(0xFF)
_EE = _U(0xEE)
_DD = _U(0xDD)
_ONE = _U(1)
_S13, _S16, _S17, _S21, _S32, _S56 = (_U(s) for s in (13, 16, 17, 21, 32, 56))
_S43, _S47, _S48, _S51 = (_U(64 - s) for s in (21, 17, 16, 13))


def derive(seed: bytes, purpose: str) -> U64:
    """The two words of a SipHash key for one purpose.

    >>> derive(b"0" * 16, "route").tolist() != derive(b"0" * 16, "area").tolist()
    True
    """
    digest = blake2b(purpose.encode(), key=seed, digest_size=16).digest()
    return np.frombuffer(digest, "<u8").astype(np.uint64)


@njit
def _round(v0: _U, v1: _U, v2: _U, v3: _U) -> tuple[_U, _U, _U, _U]:
    v0 += v1
    v2 += v3
    v1 = (v1 << _S13) | (v1 >> _S51)
    v3 = (v3 << _S16) | (v3 >> _S48)
    v1 ^= v0
    v3 ^= v2
    v0 = (v0 << _S32) | (v0 >> _S32)
    v2 += v1
    v0 += v3
    v1 = (v1 << _S17) | (v1 >> _S47)
    v3 = (v3 << _S21) | (v3 >> _S43)
    v1 ^= v2
    v3 ^= v0
    v2 = (v2 << _S32) | (v2 >> _S32)
    return v0, v1, v2, v3


@njit
def _absorb(start: int, n: int, v: tuple[_U, _U, _U, _U]) -> tuple[_U, _U, _U, _U]:
    v0, v1, v2, v3 = v
    whole = n >> 3
    at = start
    for _ in range(whole):
        m = load64(at)
        v3 ^= m
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= m
        at += 8
    m = _U(n & 255) << _S56
    if n & 7:
        m |= low_bytes(load64(at), n & 7)
    v3 ^= m
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0 ^= m
    return v0, v1, v2, v3


@njit
def sip64(start: int, n: int, k0: _U, k1: _U) -> _U:
    """64-bit hash of n bytes at the address ``start``; never 0, which means "no value".

    8 more bytes must be readable after them.
    """
    v = (_I0 ^ k0, _I1 ^ k1, _I2 ^ k0, _I3 ^ k1)
    v0, v1, v2, v3 = _absorb(start, n, v)
    v2 ^= _FF
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    out = v0 ^ v1 ^ v2 ^ v3
    return out if out != _U(0) else _ONE


@njit
def sip128(start: int, n: int, k0: _U, k1: _U) -> tuple[_U, _U]:
    """128-bit variant, as two words; the first is never 0."""
    v = (_I0 ^ k0, _I1 ^ k1 ^ _EE, _I2 ^ k0, _I3 ^ k1)
    v0, v1, v2, v3 = _absorb(start, n, v)
    v2 ^= _EE
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= _DD
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return (first if first != _U(0) else _ONE), v0 ^ v1 ^ v2 ^ v3


@njit
def sip64_of(data: U8, n: int, key: U64) -> _U:
    """64-bit hash of the first n bytes of an array that ends with ``PAD``."""
    return sip64(np.int64(data.ctypes.data), n, key[0], key[1])


def hash_text(text: str, key: U64) -> int:
    """64-bit keyed hash of a text's UTF-8 bytes, as the kernels compute it."""
    raw = text.encode()
    return int(sip64_of(np.frombuffer(raw + PAD, np.uint8), len(raw), key))
