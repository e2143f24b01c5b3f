"""A whole evaluation on tiny worlds: one pass, files that stay, tables."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from detector.cli.evaluate import _seeds
from detector.core.errors import UsageError
from replay.evaluation import seeds, store
from replay.evaluation.run import ALL, Plan, ablated, named, run_world
from replay.evaluation.sweep import TABLES_FILE, sweep
from replay.simulate.world import World
from replay.simulate.world_settings import Attack, WorldSettings
from tests.core.logs import START_US as LOG_START_US
from tests.core.logs import fleet_log

SETTINGS = WorldSettings(seed=0, keys=30, days=3, quiet_days=1, attacks_per_scenario=1)
PLAN = Plan(("ours",), stated=(10.0,))
THIEF_REQUESTS = 120


class SmallWorld:
    """The log of ``tests.core.logs``: a thief on key0 and a prober on key1 near its end."""

    built: ClassVar[list[int]] = []

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        log = fleet_log(settings.seed)
        shift = settings.test_us - 86_400_000_000 - LOG_START_US
        self._log = replace(log, ts_us=log.ts_us + shift)
        rows = np.arange(len(log))
        agent = np.array([log.names.clients.get(c, "") for c in log.client.tolist()])
        texts = [log.names.routes[r] for r in log.route.tolist()]
        self._attack = np.full(len(rows), -1, np.int32)
        self._attack[agent == "curl/8"] = 0
        self._attack[[t.startswith("GET /admin") for t in texts]] = 1
        self.attacks = [self._of(0, "key0", "A01"), self._of(1, "key1", "A16")]
        self.happenings = []
        self.key_class = {f"key{i}": "server" for i in range(12)}
        SmallWorld.built.append(settings.seed)

    def _of(self, number, key, scenario):
        mine = self._log.ts_us[self._attack == number]
        networks = ("198.51.100.0/24",) if number == 0 else ()
        theft = ("new_network", "new_client", "foreign_mix", "new_route")
        causes = theft if number == 0 else ("probing",)
        first, last = int(mine[0]), int(mine[-1])
        return Attack(number, scenario, (key,), first, last, networks, (), causes, 5.0, len(mine))

    def registry(self):
        return None

    def batches(self):
        for i in range(0, len(self._log), 700):
            yield self._log.take(slice(i, i + 700)), self._attack[i : i + 700]


@pytest.fixture(autouse=True)
def nothing_built_yet():
    SmallWorld.built.clear()


def swept(out, seed_list, plan=PLAN, **more):
    return sweep(out, SETTINGS, seed_list, plan, make_world=SmallWorld, **more)


def test_a_thief_is_found_and_told_apart_from_noise(tmp_path):
    """The whole way: events, engine, episodes, judge, file."""
    swept(tmp_path, [1])
    result = store.load(tmp_path, "ours", replace(SETTINGS, seed=1))
    thief = result.budgets[-1].outcomes[0]
    assert result.attacks[0].requests == THIEF_REQUESTS
    assert result.attacks[0].size_bytes == THIEF_REQUESTS * 1000
    assert thief.caught_us is not None
    assert thief.cause
    assert thief.network
    assert 0 < thief.requests < THIEF_REQUESTS
    assert [b.per_week for b in result.budgets] == [2.0, 10.0, 40.0]
    assert [b.per_week for b in result.online] == [10.0]


def test_finished_worlds_are_not_run_again(tmp_path):
    """Stop and go on: only what is missing is run, and the tables cover all."""
    swept(tmp_path, [1])
    first = (tmp_path / "ours-1.json").read_bytes()
    said = []
    text = swept(tmp_path, [1, 2], say=said.append)
    assert SmallWorld.built == [1, 2]
    assert (tmp_path / "ours-1.json").read_bytes() == first
    assert "seed 1: already there" in said
    assert "Seeds 1, 2." in text
    assert (tmp_path / TABLES_FILE).read_text(encoding="utf-8") == text


def test_a_new_method_is_run_without_the_old_ones(tmp_path):
    """A world is passed over once more, for the missing method only."""
    swept(tmp_path, [1])
    before = (tmp_path / "ours-1.json").stat().st_mtime_ns
    text = swept(tmp_path, [1], Plan(("ours", ablated("new_network")), stated=(10.0,)))
    assert (tmp_path / "ours-1.json").stat().st_mtime_ns == before
    assert "| ours~new_network |" in text


@pytest.mark.parametrize("change", [{"keys": 31}, {"attacks_per_scenario": 2}, {"days": 4}])
def test_results_of_another_world_do_not_count(tmp_path, change):
    """Other settings, other world: its results are made anew."""
    swept(tmp_path, [1])
    assert store.load(tmp_path, "ours", replace(SETTINGS, seed=1, **change)) is None
    assert store.load(tmp_path, "ours", replace(SETTINGS, seed=2)) is None


def test_again_means_again(tmp_path):
    """With ``again`` finished worlds are run anew."""
    swept(tmp_path, [1])
    swept(tmp_path, [1], again=True)
    assert SmallWorld.built == [1, 1]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 0}'])
def test_a_damaged_file_is_a_missing_one(tmp_path, damage):
    """Half a file, or one of another form, is run again and replaced."""
    swept(tmp_path, [1])
    (tmp_path / "ours-1.json").write_bytes(damage)
    swept(tmp_path, [1])
    assert SmallWorld.built == [1, 1]
    assert store.load(tmp_path, "ours", replace(SETTINGS, seed=1)) is not None


def test_the_same_world_gives_the_same_result(tmp_path):
    """All but the time it took."""
    one, two = (run_world(SmallWorld(replace(SETTINGS, seed=3)), PLAN)[0] for _ in range(2))
    assert replace(one, elapsed_s=0) == replace(two, elapsed_s=0)


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(tmp_path):
    """A usage error, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to"):
        swept(tmp_path / "file", [1])


def test_methods_are_named_as_shown_or_for_short():
    """Short names are for command lines; an unknown one lists what there is."""
    assert {named(store.slug(name)) for name in ALL} == set(ALL) == {named(n) for n in ALL}
    with pytest.raises(UsageError, match="ours"):
        named("theirs")
    with pytest.raises(UsageError, match="new_network"):
        ablated("old_network")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", [1]), ("1,3", [1, 3]), ("2-4, 9", [2, 3, 4, 9]), ("reported", list(seeds.REPORTED))],
)
def test_seeds_are_lists_and_ranges(text, expected):
    """As people write pages to print."""
    assert _seeds(text) == expected


@pytest.mark.parametrize("text", ["", "a", "1-", "-3", "4-2", "1;2"])
def test_other_seeds_are_refused(text):
    """With a sentence that shows the form."""
    with pytest.raises(UsageError, match="--seeds"):
        _seeds(text)


def test_tuning_and_reported_worlds_are_apart():
    """What chooses a number is never among what is published."""
    assert not set(seeds.TUNING) & set(seeds.REPORTED)


def test_every_method_answers_on_a_simulated_world():
    """The real world, small: one pass feeds all methods, each is judged on all attacks.

    All but the trees that take 20 seconds to plant however small the world is.
    """
    quick = tuple(name for name in ALL if "HalfSpace" not in name)
    settings = WorldSettings(seed=1, keys=60, days=4, quiet_days=1, attacks_per_scenario=1)
    world = World(settings)
    results = run_world(world, Plan(quick, stated=(10.0,)))
    assert [r.method for r in results] == list(quick)
    expected = sum(a.requests for a in world.attacks)
    for result in results:
        assert sum(a.requests for a in result.attacks) == expected > 0
        assert [len(b.outcomes) for b in result.budgets] == [len(result.attacks)] * 3
        allowed = [b.per_week * result.weeks for b in result.budgets]
        false = [sum(f.channel != "hard" for f in b.false_alerts) for b in result.budgets]
        assert all(n <= most for n, most in zip(false, allowed, strict=True))
