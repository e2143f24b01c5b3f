"""A checkpoint store in a local directory: small, durable, one process at a time.

``a/b/c`` is the file ``a/b/c,v`` (the comma is in no key, so that ``a`` and ``a/b`` can both
be keys and nothing of ours can be mistaken for a value). Needs hard links, ``flock`` and a
file system that tells letters' cases apart.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detector.core.errors import ConfigError, KeywatchError, TemporaryError
from detector.stores.keys import check_key, check_prefix, check_value

_SUFFIX, _TEMPORARY, _LOCK = ",v", ",tmp", ",lock"
_KNOWN_DIRS_MAX = 10_000
# What can go away by itself or with some housekeeping; all else an operator must repair.
_PASSING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EAGAIN,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


def no_step(name: str) -> None:
    """The default step hook: nothing happens at a named crash point."""


class LocalStore:
    """Implements ``CheckpointStore``: a value is whole or absent, and durable on return.

    Putting a value: 1. write a temporary file and fsync it, 2. link it to its final name
    (fails when that exists, atomically), 3. unlink the temporary name, 4. fsync the
    directory. About four fsyncs for the first key of a directory, two for the next.

    Raises ``ConfigError`` for a directory that cannot be used and ``TemporaryError`` for a
    full disk, an I/O error, or a directory that another process holds. Safe for threads.
    """

    def __init__(
        self,
        directory: Path,
        step_hook: Callable[[str], None] = no_step,
        *,
        takes_lock: bool = True,
    ) -> None:
        self._root = Path(directory)
        self._step = step_hook
        self._serial = itertools.count()
        self._known_dirs: set[Path] = set()
        self._lock_fd = -1
        if not takes_lock:  # a guest: it puts new keys beside the process that holds the lock
            with self._faults("open"):
                (self._root / _TEMPORARY).mkdir(exist_ok=True)
            return
        with self._faults("open"):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._root / _TEMPORARY).mkdir(exist_ok=True)
            self._lock_fd = self._acquire()
        try:
            self._prepare()
        except KeywatchError:
            self.close()
            raise

    def close(self) -> None:
        """Lets another process open the directory. The store must not be used afterwards."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def __enter__(self) -> LocalStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put_if_absent(self, key: str, value: bytes) -> bool:
        """Stores ``value`` unless the key exists; False when it does.

        Either way the key's value is durable when the call returns.
        """
        path = self._path(key)
        check_value(value)
        with self._faults("write to"):
            self._ensure_dir(path.parent)
            if path.exists():
                _fsync_dir(path.parent)  # its writer may have died before its own fsync
                return False
            return self._publish(self._write_temporary(value), path)

    def get(self, key: str) -> bytes | None:
        """The value, or ``None`` when there is no such key."""
        path = self._path(key)
        with self._faults("read"):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def list(self, prefix: str) -> list[str]:
        """All keys that start with ``prefix``, sorted. Costs a walk of its directory."""
        check_prefix(prefix)
        base = prefix.rpartition("/")[0]
        with self._faults("list"):
            return sorted(k for k in self._keys_below(base) if k.startswith(prefix))

    def delete(self, key: str) -> None:
        """Removes the key, durably; a missing key is no error."""
        path = self._path(key)
        with self._faults("delete from"):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            self._step("store.deleted")
            _fsync_dir(path.parent)

    def _path(self, key: str) -> Path:
        *parents, name = check_key(key)
        return self._root.joinpath(*parents, name + _SUFFIX)

    def _acquire(self) -> int:
        fd = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise TemporaryError(
                f"state directory {self._root} is in use by another keywatch process"
            ) from None
        except OSError:
            os.close(fd)
            raise
        return fd

    def _prepare(self) -> None:
        """Removes what a killed process left over and proves that values can be linked."""
        with self._faults("prepare"):
            for leftover in (self._root / _TEMPORARY).iterdir():
                leftover.unlink(missing_ok=True)
            probe = self._write_temporary(b"probe")
            target = probe.with_name("probe")
            os.link(probe, target)
            target.unlink()
            probe.unlink()
            _fsync_dir(self._root)
            _fsync_dir(self._root.absolute().parent)

    def _write_temporary(self, value: bytes) -> Path:
        temporary = self._root / _TEMPORARY / f"{os.getpid()}-{next(self._serial)}"
        try:
            with open(temporary, "xb") as file:
                self._step("store.temp_created")
                file.write(value)
                file.flush()
                self._step("store.temp_written")
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
        self._step("store.temp_synced")
        return temporary

    def _publish(self, temporary: Path, path: Path) -> bool:
        try:
            os.link(temporary, path)
            is_new = True
        except FileExistsError:
            is_new = False
        finally:
            self._step("store.linked")
            temporary.unlink()
        self._step("store.temp_removed")
        _fsync_dir(path.parent)
        self._step("store.dir_synced")
        return is_new

    def _ensure_dir(self, directory: Path) -> None:
        """Makes the directory and its parents durable, once for each and process."""
        if directory in self._known_dirs or directory == self._root:
            return
        self._ensure_dir(directory.parent)
        directory.mkdir(exist_ok=True)
        _fsync_dir(directory.parent)
        if len(self._known_dirs) >= _KNOWN_DIRS_MAX:
            self._known_dirs.clear()  # costs fsyncs again, never correctness
        self._known_dirs.add(directory)

    def _keys_below(self, base: str) -> Iterator[str]:
        top = self._root / base
        for directory, _, names in os.walk(top, onerror=_raise_unless_missing):
            parent = Path(directory).relative_to(self._root).as_posix()
            for name in names:
                if name.endswith(_SUFFIX):
                    stem = name[: -len(_SUFFIX)]
                    yield stem if parent == "." else f"{parent}/{stem}"

    @contextmanager
    def _faults(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            kind = TemporaryError if e.errno in _PASSING else ConfigError
            reason = e.strerror or type(e).__name__
            raise kind(f"cannot {action} state directory {self._root}: {reason}") from e


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _fsync_dir(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
