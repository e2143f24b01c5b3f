"""An edited formula is never hidden by a compiled kernel of yesterday."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORMULA = "return 2.0 ** (-cells / half_life_cells)"
EDITED = "return 4.0 ** (-cells / half_life_cells)"
BY_SOURCES = "h.update(path.read_bytes())"
COMMIT = """
import json, pathlib
import numba
import numpy as np
import models
from models import novelty

n = np.zeros(1, novelty.NOVELTY)
n[0]["new"] = 8.0
novelty.commit(n[0], 2688, True)  # one half-life
hits = sum(novelty.commit.stats.cache_hits.values())
print(json.dumps({
    "tree": str(pathlib.Path(models.__file__).parents[1]),
    "cache": numba.config.CACHE_DIR,
    "left": float(n[0]["new"][0]) / 8.0,
    "loaded": hits,
}))
"""
KERNELS = """
import gc, json, pathlib
import numba
from numba.core.dispatcher import Dispatcher
import detector.core.shard, detector.decode.kernels
from models._jit import kernel_sources

ours = [d for d in gc.get_objects() if isinstance(d, Dispatcher)]
ours = [d for d in ours if d.py_func.__module__.startswith(("detector.", "models."))]
sources = {str(p) for p in kernel_sources()}
print(json.dumps({
    "kernels": sorted(f"{d.py_func.__module__}.{d.py_func.__name__}" for d in ours),
    "unhashed": sorted({d.py_func.__code__.co_filename for d in ours} - sources),
    "elsewhere": sorted({
        d.stats.cache_path for d in ours
        if pathlib.Path(numba.config.CACHE_DIR) not in pathlib.Path(d.stats.cache_path).parents
    }),
}))
"""


def told(script: str, tree: Path, cache: Path) -> dict[str, Any]:
    """What a script says in a process of its own, with the sources of ``tree``."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tree), "KEYWATCH_CACHE_DIR": str(cache)},
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def commit(tree: Path, cache: Path) -> dict[str, Any]:
    said = told(COMMIT, tree, cache)
    assert said["tree"] == str(tree)
    return said


def compiled(folder: str) -> dict[str, int]:
    """The kernels on disk (index and machine code), by when they were written."""
    return {str(p): p.stat().st_mtime_ns for p in Path(folder).rglob("*.nb[ci]")}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of the sources, to be edited."""
    for folder in ("detector", "models"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / "tree" / folder, ignore=skip)
    return tmp_path / "tree"


def test_an_edited_formula_changes_its_callers(tree, tmp_path):
    """``commit`` calls a formula of another module: numba's own cache would miss the edit.

    The same sources use the cache; the edited ones compile into another directory and give
    another result, whatever lies in the first.
    """
    cache = tmp_path / "cache"
    first = commit(tree, cache)
    kernels = compiled(first["cache"])
    assert any("novelty.commit" in name for name in kernels)
    assert (first["left"], first["loaded"]) == (0.5, 0)
    again = commit(tree, cache)
    assert again == {**first, "loaded": 1}
    assert compiled(first["cache"]) == kernels

    edit(tree / "models/clock.py", FORMULA, EDITED)
    edited = commit(tree, cache)
    assert edited["cache"] != first["cache"]
    assert compiled(first["cache"]) == kernels
    assert (edited["left"], edited["loaded"]) == (0.25, 0)


def test_without_the_hash_of_the_sources_the_edit_is_hidden(tree, tmp_path):
    """The test above can fail: in a directory that the sources do not name, the old one is run."""
    edit(tree / "models/_jit.py", BY_SOURCES, "pass")
    assert commit(tree, tmp_path / "cache")["left"] == 0.5
    edit(tree / "models/clock.py", FORMULA, EDITED)
    hidden = commit(tree, tmp_path / "cache")
    assert (hidden["left"], hidden["loaded"]) == (0.5, 1)


def test_every_kernel_of_the_fold_and_the_decoder_is_cached_like_that(tmp_path):
    """Each lies in a source file that is hashed, and its machine code in the hash's directory."""
    found = told(KERNELS, ROOT, tmp_path)
    assert {"detector.core.kernels.fold", "models.novelty.surprise"} <= set(found["kernels"])
    assert any(name.startswith("detector.decode.") for name in found["kernels"])
    assert (found["unhashed"], found["elsewhere"]) == ([], [])
