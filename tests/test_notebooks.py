"""The notebooks run from top to bottom, as a reader would run them."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import matplotlib as mpl
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))


@pytest.fixture
def drawing_off_screen():
    before = mpl.get_backend()
    mpl.use("Agg", force=True)
    yield
    from matplotlib import pyplot as plt

    plt.close("all")
    mpl.use(before, force=True)


def test_there_is_a_notebook():
    """The parametrised tests below would pass on an empty folder."""
    assert FOLDER / "first_replay.py" in NOTEBOOKS


@pytest.mark.timeout(120)
def test_first_replay_finds_its_attacks(tmp_path, monkeypatch, drawing_off_screen):
    """The notebook runs in an empty folder, catches attacks, none falsely, and draws a curve."""
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(FOLDER / "first_replay.py"))
    evaluation = names["summary"]["evaluation"]
    assert evaluation["attacks"] == 2
    assert evaluation["caught"] >= 1  # both today: a retuned threshold must not break a notebook
    assert evaluation["false_alerts"] == 0
    assert set(names["alerts"]["key"]) <= {label.key for label in names["fleet"].labels}
    assert names["curve"]["score"].is_monotonic_increasing
    picture = (tmp_path / "first-replay" / "episode.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 5000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_use_models_and_replay_only(path):
    """Of this project a notebook imports models, replay and the configuration, no live part."""
    ours = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            ours |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            ours.add(node.module or "")
    ours = {name for name in ours if name.split(".")[0] in ("detector", "models", "replay")}
    assert ours
    allowed = ("models", "replay", "detector.config")
    wrong = {n for n in ours if not any(n == a or n.startswith(a + ".") for a in allowed)}
    assert not wrong, f"{path.name} imports {sorted(wrong)}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_in_percent_form(path):
    """Cells are marked as jupytext expects them: a title first, then code and text cells."""
    lines = path.read_text(encoding="utf-8").splitlines()
    marks = [line for line in lines if line.startswith("# %%")]
    assert marks[0] == "# %% [markdown]"
    assert "# %%" in marks
    assert set(marks) <= {"# %%", "# %% [markdown]"}
