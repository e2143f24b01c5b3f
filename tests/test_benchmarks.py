"""What the benchmark commands decide: their tables, verdicts and exit codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import calibration, hard_negatives, ramps
from benchmarks.calibration import RULES, Row, Run, in_any_week, name_of, rows_of
from benchmarks.hard_negatives import ABOUT_NOBODY, ONE_NOTICE, SILENT, Seen, Verdict, compare
from detector.core.episodes import Episode
from detector.core.events import EventBatch
from models.clock import DAY_US
from replay.evaluation.keys import KeyIndex
from replay.evaluation.store import code_digest
from replay.simulate.world import World
from replay.simulate.world_settings import START_US, WorldSettings
from tests.core.fleet_candidates import candidate
from tests.sinks.sample import EPISODE

WEEK_US = 7 * DAY_US
BEGIN_US, END_US = START_US + 10 * DAY_US, START_US + 12 * DAY_US
TINY = ("--keys", "30", "--days", "4", "--quiet-days", "2")


def alerts(*given: tuple[str, float]):
    """Alerts on keys, so many days after the scenario began."""
    return [replace(EPISODE, key=k, alerted_us=BEGIN_US + round(d * DAY_US)) for k, d in given]


def seen(
    *given: tuple[str, float], keys: str = "ab", late: int = 0, quiet: tuple[Episode, ...] = ()
) -> Seen:
    raised = alerts(*given)
    return Seen(raised, [*raised, *quiet], late, frozenset(keys), BEGIN_US, END_US)


@pytest.mark.parametrize(
    ("days", "counts"),
    [(-0.001, False), (0.0, True), (2.0, True), (2.999, True), (3.0, False)],
)
def test_alerts_count_during_a_scenario_and_a_day_after(days, counts):
    """From its first microsecond to a day after its last, notices too."""
    verdict = compare("B01", seen(("a", days), (ABOUT_NOBODY, days)), seen())
    assert (verdict.alerts, verdict.notices) == ((["a"], 1) if counts else ([], 0))


@pytest.mark.parametrize("scenario", [*SILENT, *ONE_NOTICE])
def test_whose_alerts_count(scenario):
    """Everybody's where the requests are the very same and nobody was to notice, else its keys'."""
    verdict = compare(scenario, seen(("c", 1.0), ("a", 1.5)), seen())
    assert verdict.alerts == (["a", "c"] if scenario in SILENT else ["a"])
    assert not verdict.is_good


@pytest.mark.parametrize(
    ("key", "days", "is_usual"),
    [("a", 1.0, True), ("a", 2.0, True), ("a", 0.0, True), ("a", 2.001, False), ("b", 1.0, False)],
)
def test_an_alert_that_comes_anyway_is_not_added(key, days, is_usual):
    """One on the same key within a day in the world without the scenario excuses it."""
    assert compare("B17", seen(("a", 1.0)), seen((key, days))).alerts == ([] if is_usual else ["a"])


@pytest.mark.parametrize(
    ("score", "days", "is_usual"),
    [(8.0, 1.0, True), (7.99, 1.0, False), (8.0, 2.0, True), (8.0, 2.001, False)],
)
def test_an_episode_that_only_the_cap_kept_quiet_is_not_added(score, days, is_usual):
    """It passes the alert's own threshold within a day in the world without the scenario."""
    (alert,) = alerts(("a", 1.0))
    alert = replace(alert, threshold=8.0)
    peak_us = BEGIN_US + round(days * DAY_US)
    quiet = replace(alert, score=score, peak_us=peak_us, alerted_us=None)
    with_it = replace(seen(), alerts=[alert])
    assert compare("B17", with_it, seen(quiet=(quiet,))).alerts == ([] if is_usual else ["a"])


def test_usual_notices_and_late_events_are_subtracted():
    """What both worlds have is not the scenario's; fewer notices than usual are none."""
    two, one = [(ABOUT_NOBODY, 0.5), (ABOUT_NOBODY, 1.0)], [(ABOUT_NOBODY, 2.0)]
    more = compare("B19", seen(*two, late=70), seen(*one, late=30))
    assert (more.notices, more.late, more.alerts) == (1, 40, [])
    assert compare("B19", seen(*one), seen(*two)).notices == 0


@pytest.mark.parametrize("scenario", [*SILENT, *ONE_NOTICE])
def test_a_promise_is_kept_or_not(scenario):
    """One notice at most, none where the promise is silence, and never an alert."""
    kept = [Verdict(scenario, 3, 0, [], n).is_good for n in range(3)]
    assert kept == [True, scenario in ONE_NOTICE, False]
    assert not Verdict(scenario, 3, 0, ["a"], 0).is_good


def test_one_failing_scenario_makes_the_exit_code(capsys):
    """The table says which one and on which keys; alone, the good one exits with 0."""
    good = Verdict("B01", 7, 0, [], 1)
    bad = Verdict("B18", 4, 1200, list("abcde"), 0)
    assert hard_negatives.report([good]) == 0
    capsys.readouterr()
    assert hard_negatives.report([good, bad]) == 1
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["B01", "7", "0", "0", "1", "good"]
    assert second.split() == ["B18", "4", "1,200", "5", "0", "FAILS", "a", "b", "c", "d"]


def test_a_world_knows_its_scenario():
    """Keys and span are those of the scenarios that were asked for, within the test period."""
    settings = WorldSettings(1, 30, 4, 2, attacks_per_scenario=0, benign=("B17", "L01a"))
    both = hard_negatives.run_world(settings, 5.0)
    alone = hard_negatives.run_world(replace(settings, benign=("B17",)), 5.0)
    assert len(both.keys) == 30, "a change of the log is everybody's"
    assert 0 < len(alone.keys) < 30
    assert settings.test_us <= alone.start_us < alone.end_us <= settings.end_us


def test_hard_negatives_on_a_tiny_fleet(capsys):
    """The command runs the world without, then each scenario asked for, and judges them."""
    assert hard_negatives.main([*TINY, "--only", "B17, L01a"]) == 0
    told = capsys.readouterr()
    assert told.err.splitlines() == ["running the world without", "running B17", "running L01a"]
    rows = [line.split() for line in told.out.splitlines()[1:]]
    assert [(r[0], r[5]) for r in rows] == [("B17", "good"), ("L01a", "good")]
    assert rows[1][1] == "30"


@pytest.mark.parametrize("name", ["L01", "B02", "b17", ""])
def test_a_scenario_without_a_promise_is_refused(name, capsys):
    """Nothing would be judged, which must not read as good."""
    with pytest.raises(SystemExit) as refused:
        hard_negatives.main([*TINY, "--only", f"B17,{name}"])
    assert refused.value.code == 2
    assert "promise" in capsys.readouterr().err


def times(*days: float) -> list[int]:
    return [START_US + round(d * DAY_US) for d in days]


def run(seed: int = 1, weeks: int = 4, shipped: list[int] | None = None, **alone: list[int]) -> Run:
    """A saved run; ``n10=[...]`` are times of the controller alone, and as shipped by default."""
    raised = {}
    for name, at in alone.items():
        n = float(name.removeprefix("n"))
        raised |= dict(zip((name_of(n, r) for r in RULES), (at, shipped or at), strict=True))
    return Run(seed, weeks, code_digest(), raised)


def steady(n: float, weeks: int, start: int = 0) -> list[int]:
    """So many a week, evenly, from the week ``start`` on."""
    return times(*(7 * start + 7 * i / n for i in range(round(n * (weeks - start)))))


def test_any_seven_days_are_a_week():
    """Not the calendar's: a burst over a Sunday counts whole, one exactly a week later not."""
    assert in_any_week(np.array(times(5, 6, 6.5, 7, 7.5, 8))) == 6
    assert in_any_week(np.array(times(7, 0))) == 1
    assert in_any_week(np.array([*times(0), times(7)[0] - 1])) == 2
    assert in_any_week(np.array([], np.int64)) == 0


def test_first_weeks_are_apart_and_the_rest_is_averaged():
    """Rates are over N, of all fleets; what comes after the last whole week is left out."""
    one = run(1, n10=times(0, *[8] * 4, *[15] * 8, *[22] * 12, *[28] * 99))
    other = run(2, n10=times(*[1] * 3, *[16] * 10, *[23] * 10))
    row, _ = rows_of([one, other], (10.0,), burn_in=2)
    assert (row.n, row.rule, row.fleet_weeks) == (10.0, "controller alone", 4)
    assert row.realised == pytest.approx((8 + 12 + 10 + 10) / 4 / 10)
    assert row.burn_in == pytest.approx([(1 + 3) / 2 / 10, (4 + 0) / 2 / 10])
    assert row.worst_week == 12 + 99, "the worst seven days may lie anywhere"


def test_the_worst_seven_days_are_one_fleets():
    """Alerts of two fleets do not add up, and those of the first weeks are not excused."""
    row, _ = rows_of([run(1, n10=times(1, 2)), run(2, n10=times(1, 2, 3))], (10.0,), burn_in=2)
    assert row.worst_week == 3


def test_every_budget_and_rule_has_a_row():
    """In the order asked for, each with the times of its own stage."""
    runs = [run(n5=steady(5, 4), n40=steady(40, 4), shipped=times(22))]
    rows = rows_of(runs, (40.0, 5.0), burn_in=2)
    assert [(r.n, r.rule) for r in rows] == [(n, rule) for n in (40.0, 5.0) for rule in RULES]
    assert [round(r.realised * r.n, 3) for r in rows] == [40, 0.5, 5, 0.5]


def test_hard_facts_do_not_count():
    """Alerts and notices are what a budget is about; each stage has decided all at the end."""
    world = World(WorldSettings(1, 30, 2, 1, attacks_per_scenario=0))
    fleet = calibration.Fleet(world, (5.0, 10.0))
    soft = candidate(START_US, "a", 30.0)
    hard = replace(candidate(START_US + 1, "b", 30.0, nats={"decoy": 30.0}), hard=True)
    for stage in fleet._stages.values():
        stage.start(START_US)
        stage.offer([soft, hard])
    fleet.finish()
    assert set(fleet.raised) == {name_of(n, rule) for n in (5.0, 10.0) for rule in RULES}
    assert [len(times) for times in fleet.raised.values()] == [1] * 4


@pytest.mark.parametrize(
    ("realised", "fleet_weeks", "is_good"),
    [
        (0.7, 10, True),
        (1.25, 10, True),
        (0.69, 10, False),
        (1.26, 10, False),
        (0.0, 9, True),
        (9.9, 9, True),
    ],
)
def test_the_mean_is_judged_once_there_are_enough_weeks(realised, fleet_weeks, is_good):
    """Of the controller alone; as shipped, a quiet fleet may hear less than N."""
    row = Row(10.0, "controller alone", fleet_weeks, realised, [], 12)
    assert row.is_good is is_good
    assert msgspec.structs.replace(row, rule="as shipped").is_good


@pytest.mark.parametrize(("n", "needed"), [(1, 100), (2, 100), (5, 40), (20, 10), (3, 100)])
def test_a_rare_budget_takes_more_weeks_to_judge(n, needed):
    """A target is missed from the stated number of fleet-weeks on; an unstated N takes 100."""
    found = [Row(n, "controller alone", w, 0.1, [], 0).is_good for w in (needed - 1, needed)]
    assert found == [True, False]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("n", "allowed"), [(1, 2), (2, 3), (5, 6), (10, 12), (40, 48)])
def test_the_worst_week_is_always_judged(n, allowed, rule):
    """1.2 N, rounded up, in any seven days: for both rules, however few weeks there are."""
    found = [Row(n, rule, 1, 1.0, [], w).is_good for w in (allowed, allowed + 1)]
    assert found == [True, False]


def save(folder: Path, *runs: Run, keys: int = 30) -> list[Path]:
    paths = [folder / f"seed-{r.seed}-{keys}.json" for r in runs]
    for path, one in zip(paths, runs, strict=True):
        path.write_bytes(msgspec.json.encode(one))
    return paths


def calibrate(folder: Path, *more: str, weeks: int = 12) -> int:
    fixed = ("--keys", "30", "--weeks", str(weeks), "-o", str(folder))
    return calibration.main([*fixed, *more])


@pytest.mark.parametrize(("rate", "code", "word"), [(10, 0, "good"), (5, 1, "misses")])
def test_finished_seeds_give_the_table_and_the_exit_code(tmp_path, capsys, rate, code, word):
    """Nothing is run again; as many seeds are read as the fleet-weeks need, no more."""
    one, other = (run(seed, weeks=12, n10=steady(rate, 12, 2)) for seed in (301, 302))
    save(tmp_path, one, other)
    (tmp_path / "seed-303-30.json").write_text("not to be read")
    asked = ("--n", "10", "--seeds", "301-303", "--fleet-weeks", "20")
    assert calibrate(tmp_path, *asked) == code
    told = capsys.readouterr()
    alone = f"| 10 | controller alone | 20 | {rate / 10:.2f} | 0.00, 0.00 | {rate} | 12 | {word} |"
    assert told.out.splitlines()[2:] == [
        alone,
        f"| 10 | as shipped | 20 | {rate / 10:.2f} | 0.00, 0.00 | {rate} | 12 | good |",
    ]
    assert told.err == ""


def test_an_old_run_is_used_and_said_to_be_old(tmp_path, capsys):
    """Figures of another version of the code never pass for those of this one in silence."""
    (path,) = save(tmp_path, run(7, weeks=12, n10=steady(10, 12)))
    path.write_bytes(path.read_bytes().replace(code_digest().encode(), b"0123456789abcdef"))
    assert calibrate(tmp_path, "--n", "10", "--seeds", "7") == 0
    assert capsys.readouterr().err == "seed 7 was run by another version of the code\n"


def test_a_seed_is_run_once_and_again_only_for_another_question(tmp_path, capsys):
    """Kept by seed and size; other budgets or a longer span are another question."""
    path = tmp_path / "seed-5-30.json"
    asked = ("--seeds", "5", "--burn-in", "1", "--fleet-weeks", "1")
    save(tmp_path, run(5, weeks=3, n1=[], n10=[]))
    assert calibrate(tmp_path, *asked, "--n", "1,10", weeks=2) == 0
    told = capsys.readouterr()
    assert told.err == "seed 5: 2 weeks of 30 keys\n"
    kept = path.read_bytes()
    found = msgspec.json.decode(kept, type=Run)
    assert (found.seed, found.weeks, found.code) == (5, 2, code_digest())
    assert set(found.raised) == {name_of(n, rule) for n in (1.0, 10.0) for rule in RULES}

    assert calibrate(tmp_path, *asked, "--n", "1,10", weeks=2) == 0
    again = capsys.readouterr()
    assert (again.out, again.err, path.read_bytes()) == (told.out, "", kept)
    assert calibrate(tmp_path, *asked, "--n", "10", weeks=2) == 0
    assert capsys.readouterr().err == "", "a part of what was asked before"
    assert calibrate(tmp_path, *asked, "--n", "20", weeks=2) == 0
    assert capsys.readouterr().err == "seed 5: 2 weeks of 30 keys\n"


# --- ramps --------------------------------------------------------------------------------------


def test_a_ramp_adds_the_keys_own_requests_and_keeps_the_order():
    """Nothing before it begins, (1 + growth) ^ day of the growing key's, others as they were."""
    settings = WorldSettings(seed=3, keys=30, days=40, quiet_days=28, attacks_per_scenario=0)
    world = World(settings)
    keys = KeyIndex(world.key_class)
    batches = [batch for batch, _ in world.batches()]
    before = EventBatch.concat(batches)
    busy = int(np.bincount(keys.of(before)[keys.of(before) >= 0]).argmax())
    growth_of = np.zeros(len(keys))
    growth_of[busy] = 0.1
    after = EventBatch.concat(list(ramps.Growth(growth_of, keys, 3).over(iter(batches))))
    assert (np.diff(after.ts_us) >= 0).all()

    def per_day(batch, mine: bool):
        kept = (keys.of(batch) == busy) == mine
        return np.bincount((batch.ts_us[kept] - START_US) // DAY_US, minlength=41)[:41]

    assert (per_day(after, mine=False) == per_day(before, mine=False)).all()
    ratio = per_day(after, mine=True)[:40] / per_day(before, mine=True)[:40]
    assert (ratio[:28] == 1.0).all()
    expected = 1.1 ** np.arange(1, 13)
    assert ratio[28:] == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize(
    ("reached", "alert", "is_good"),
    [(2.9, None, True), (4.3, None, False), (4.3, 2.99, True), (4.3, 3.0, False)],
)
def test_a_ramp_is_to_be_alerted_before_it_has_tripled(reached, alert, is_good):
    """One that never triples need not be; a recommendation to throttle is not an alert."""
    ramp = ramps.Ramp(0.05, reached, alert, throttle=1.5)
    assert ramp.is_good == is_good


def test_ramps_report_what_was_said_and_exit_with_the_verdict(monkeypatch, capsys):
    """A line a rate; 1 where one misses."""
    four = [ramps.Ramp(g, 1 + 40 * g, 1.2 if g < 0.1 else None, 2.0) for g in ramps.GROWTHS]
    monkeypatch.setattr(ramps, "run_seed", lambda settings, per_week: four)
    assert ramps.main(["--seeds", "1-2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| 1% | 2 | 1.4x | 2 | 2 | 1.2x | 2 | good |"
    assert lines[5] == "| 10% | 2 | 5.0x | 0 | 0 | - | 2 | misses |"
