"""200 kills of the whole loop over a real directory leave no trace in what it found.

Every trial is a process that is really killed with SIGKILL, restarted over the same state
directory until it comes to the end of the log, and compared with an uninterrupted run:
alerts, closed episodes, digest of the state, offsets, and what was delivered.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from detector.stores.local import LocalStore
from tests.crash.child import MUTANTS, read_delivered, undelivered
from tests.live.script import result

KILLS_MIN = 200
SEEDS = 40
POINTS = (
    "store.temp_created",
    "store.temp_written",
    "store.temp_synced",
    "store.linked",
    "store.temp_removed",
    "store.dir_synced",
    "store.deleted",
    "outbox.before_journal",
    "outbox.after_journal",
    "outbox.before_send",
    "outbox.after_send",
    "outbox.after_mark",
    "run.polled",
    "run.folded",
    "run.before_alert",
    "run.after_alert",
    "run.before_snapshot",
    "run.after_partition_snapshots",
    "run.after_fleet_snapshot",
    "run.after_snapshot",
    "run.after_commit",
)

Kill = dict[str, Any]


class Trials:
    """The server of forked trials."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.child"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.kills: Counter[str] = Counter()
        self.tests = 0

    def run(self, directory: Path, **request: Any) -> str:
        """One life; how it ended: done, killed or failed."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        directory.mkdir(exist_ok=True)
        self._server.stdin.write(json.dumps({"directory": str(directory), **request}) + "\n")
        self._server.stdin.flush()
        ended: str = json.loads(self._server.stdout.readline())["ended"]
        if ended == "killed":
            self.kills[request.get("point", "any time")] += 1
        return ended

    def to_the_end(self, directory: Path, kills: list[Kill], **more: Any) -> int:
        """Kills one life after the other, then lets the last one finish; how many were killed."""
        ends = [self.run(directory, **kill, **more) for kill in kills]
        last = self.run(directory, **more)
        assert "mutant" in more or ("failed" not in ends and last == "done")
        return ends.count("killed")

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(30)


@dataclass(frozen=True)
class Outcome:
    """What a finished run left behind."""

    alerts: list[dict[str, Any]]
    episodes: list[dict[str, Any]]
    digest: str
    offsets: dict[int, int]
    delivered: list[str]
    undelivered: set[str]
    leftovers: list[str]

    @classmethod
    def of(cls, directory: Path) -> Outcome:
        with LocalStore(directory / "state") as store:
            alerts, episodes, digest, offsets = result(store)
            delivered, missing = read_delivered(directory), undelivered(store)
        leftovers = [p.name for p in (directory / "state" / ",tmp").iterdir()]
        return cls(alerts, episodes, digest, offsets, delivered, missing, leftovers)

    def differs(self, reference: Outcome, kills: int) -> list[str]:
        """In what this run can be told from an uninterrupted one; the promises P1 and P2."""
        repeated = len(self.delivered) - len(set(self.delivered))
        checks = {
            "alerts": self.alerts == reference.alerts,
            "episodes": self.episodes == reference.episodes,
            "digest": self.digest == reference.digest,
            "offsets": self.offsets == reference.offsets,
            "delivered": set(self.delivered) == set(reference.delivered),
            "repeated": repeated <= kills,
            "undelivered": self.undelivered == set(),
            "leftovers": self.leftovers == [],
        }
        return [name for name, holds in checks.items() if not holds]


@pytest.fixture(scope="module")
def trials() -> Iterator[Trials]:
    server = Trials()
    yield server
    server.close()


@pytest.fixture(scope="module")
def reference(trials, tmp_path_factory) -> tuple[Outcome, dict[str, int]]:
    """An uninterrupted run, and how often it passed each point."""
    directory = tmp_path_factory.mktemp("reference")
    assert trials.run(directory) == "done"
    return Outcome.of(directory), json.loads((directory / "seen.json").read_text())


def test_the_reference_is_worth_comparing(trials, reference, tmp_path):
    """Eight thefts alert and are delivered once, and a second run is equal to the first.

    One network on eight other keys is a campaign: that notice has the key ``*``.
    """
    outcome, _ = reference
    expected = {"*", *(f"key{k}" for k in range(8))}
    assert {a["key"] for a in outcome.alerts if "crowd" not in a["key"]} == expected
    assert len(outcome.episodes) >= 8
    assert sorted(outcome.delivered) == sorted(a["alert_id"] for a in outcome.alerts)
    assert trials.run(tmp_path / "again") == "done"
    again = Outcome.of(tmp_path / "again")
    assert again.differs(outcome, 0) == []
    assert again.delivered == outcome.delivered


def test_every_named_point_is_known(reference):
    """A new crash point must be added to the list that is killed at."""
    assert set(reference[1]) == set(POINTS)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_a_named_point_leaves_no_trace(trials, reference, tmp_path, point):
    """The first, a middle and the last passing, each in a life of its own."""
    outcome, seen = reference
    trials.tests += 1
    for nth in sorted({1, (seen[point] + 1) // 2, seen[point]}):
        directory = tmp_path / f"{nth}"
        kills = trials.to_the_end(directory, [{"point": point, "nth": nth}])
        assert kills or nth > 1, "the first passing comes always"
        assert Outcome.of(directory).differs(outcome, kills) == [], f"{point} {nth}"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_killed_again_and_again(trials, reference, tmp_path, seed):
    """Eight lives in a row, each ended at a random point or moment, then one that may finish."""
    outcome, _ = reference
    rng = random.Random(seed)
    kills: list[Kill] = []
    for _ in range(8):
        if rng.random() < 0.5:
            kills.append({"after_s": rng.uniform(0, 0.1)})
        else:
            kills.append({"point": rng.choice(POINTS), "nth": rng.randint(1, 6)})
    trials.tests += 1
    delay_s = rng.choice([0.0, 0.0, 0.02])
    killed = trials.to_the_end(tmp_path / "t", kills, delay_s=delay_s)
    assert Outcome.of(tmp_path / "t").differs(outcome, killed) == [], f"seed {seed}: {kills}"


def test_there_were_200_kills_and_some_at_every_point(trials):
    """The harness really killed what it was to kill."""
    if trials.tests < len(POINTS) + SEEDS:
        pytest.skip("counts what all the tests above did")
    assert sum(trials.kills.values()) >= KILLS_MIN
    assert set(POINTS) <= set(trials.kills)
    assert trials.kills["any time"] >= 50


@pytest.mark.parametrize(
    ("mutant", "point", "shows"),
    [
        ("offset_apart_from_state", "run.folded", {"digest"}),
        ("send_before_journal", "outbox.before_send", {"repeated"}),
        ("no_recovery", "run.after_commit", {"delivered"}),
        ("no_mark", "outbox.after_mark", {"undelivered"}),
        ("fleet_forgotten", "run.folded", {"digest", "alerts", "failed"}),
        ("link_before_content", "store.linked", {"failed", "alerts"}),
    ],
)
def test_a_broken_build_is_noticed(trials, reference, tmp_path, mutant, point, shows):
    """Each planted mistake makes the harness fail: a test that cannot fail proves nothing."""
    outcome, seen = reference
    assert mutant in MUTANTS
    found: set[str] = set()
    passings = seen[point]
    for nth in (passings - 2, *(part * passings // 12 for part in (8, 6, 10, 4, 2, 9, 7, 5)), 1):
        directory = tmp_path / f"{nth}"
        kill = {"point": point, "nth": nth}
        killed = trials.to_the_end(directory, [kill], mutant=mutant, delay_s=0.2)
        try:
            found |= set(Outcome.of(directory).differs(outcome, killed))
        except Exception:
            found.add("failed")  # what was left behind cannot even be read
        if found & shows:
            return
    pytest.fail(f"only {found} showed")
