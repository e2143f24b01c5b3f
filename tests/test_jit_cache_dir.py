"""Kernels are cached in a directory of this user alone, and a missing home stops nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from models import _jit


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path) -> Path:
    """No cache configured, a home of one's own, temporary directories under ``tmp_path``."""
    for name in ("KEYWATCH_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def no_home(cls: type[Path]) -> Path:
    raise RuntimeError("Could not determine home directory.")


def is_temporary(path: Path, places: Path) -> bool:
    private = path.stat().st_mode & 0o777 == 0o700
    return path.parent == places / "tmp" and path.name.startswith("keywatch-kernels-") and private


def test_the_home_is_used_when_nothing_is_configured(places):
    """``~/.cache/keywatch``, for this user only, and the same one again."""
    path = _jit._writable_cache_dir()
    assert path == places / "home/.cache/keywatch" / f"kernels-{_jit.cache_key()}"
    assert path.stat().st_mode & 0o777 == 0o700
    assert _jit._writable_cache_dir() == path


@pytest.mark.parametrize("name", ["KEYWATCH_CACHE_DIR", "XDG_CACHE_HOME"])
def test_a_configured_place_needs_no_home(monkeypatch, places, name):
    """A service user without HOME and passwd entry starts all the same."""
    monkeypatch.setattr(Path, "home", classmethod(no_home))
    monkeypatch.setenv(name, str(places / "set"))
    assert _jit._writable_cache_dir().parent == places / "set/keywatch"


def test_without_a_home_a_temporary_directory_is_used(monkeypatch, places):
    """Slower at each start, but no error."""
    monkeypatch.setattr(Path, "home", classmethod(no_home))
    assert is_temporary(_jit._writable_cache_dir(), places)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720, 0o702])
def test_a_directory_others_may_write_to_is_not_used(places, mode):
    """What lies in it may be somebody else's code."""
    path = _jit._writable_cache_dir()
    path.chmod(mode)
    assert is_temporary(_jit._writable_cache_dir(), places)
    path.chmod(0o755)
    assert _jit._writable_cache_dir() == path


def test_a_directory_of_another_user_is_not_used(monkeypatch, places):
    """Prepared by somebody else, for instance under a shared KEYWATCH_CACHE_DIR."""
    _jit._writable_cache_dir()
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert is_temporary(_jit._writable_cache_dir(), places)


def test_a_link_in_its_place_is_not_followed(places):
    """A link may be turned elsewhere after it was looked at."""
    path = _jit._writable_cache_dir()
    path.rmdir()
    (places / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(places / "elsewhere")
    assert is_temporary(_jit._writable_cache_dir(), places)
