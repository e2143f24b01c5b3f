"""Reading and writing bytes in kernels by address.

Kernels pass positions as absolute addresses (plain integers) and not as arrays: numba counts
references of array arguments with atomic operations on every call, which made the scanner
several times slower. Nothing is bounds-checked here: every loop carries its own end, buffers
end with ``PAD``, and the fuzz tests run over all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from models._jit import njit

PAD_BYTES = 16  # every buffer ends with that many zeros, so that 8 bytes can be read at its end
PAD = bytes(PAD_BYTES)

_U = np.uint64
_ONES = _U(0x0101010101010101)
_HIGH = _U(0x8080808080808080)
_QUOTES = _U(0x2222222222222222)
_SLASHES = _U(0x5C5C5C5C5C5C5C5C)
_BLANKS = _U(0x2020202020202020)
_I8, _I64 = ir.IntType(8), ir.IntType(64)


def _load8(_context: Any, address: Any) -> Any:  # noqa: ARG001 - numba reads the names
    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _I8.as_pointer())
        return builder.zext(builder.load(pointer, align=1), _I64)

    return types.int64(types.int64), code


def _load64(_context: Any, address: Any) -> Any:  # noqa: ARG001
    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], _I64.as_pointer()), align=1)

    return types.uint64(types.int64), code


def _store8(_context: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
    def code(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _I8.as_pointer())
        builder.store(builder.trunc(args[1], _I8), pointer, align=1)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), code


def _store64(_context: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
    def code(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _I64.as_pointer())
        builder.store(args[1], pointer, align=1)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), code


load8 = cast("Callable[[int], int]", intrinsic(_load8))  # one byte, 0 to 255
load64 = cast("Callable[[int], np.uint64]", intrinsic(_load64))  # 8 bytes, the first one lowest
store8 = cast("Callable[[int, int], None]", intrinsic(_store8))
store64 = cast("Callable[[int, int], None]", intrinsic(_store64))


@njit
def signed(word: np.uint64) -> int:
    """The same bits as int64, which is what kernels count in (uint64 and int64 make a float)."""
    return np.int64(word)  # type: ignore[return-value]


@njit
def low_bytes(word: np.uint64, n: int) -> np.uint64:
    """The lowest n bytes of a word, n >= 0."""
    if n >= 8:
        return word
    return word & ((_U(1) << _U(8 * n)) - _U(1))


@njit
def stop_in(word: np.uint64) -> int:
    """Index of the first byte that ends a plain JSON string, 8 for none.

    Such bytes are quotes, backslashes, controls and everything of 128 or more.
    """
    quote, slash = word ^ _QUOTES, word ^ _SLASHES
    found = (
        ((quote - _ONES) & ~quote) | ((slash - _ONES) & ~slash) | ((word - _BLANKS) & ~word) | word
    ) & _HIGH
    if found == _U(0):
        return 8
    # a borrow marks wrong bytes only above a right one: the lowest mark is exact
    below = (found & (~found + _U(1))) - _U(1)
    return signed(((below & _ONES) * _ONES) >> _U(56)) - 1


@njit
def copy(start: int, end: int, to: int) -> int:
    """Copies bytes; where they end. May write up to 7 bytes more than that."""
    for i in range(0, end - start, 8):
        store64(to + i, signed(load64(start + i)))
    return to + end - start
