"""``keywatch evaluate`` from the command line."""

from __future__ import annotations

from tests.forked import keywatch

TINY = ["--keys", "60", "--days", "4", "--quiet-days", "1", "--attacks-per-scenario", "1"]


def test_the_command_prints_the_tables_it_keeps(tmp_path):
    """Tables on stdout, progress on stderr, one file per method and seed."""
    scenarios = ["--attacks", "A01,A13", "--benign", "B05", "--methods", "ours,count-threshold"]
    said = keywatch("evaluate", "--seeds", "1,2", "-o", str(tmp_path), *TINY, *scenarios)
    assert said.returncode == 0, said.stderr
    assert said.stdout == (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert "Seeds 1, 2." in said.stdout
    assert "| A13 |" in said.stdout
    assert "| A02 |" not in said.stdout
    assert "seed 2: done; 0 to go" in said.stderr
    names = {p.name for p in tmp_path.glob("*.json")}
    assert names == {f"{m}-{n}.json" for m in ("ours", "count-threshold") for n in (1, 2)}


def test_without_attacks_it_measures_how_a_budget_is_kept(tmp_path):
    """Recall is a dash; the number of alerts really raised is there."""
    quiet = [*TINY[:-1], "0", "--methods", "ours"]
    said = keywatch("evaluate", "-o", str(tmp_path), *quiet)
    assert said.returncode == 0, said.stderr
    assert "| ours | - | - |" in said.stdout
    assert "## Alerts really raised" in said.stdout


def test_what_it_does_not_know_is_one_sentence(tmp_path):
    """A usage error names what there is."""
    for wrong, named in (
        (["--methods", "theirs"], "count-threshold"),
        (["--ablate", "old_network"], "new_network"),
        (["--seeds", "x"], "1-5"),
        (["--attacks", "A99"], "A22"),
    ):
        said = keywatch("evaluate", "-o", str(tmp_path), *wrong)
        assert said.returncode == 2
        assert named in said.stderr
        assert len(said.stderr.splitlines()) == 1
