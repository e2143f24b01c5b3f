"""The local store survives being killed anywhere, and says in one sentence what is wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from detector.core.errors import ConfigError, TemporaryError
from detector.stores import local
from detector.stores.local import LocalStore

POINTS = (
    "store.temp_created",
    "store.temp_written",
    "store.temp_synced",
    "store.linked",
    "store.temp_removed",
    "store.dir_synced",
)


class Crash(BaseException):
    """Stands for the death of the process at a named point."""


def crash_at(point):
    def hook(name):
        if name == point:
            raise Crash

    return hook


def restart(directory) -> LocalStore:
    return LocalStore(directory)


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_any_point_leaves_the_value_whole_or_absent(tmp_path, point):
    """From the link on the value is there, before it is not; leftovers vanish at the start."""
    store = LocalStore(tmp_path)
    store.put_if_absent("before", b"kept")
    store._step = crash_at(point)
    with pytest.raises(Crash):
        store.put_if_absent("dir/key", b"x" * 5000)
    store.close()

    again = restart(tmp_path)
    is_there = POINTS.index(point) >= POINTS.index("store.linked")
    assert again.get("dir/key") == (b"x" * 5000 if is_there else None)
    assert again.get("before") == b"kept"
    assert list((tmp_path / ",tmp").iterdir()) == []
    assert again.put_if_absent("dir/key", b"y") is not is_there


def test_a_killed_process_leaves_no_lock_and_no_half_value(tmp_path):
    """SIGKILL between write and link: the directory opens at once and the key is absent."""
    script = (
        "import os, signal, sys\n"
        "from detector.stores.local import LocalStore\n"
        "def hook(name):\n"
        "    if name == 'store.temp_written': os.kill(os.getpid(), signal.SIGKILL)\n"
        "store = LocalStore(sys.argv[1])\n"
        "store.put_if_absent('good', b'1')\n"
        "store._step = hook\n"
        "store.put_if_absent('bad', b'2' * 100_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert list((tmp_path / ",tmp").iterdir()) != []
    with restart(tmp_path) as store:
        assert store.list("") == ["good"]
        assert list((tmp_path / ",tmp").iterdir()) == []


def test_truncated_temporaries_are_never_values(tmp_path):
    """Crash images: empty, torn and foreign files in the temporary directory are swept away."""
    LocalStore(tmp_path).close()
    for name, content in (("1-0", b""), ("1-1", b"torn"), ("junk", bytes(9))):
        (tmp_path / ",tmp" / name).write_bytes(content)
    with restart(tmp_path) as store:
        assert store.list("") == []
        assert list((tmp_path / ",tmp").iterdir()) == []


def test_a_link_lost_with_the_power_is_an_absent_key(tmp_path):
    """The directory's fsync had not happened: the key is absent and can be put again."""
    with LocalStore(tmp_path) as store:
        store.put_if_absent("snap/1", b"old")
        store.put_if_absent("snap/2", b"new")
    (tmp_path / "snap" / "2,v").unlink()
    with restart(tmp_path) as store:
        assert store.list("snap/") == ["snap/1"]
        assert store.put_if_absent("snap/2", b"again")


def test_files_that_are_not_ours_are_ignored(tmp_path):
    """An operator's notes in the directory are no keys."""
    with LocalStore(tmp_path) as store:
        store.put_if_absent("alert/a", b"1")
        (tmp_path / "README").write_text("hello")
        (tmp_path / "alert" / "a.bak").write_text("2")
        assert store.list("") == ["alert/a"]


def test_each_put_is_synced_before_it_is_linked_and_its_directory_after(tmp_path, monkeypatch):
    """The order on disk: fsync of the value, link, fsync of the directory."""
    log: list[str] = []
    store = LocalStore(tmp_path)
    store.put_if_absent("d/0", b"")
    store._step = log.append
    real_fsync, real_link = os.fsync, os.link

    def fsync(fd):
        kind = "dir" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"
        log.append(f"fsync {kind}")
        real_fsync(fd)

    def link(source, target):
        log.append("link")
        real_link(source, target)

    monkeypatch.setattr(local.os, "fsync", fsync)
    monkeypatch.setattr(local.os, "link", link)
    store.put_if_absent("d/1", b"v")
    assert [s for s in log if not s.startswith("store.")] == ["fsync file", "link", "fsync dir"]
    assert [s for s in log if s.startswith("store.")] == list(POINTS)
    log.clear()
    store.put_if_absent("d/1", b"w")
    assert log == ["fsync dir"]  # what exists is made durable too before anyone relies on it


def test_a_second_process_is_told_who_holds_the_directory(tmp_path):
    """One directory, one process: a temporary error, and free again after close."""
    first = LocalStore(tmp_path)
    with pytest.raises(TemporaryError, match="in use by another keywatch process"):
        LocalStore(tmp_path)
    first.close()
    LocalStore(tmp_path).close()


def test_a_file_in_place_of_the_directory_is_a_configuration_error(tmp_path):
    """One sentence that names the place."""
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError, match=r"state directory .*state"):
        LocalStore(tmp_path / "state")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, TemporaryError),
        (errno.EDQUOT, TemporaryError),
        (errno.EIO, TemporaryError),
        (errno.EACCES, ConfigError),
        (errno.EROFS, ConfigError),
        (errno.EPERM, ConfigError),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "link"])
def test_disk_faults_have_a_type_and_leave_nothing_behind(tmp_path, monkeypatch, code, kind, call):
    """Full disk and I/O errors are temporary, missing rights are configuration."""
    store = LocalStore(tmp_path)
    store.put_if_absent("d/0", b"")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(local.os, call, fail)
        with pytest.raises(kind, match="cannot write to state directory") as caught:
            store.put_if_absent("d/1", b"v")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / ",tmp").iterdir()) == []
    assert store.get("d/1") is None
    assert store.put_if_absent("d/1", b"v")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_directory_is_a_configuration_error(tmp_path):
    """Found at the opening, not at the first alert."""
    LocalStore(tmp_path).close()
    tmp_path.chmod(0o500)
    (tmp_path / ",tmp").chmod(0o500)
    try:
        with pytest.raises(ConfigError, match="Permission denied"):
            LocalStore(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_file_system_without_hard_links_is_refused_at_the_opening(tmp_path, monkeypatch):
    """The promise of put-if-absent rests on links, so the opening proves them."""

    def fail(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(local.os, "link", fail)
    with pytest.raises(ConfigError, match="cannot prepare state directory"):
        LocalStore(tmp_path)
    monkeypatch.undo()
    LocalStore(tmp_path).close()  # the failed opening let go of the lock
