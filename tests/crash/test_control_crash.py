"""SIGKILL anywhere around a control record: it is applied once, where its journal says."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator

import pytest

from detector.stores.local import LocalStore
from tests.crash.test_crash import POINTS, Kill, Outcome, Trials

CONTROL_POINTS = ("run.before_control", "run.after_control", "run.control_done")


@pytest.fixture(scope="module")
def trials() -> Iterator[Trials]:
    server = Trials()
    yield server
    server.close()


def journal(directory) -> list[str]:
    with LocalStore(directory / "state") as store:
        assert store.list("request/") == []
        return store.list("control/")


def uninterrupted(trials, directory, reference) -> Outcome:
    """What one life makes of the log when it finds the same journal at its start."""
    (reference / "state").mkdir(parents=True)
    shutil.copytree(directory / "state" / "control", reference / "state" / "control")
    assert trials.run(reference) == "done"
    return Outcome.of(reference)


def check(trials, directory, kills: list[Kill]) -> None:
    killed = trials.to_the_end(directory, kills, asks=True)
    assert len(journal(directory)) == 2, "each request became one record"
    expected = uninterrupted(trials, directory, directory.with_name("reference"))
    assert Outcome.of(directory).differs(expected, killed) == [], kills


@pytest.mark.parametrize("point", CONTROL_POINTS)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_kill_around_a_record_leaves_no_trace(trials, tmp_path, point, nth):
    """Alerts, episodes, state and offsets are those of an uninterrupted life with that journal."""
    check(trials, tmp_path / "t", [{"point": point, "nth": nth}])
    assert trials.kills[point] >= 1


@pytest.mark.parametrize("seed", range(8))
def test_killed_again_and_again(trials, tmp_path, seed):
    """Six lives in a row, each ended at a random point, control points among them."""
    rng = random.Random(seed)
    points = [*POINTS, *CONTROL_POINTS * 3]
    kills = [{"point": rng.choice(points), "nth": rng.randint(1, 4)} for _ in range(6)]
    check(trials, tmp_path / "t", kills)


def test_a_record_changes_something(trials, tmp_path):
    """The resets show in the state: else the tests above could not fail."""
    assert trials.run(tmp_path / "asked", asks=True) == "done"
    assert trials.run(tmp_path / "plain") == "done"
    asked, plain = Outcome.of(tmp_path / "asked"), Outcome.of(tmp_path / "plain")
    assert asked.digest != plain.digest
