"""An edited formula is never hidden by a compiled kernel of yesterday."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FORMULA = "return -log(max(burst, 1e-12)) - (x - 1) * log(longer)"
EDITED = "return 2.0 * (-log(max(burst, 1e-12)) - (x - 1) * log(longer))"
FOLD = """
import json, pathlib, time
import numba
import models
from detector.core.settings import ShardSettings
from detector.core.shard import Shard
from tests.core.logs import START_US, batch_of

day_us = 86_400_000_000
rows = [(START_US + i * 900_000_000, "k", "10.0.0", "c/1", "GET /v1/a", 200) for i in range(200)]
rows.append((START_US + 3 * day_us, "k", "198.51.100", "c/1", "GET /v1/a", 200))
log, shard = batch_of(rows), Shard(ShardSettings())
began_s = time.perf_counter()
shard.fold(log)
print(json.dumps({
    "tree": str(pathlib.Path(models.__file__).parents[1]),
    "cache": numba.config.CACHE_DIR,
    "network_nats": float(shard._state.novelty[0]["now"][0]),
    "fold_s": time.perf_counter() - began_s,
}))
"""


def fold(tree: Path, cache: Path) -> dict[str, Any]:
    """Folds a tiny log in a process of its own, with the sources of ``tree``."""
    done = subprocess.run(
        [sys.executable, "-c", FOLD],
        env={**os.environ, "PYTHONPATH": str(tree), "KEYWATCH_CACHE_DIR": str(cache)},
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["tree"] == str(tree)
    return told


def compiled(folder: str) -> dict[str, int]:
    """The kernels on disk (index and machine code), by when they were written."""
    return {str(p): p.stat().st_mtime_ns for p in Path(folder).rglob("*.nb[ci]")}


def test_an_edited_formula_changes_the_fold(tmp_path):
    """The fold calls a formula of another module: numba's own cache would miss the edit.

    The same sources use the cache; the edited ones compile into another directory and give
    another result, whatever lies in the first.
    """
    tree, cache = tmp_path / "tree", tmp_path / "cache"
    skip = shutil.ignore_patterns("__pycache__")
    for folder in ("detector", "models", "tests/core"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=skip)
    shutil.copy(ROOT / "tests/__init__.py", tree / "tests/__init__.py")

    first = fold(tree, cache)
    kernels = compiled(first["cache"])
    assert any("kernels.fold" in name for name in kernels)
    again = fold(tree, cache)
    assert {**again, "fold_s": 0} == {**first, "fold_s": 0}
    assert compiled(first["cache"]) == kernels
    assert again["fold_s"] < first["fold_s"] / 2

    path = tree / "models/novelty.py"
    text = path.read_text(encoding="utf-8")
    assert text.count(FORMULA) == 1
    path.write_text(text.replace(FORMULA, EDITED), encoding="utf-8")
    edited = fold(tree, cache)
    assert edited["cache"] != first["cache"]
    assert compiled(first["cache"]) == kernels
    offset = 1.0  # models.novelty.OFFSET: what a cell's first surprise is worth less
    expected = 2.0 * (first["network_nats"] + offset) - offset
    assert abs(edited["network_nats"] - expected) < 1e-4 * expected
