"""The one way kernels are compiled here: nogil, cached, never fastmath, never parallel.

numba's own cache notices an edited function but not an edited callee in another module.
So the cache directory is named by a hash of all kernel sources and of the versions that
shape the machine code; a stale kernel cannot be loaded.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

_ROOT = Path(__file__).resolve().parents[1]
_KERNEL_FOLDERS = ("models", "detector/core", "detector/decode")


def kernel_sources() -> list[Path]:
    """All files whose text may shape a kernel, in a fixed order."""
    return [p for folder in _KERNEL_FOLDERS for p in sorted((_ROOT / folder).glob("*.py"))]


def cache_key() -> str:
    """Hash of the kernel sources, of numba, NumPy and Python."""
    h = hashlib.blake2b(digest_size=8)
    h.update(f"{numba.__version__}|{np.__version__}|{sys.version}".encode())
    for path in kernel_sources():
        h.update(path.name.encode())
        h.update(path.read_bytes())
    return h.hexdigest()


def _cache_roots() -> Iterator[Path]:
    base = os.environ.get("KEYWATCH_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    if base:
        yield Path(base)
    try:  # asked for last: a user without HOME and without a passwd entry has none
        yield Path.home() / ".cache"
    except RuntimeError:
        return


def _is_ours(path: Path) -> bool:
    """A directory of this user that no other may write to: numba's cache is code."""
    found = path.lstat()
    is_private = found.st_uid == os.getuid() and not found.st_mode & 0o022
    return stat.S_ISDIR(found.st_mode) and is_private and os.access(path, os.W_OK)


def _writable_cache_dir() -> Path:
    """The first cache directory that is ours alone, else a temporary one of this process."""
    for root in _cache_roots():
        path = root / "keywatch" / f"kernels-{cache_key()}"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_ours(path):
                return path
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix="keywatch-kernels-"))


numba.config.CACHE_DIR = str(_writable_cache_dir())


def njit(function: F) -> F:
    """Compiles on first call, from the cache where possible; may allocate arrays."""
    compiled: F = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    return compiled


def kernel(function: F) -> F:
    """Like ``njit`` for code that only reads and writes arrays its caller keeps alive.

    Compiled without reference counting and inlined into its callers: counting references to
    a shard's arrays, which travel as one tuple, was most of the fold's time. Such code may not
    allocate or return an array. ``_nrt`` is numba's own switch for this, not part of its
    documented interface; numba's version is locked, and the fold's tests run on it.
    """
    compiled: F = numba.njit(
        nogil=True, cache=True, error_model="numpy", forceinline=True, _nrt=False
    )(function)
    return compiled
