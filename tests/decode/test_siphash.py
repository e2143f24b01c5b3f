"""The kernels' hash is SipHash-2-4, by the vectors of its authors."""

from __future__ import annotations

import numpy as np

from detector.decode.bytes import PAD
from detector.decode.siphash import derive, hash_text, sip64_of, sip128
from models._jit import njit

KEY = np.frombuffer(bytes(range(16)), "<u8").astype(np.uint64)


@njit
def _sip128_of(data, n, key):
    return sip128(np.int64(data.ctypes.data), n, key[0], key[1])


def padded(n: int) -> np.ndarray:
    return np.frombuffer(bytes(range(n)) + PAD, np.uint8)


def test_64_bits_by_the_published_vectors():
    """vectors_sip64 of the reference implementation, for 0, 1 and 15 bytes."""
    expected = {0: "310e0edd47db6f72", 1: "fd67dc93c539f874", 15: "e545be4961ca29a1"}
    for n, digest in expected.items():
        assert int(sip64_of(padded(n), n, KEY)).to_bytes(8, "little").hex() == digest


def test_128_bits_by_the_published_vectors():
    """vectors_sip128 of the reference implementation, for 0 and 1 bytes."""
    expected = {0: "a3817f04ba25a8e66df67214c7550293", 1: "da87c1d86b99af44347659119b22fc45"}
    for n, digest in expected.items():
        words = _sip128_of(padded(n), n, KEY)
        assert b"".join(int(w).to_bytes(8, "little") for w in words).hex() == digest


def test_seed_and_purpose_change_the_hash():
    """Another seed, or another purpose under the same seed, gives other hashes."""
    hashes = {
        hash_text("text", derive(seed, purpose))
        for seed in (b"0" * 16, b"1" * 16)
        for purpose in ("route", "area")
    }
    assert len(hashes) == 4
