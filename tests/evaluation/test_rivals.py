"""The rivals find what they are made to find, and compute what their formulas say."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from river import anomaly
from scipy import stats

from detector.core.events import AUTH_FAILED, EventBatch
from models.clock import CELL_US, DAY_US
from replay.evaluation.rivals import ALL, WindowTable, forest, learners, seasonal, volume
from tests.core.logs import START_US, batch_of, fleet_log

HOUR_US = 3_600_000_000
ROUTE = "GET /v1/things"


def table_of(*batches: EventBatch) -> WindowTable:
    table = WindowTable()
    for batch in batches:
        table.observe(batch)
    return table


def rows_of(batch: EventBatch):
    """(key text, ts_us, cell, network, block, client, route, status) of every event that counts."""
    for i in range(len(batch)):
        wide = int(batch.key_hi[i]) << 64 | int(batch.key_lo[i])
        if wide and batch.auth[i] != AUTH_FAILED and batch.status[i] != 401:
            ts_us = int(batch.ts_us[i])
            values = (int(getattr(batch, c)[i]) for c in ("network", "block", "client", "route"))
            yield batch.names.keys[wide].text, ts_us, ts_us // CELL_US, *values, batch.status[i]


def steady(days: float, key: str = "k", network: str = "10.0.0", every_s: int = 300):
    """A key that asks every ``every_s`` seconds, from one place with one client."""
    n = int(days * 86_400 / every_s)
    return [(START_US + i * every_s * 10**6, key, network, "sdk/1", ROUTE, 200) for i in range(n)]


def burst(at_us: int, n: int, key: str = "k", network: str = "198.51.100", client: str = "curl/8"):
    return [(at_us + i * 10**6, key, network, client, ROUTE, 200) for i in range(n)]


@pytest.fixture(scope="module")
def busy() -> EventBatch:
    """Nine days of twelve keys; key0 is stolen and key1 probed in the last two hours."""
    return fleet_log(5, hours=220)


@pytest.fixture(scope="module")
def busy_table(busy) -> WindowTable:
    return table_of(busy)


def windows_in_plain_python(batch: EventBatch) -> dict:
    seen, out = set(), defaultdict(lambda: [0] * 6)
    for key, _, cell, network, block, client, route, status in rows_of(batch):
        window = out[key, cell]
        window[0] += 1
        window[1] += 400 <= status < 500
        for place, value in enumerate((network, block, client, route), 2):
            window[place] += (key, place, value) not in seen
            seen.add((key, place, value))
    return dict(out)


def windows_of(table: WindowTable) -> dict:
    names = ("count", "errors", "new_networks", "new_blocks", "new_clients", "new_routes")
    return {
        (table.keys[w["key"]], int(w["cell"])): [int(w[n]) for n in names] for w in table.windows
    }


class TestWindowTable:
    def test_equals_counting_in_plain_python(self, busy, busy_table):
        """Counts, errors and first-seen values per window are those of a dictionary and a set."""
        assert windows_of(busy_table) == windows_in_plain_python(busy)

    def test_grows(self):
        """2,000 keys and 40,000 values, far more than the first room, are all told apart."""
        rng = np.random.default_rng(3)
        rows = [
            (
                START_US + i * 20_000_000,
                f"key{rng.integers(2000)}",
                f"{rng.integers(1, 200)}.{rng.integers(4)}.{rng.integers(4)}",
                f"c/{rng.integers(9)}",
                f"GET /r{rng.integers(20)}",
                200,
            )
            for i in range(15_000)
        ]
        batch = batch_of(rows)
        table = table_of(batch)
        assert windows_of(table) == windows_in_plain_python(batch)
        assert len(table.keys) == len(set(table.keys)) == len({row[1] for row in rows})

    def test_keys_are_numbered_as_they_appear(self):
        """Position in ``keys`` is the order of first appearance."""
        rows = [(START_US + i, key, "10.0.0", "c/1", ROUTE, 200) for i, key in enumerate("bacab")]
        assert table_of(batch_of(rows)).keys == ["b", "a", "c"]

    def test_late_events_count_in_their_own_window(self):
        """Events in any order give the windows of the sorted log."""
        rows = steady(0.5)
        mixed = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
        assert (
            windows_of(table_of(batch_of(mixed))).keys()
            == windows_of(table_of(batch_of(rows))).keys()
        )
        w = table_of(batch_of(mixed)).windows
        assert np.all(np.diff(w["cell"]) == 1)
        assert np.all(w["count"] == 3)

    def test_failed_authentication_and_missing_keys_are_left_out(self):
        """Neither makes a window or a key."""
        batch = batch_of(
            [
                (START_US, "", "10.0.0", "c/1", ROUTE, 200),
                (START_US, "a", "10.0.0", "c/1", ROUTE, 401),
                (START_US, "b", "10.0.0", "c/1", ROUTE, 200),
                (START_US, "c", "10.0.0", "c/1", ROUTE, 200),
            ]
        )
        batch.auth[2] = AUTH_FAILED
        assert table_of(batch).keys == ["c"]

    def test_the_cut_into_batches_does_not_matter(self, busy, busy_table):
        """Windows and event-level series are equal, bit by bit, for random cuts."""
        rng = np.random.default_rng(8)
        cuts = np.sort(rng.choice(len(busy), 40, replace=False))
        bounds = zip([0, *cuts], [*cuts, len(busy)], strict=True)
        other = table_of(*(busy.take(slice(a, b)) for a, b in bounds))
        assert other.keys == busy_table.keys
        same = ["key", "cell", "count", "new_routes", "risk_nats"]
        assert np.array_equal(other.windows[same], busy_table.windows[same])
        for kind in ("network_notes", "source_notes", "risk_notes"):
            one, two = other.notes(kind, 0.0), busy_table.notes(kind, 0.0)
            assert np.array_equal(one.ts_us, two.ts_us)
            assert np.array_equal(one.score, two.score)

    def test_hours_have_no_holes(self):
        """Silent hours between a key's first and last are zeros."""
        rows = [*burst(START_US, 5), *burst(START_US + 4 * HOUR_US, 7), *burst(START_US, 2, "j")]
        one, two = table_of(batch_of(rows)).hours(("count", "new_clients"))
        assert one[:2] == (0, START_US // HOUR_US)
        assert one[2].tolist() == [[5, 1], [0, 0], [0, 0], [0, 0], [7, 0]]
        assert two[2].tolist() == [[2, 1]]


class TestAll:
    @pytest.mark.parametrize("name", ALL)
    def test_sorted_finite_and_repeatable(self, name, busy_table):
        """Each rival's rows are sorted by (key, time), finite, and the same a second time."""
        one, two = ALL[name](busy_table), ALL[name](busy_table)
        assert (one.key.dtype, one.ts_us.dtype, one.score.dtype) == (np.int32, np.int64, np.float64)
        assert np.all(np.isfinite(one.score))
        assert np.array_equal(np.lexsort((one.ts_us, one.key)), np.arange(len(one.key)))
        for field in ("key", "ts_us", "score"):
            assert np.array_equal(getattr(one, field), getattr(two, field))

    @pytest.mark.parametrize("name", ALL)
    def test_nothing_to_say_about_nothing(self, name):
        """A log of one request, and one of a key in its first day, raise nothing and no error."""
        assert len(ALL[name](table_of(batch_of(steady(0.01)[:1]))).key) == 0
        assert len(ALL[name](table_of(batch_of(steady(0.9)))).key) == 0

    @pytest.mark.parametrize("name", ALL)
    def test_a_flood_from_a_new_place_with_a_new_client_is_the_fleets_worst(
        self, name, monkeypatch
    ):
        """What every rival should see, each sees: the top score is the victim's, in the attack."""
        monkeypatch.setattr(learners, "HST_WINDOW", 500)
        at_us = START_US + 8 * DAY_US
        rows = [row for i in range(8) for row in steady(9, f"k{i}", f"10.{i}.0", 170 + 40 * i)]
        rows += [row for i in range(600) for row in burst(at_us + i * 10**6, 5, "k3")]
        series = ALL[name](table := table_of(batch_of(sorted(rows))))
        top = int(np.argmax(series.score))
        assert table.keys[series.key[top]] == "k3"
        assert at_us <= series.ts_us[top] <= at_us + HOUR_US


class TestRules:
    def test_requests_from_a_new_network_are_counted_one_by_one(self):
        """Scores 2, 3, 4 ... at the very requests, for 24 hours; the network of old is silent."""
        at_us = START_US + 3 * DAY_US
        rows = [*steady(5), *burst(at_us, 20), *burst(at_us + 25 * HOUR_US, 20)]
        series = ALL["first-seen network"](table_of(batch_of(sorted(rows))))
        assert series.score.tolist() == list(range(2, 21))
        assert series.ts_us.tolist() == [at_us + i * 10**6 for i in range(1, 20)]

    def test_a_key_learns_for_a_day(self):
        """A network that comes half a day after the key is no news."""
        rows = [*steady(3), *burst(START_US + DAY_US // 2, 20)]
        assert len(ALL["first-seen network"](table_of(batch_of(sorted(rows)))).key) == 0

    def test_large_counts_are_told_in_sixteenths(self):
        """The last count told is less than a sixteenth below the true one."""
        rows = [*steady(3), *burst(START_US + 2 * DAY_US, 1000)]
        score = ALL["first-seen network"](table_of(batch_of(sorted(rows)))).score
        assert 1000 * 15 / 16 < score[-1] <= 1000
        assert np.max(np.diff(score)) <= 1000 / 16

    def test_block_and_client_must_both_be_new(self):
        """A new client at home or the usual client elsewhere says nothing; both together do."""
        at_us = START_US + 3 * DAY_US
        home = burst(at_us, 9, network="10.0.0", client="curl/8")
        elsewhere = burst(at_us, 9, network="203.0.113", client="sdk/1")
        neighbour = burst(at_us, 9, network="10.0.77", client="wget/1")
        for quiet in (home, elsewhere, neighbour):
            series = ALL["first-seen block + client"](table_of(batch_of(sorted(steady(4) + quiet))))
            assert len(series.key) == 0
        both = burst(at_us, 9, network="203.0.113", client="curl/8")
        series = ALL["first-seen block + client"](table_of(batch_of(sorted(steady(4) + both))))
        assert series.score.tolist() == list(range(1, 10))

    def test_a_thief_who_changes_address_is_counted_whole(self):
        """Ten requests from ten new blocks with one new client score 10."""
        at_us = START_US + 3 * DAY_US
        rows = [r for i in range(10) for r in burst(at_us + i * 10**6, 1, "k", f"203.{i}.9")]
        series = ALL["first-seen block + client"](table_of(batch_of(sorted(steady(4) + rows))))
        assert series.score.max() == 10

    def test_risk_of_a_visit_equals_the_formula_in_plain_python(self):
        """The highest risk per window is that of Freeman's product over dictionaries."""
        rng = np.random.default_rng(6)
        batch = batch_of(
            [
                (
                    START_US + i * 100_000_000,
                    f"k{rng.geometric(0.3)}",
                    f"10.{rng.geometric(0.5)}.{rng.geometric(0.3)}",
                    f"c/{rng.geometric(0.4)}",
                    ROUTE,
                    200,
                )
                for i in range(3000)
            ]
        )
        table = table_of(batch)
        series = ALL["access risk (Freeman)"](table)
        assert len(series.key) > 100
        assert {
            (table.keys[k], int(t)): pytest.approx(s, rel=1e-9)
            for k, t, s in zip(series.key, series.ts_us, series.score, strict=True)
        } == risks_in_plain_python(batch)


def risks_in_plain_python(batch: EventBatch) -> dict:
    everyone, own, visits, last, worst, out = Counter(), Counter(), Counter(), {}, {}, {}
    for key, ts_us, cell, network, block, client, _, _ in rows_of(batch):
        source = key, network, client
        if last.get(source) == cell:
            continue
        last[source] = cell
        visits.setdefault(key, 0)
        total, n = sum(visits.values()), visits[key]
        if n:
            unseen = 1 + sum(1 for kind, _ in everyone if kind == "block")
            network_share = smoothed(everyone["network", network], total, unseen)
            share = 2 / 3 * network_share + everyone["block", block] / total / 3
            mine = (2 / 3 * own[key, "network", network] + own[key, "block", block] / 3) / n
            risk = share / (mine or min(1 / (n + 1), share / 4))
            share = smoothed(everyone["client", client], total, 1)
            mine = own[key, "client", client] / n
            risk *= share / (mine or min(1 / (n + 1), share / 4))
            risk *= ((1 / len(visits)) / (n / total)) ** 0.1
            if math.log(risk) > worst.get((key, cell), 0):
                worst[key, cell] = out[key, ts_us] = math.log(risk)
        for kind, value in (("network", network), ("block", block), ("client", client)):
            everyone[kind, value] += 1
            own[key, kind, value] += 1
        visits[key] += 1
    return out


def smoothed(count: int, total: int, unseen: int) -> float:
    return count / total * (1 - unseen / (total + unseen)) if count else 1 / (total + unseen)


class TestVolume:
    def test_sigmas_equal_plain_python(self, busy_table):
        """The control chart is the textbook recursion over every cell, silent ones too."""
        score = volume.sigmas(busy_table, "count", 0.3)
        counts = {(int(w["key"]), int(w["cell"])): int(w["count"]) for w in busy_table.windows}
        weight, checked = volume.EWMA_WEIGHT, 0
        for key in range(len(busy_table.keys)):
            cells = sorted(c for k, c in counts if k == key)
            mean, variance = math.log1p(counts[key, cells[0]]), 0.0
            for cell in range(cells[0] + 1, cells[-1] + 1):
                off = math.log1p(counts.get((key, cell), 0)) - mean
                if (key, cell) in counts and cell - cells[0] >= 96:
                    at = np.flatnonzero(
                        (busy_table.windows["key"] == key) & (busy_table.windows["cell"] == cell)
                    )[0]
                    assert score[at] == pytest.approx(off / max(math.sqrt(variance), 0.3))
                    checked += 1
                mean += weight * off
                variance = (1 - weight) * (variance + weight * off**2)
        assert checked > 1000

    def test_count_is_the_count_at_the_end_of_its_window(self):
        """No window is told of before it is over."""
        series = ALL["count threshold"](table_of(batch_of(burst(START_US, 50))))
        assert series.score.tolist() == [50.0]
        assert series.ts_us.tolist() == [START_US + CELL_US]


class TestLearners:
    def test_gaussian_scorer_is_rivers(self, busy_table):
        """2 Phi(z) - 1 is what River's scorer says of that hour, where sigma is above the floor."""
        series = ALL["River GaussianScorer"](busy_table)
        assert len(series.key) > 5
        said = {}
        for number, first_hour, counts in busy_table.hours(("count",)):
            scorer = anomaly.GaussianScorer(window_size=336)
            for hour, count in enumerate(counts[:, 0].tolist(), first_hour + 1):
                sigma = scorer.gaussian.sigma
                if not isinstance(sigma, complex) and sigma >= 0.3 and count > scorer.gaussian.mu:
                    said[number, hour * HOUR_US] = scorer.score_one(None, count)
                scorer.learn_one(None, count)
        rows = zip(series.key.tolist(), series.ts_us.tolist(), series.score, strict=True)
        told = {(key, ts_us): z for key, ts_us, z in rows}
        for at, river in said.items():
            assert (at in told) == (river > 2 * stats.norm.cdf(3) - 1)
            assert at not in told or 2 * stats.norm.cdf(told[at]) - 1 == pytest.approx(river)

    def test_gaussian_scorer_survives_rivers_complex_sigma(self):
        """Sparse counts whose rolling variance rounds below zero still give finite scores."""
        counts = {0: 100, 7: 333, 600: 2}
        scorer = anomaly.GaussianScorer(window_size=336)
        for hour in range(600):
            scorer.learn_one(None, counts.get(hour, 0))
        assert isinstance(scorer.gaussian.sigma, complex)
        rows = [r for hour, n in counts.items() for r in burst(START_US + hour * HOUR_US, n)]
        series = ALL["River GaussianScorer"](table_of(batch_of(rows)))
        assert series.ts_us.tolist() == [START_US + 601 * HOUR_US]
        assert series.score.tolist() == [pytest.approx(2 / learners.GAUSSIAN_SIGMA_MIN)]

    def test_half_space_trees_are_rivers(self, busy_table, monkeypatch):
        """A row's score is what the model says when fed the windows in order of time."""
        monkeypatch.setattr(learners, "HST_WINDOW", 200)
        series = ALL["River HalfSpaceTrees"](busy_table)
        features = learners.HST_FEATURES
        columns = [volume.sigmas(busy_table, f, learners.HST_SIGMA_MIN) for f in features]
        model = anomaly.HalfSpaceTrees(
            learners.HST_TREES, learners.HST_HEIGHT, 200, seed=learners.HST_SEED
        )
        said = {}
        w = busy_table.windows
        in_time = sorted(range(len(w)), key=lambda i: (w["cell"][i], w["key"][i]))
        for n, i in enumerate(in_time):
            squeezed = (math.log1p(max(c[i], 0)) / learners.HST_RANGE for c in columns)
            x = {f: min(v, 1) for f, v in zip(features, squeezed, strict=True)}
            if max(c[i] for c in columns) > 1:
                at = int(w["key"][i]), (int(w["cell"][i]) + 1) * CELL_US
                said[at] = model.score_one(x)
            if n % learners.HST_LEARN_EVERY == 0:
                model.learn_one(x)
        rows = zip(series.key.tolist(), series.ts_us.tolist(), series.score, strict=True)
        assert len(series.key) > 100
        assert {(k, t): s for k, t, s in rows} == {at: s for at, s in said.items() if s > 0}


def codisp_of_last(points: np.ndarray, rng: np.random.Generator) -> float:
    """Collusive displacement of the last point in a tree drawn by Guha's definition 1."""
    most, me = 0.0, points[-1]
    while np.any(points.min(axis=0) < points.max(axis=0)):
        low, high = points.min(axis=0), points.max(axis=0)
        axis = rng.choice(points.shape[1], p=(high - low) / (high - low).sum())
        is_left = points[:, axis] <= rng.uniform(low[axis], high[axis])
        beside = is_left != is_left[-1]
        most = max(most, beside.sum() / (~beside).sum())
        points = points[~beside]
    assert np.all(points == me)
    return most


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """90 points in three dimensions, on a grid so that some repeat, one of them far out."""
    rng = np.random.default_rng(4)
    points = rng.normal(size=(90, 3)).round()
    points[80:84] = points[79]
    points[60] = 9, 9, 9
    return points


class TestForest:
    def test_streaming_trees_are_drawn_like_fresh_ones(self, points):
        """Mean displacement of a point that has just come is that of trees cut from scratch."""
        score = np.zeros(90)
        room = forest.make_tree(40, 3)
        forest.displacements(room, points, np.array([0, 90]), 3000, 1, score)
        rng = np.random.default_rng(0)
        for i in (25, 60, 75, 83, 89):  # before and after the tree is full, outlier, repeated
            seen = points[max(0, i - 39) : i + 1]
            fresh = [codisp_of_last(seen, rng) for _ in range(3000)]
            error = np.std(fresh) * math.sqrt(2 / 3000)
            assert abs(score[i] - np.mean(fresh)) < 4 * error + 1e-9

    def test_the_outlier_leads(self, points):
        """The point far out has the highest displacement of all."""
        score = np.zeros(90)
        room = forest.make_tree(40, 3)
        forest.displacements(room, points, np.array([0, 90]), 40, 1, score)
        assert np.argmax(score[10:]) == 50

    def test_streams_do_not_touch(self, points):
        """A stream's scores do not depend on the points of another one."""
        one, two = np.zeros(90), np.zeros(90)
        other = points.copy()
        other[50:] += 3
        starts = np.array([0, 50, 90])
        forest.displacements(forest.make_tree(30, 3), points, starts, 10, 2, one)
        forest.displacements(forest.make_tree(30, 3), other, starts, 10, 2, two)
        assert np.array_equal(one[:50], two[:50])

    def test_a_stream_of_one_value_is_calm(self):
        """All points equal: one leaf, no displacement, whatever is forgotten."""
        score = np.zeros(100)
        forest.displacements(
            forest.make_tree(8, 2), np.ones((100, 2)), np.array([0, 100]), 5, 1, score
        )
        assert not score.any()


class TestSeasonal:
    @pytest.mark.parametrize("x", [3, 11, 60, 900, 40_000])
    @pytest.mark.parametrize("mean", [0.02, 2.0, 10.0, 800.0])
    @pytest.mark.parametrize("phi", [0.02, 0.6, 8.0])
    def test_tail_is_the_negative_binomials(self, x, mean, phi):
        """-log P(X >= x) as SciPy has it, wherever x is above the mean."""
        if x <= mean:
            assert seasonal.tail_nats(mean + 1, mean, phi) > 0
            return
        terms = stats.nbinom.logpmf(np.arange(x, x + 300_000), 1 / phi, 1 / (1 + phi * mean))
        expected = -np.logaddexp.reduce(terms)
        assert seasonal.tail_nats(x, mean, phi) == pytest.approx(expected, rel=1e-6, abs=1e-9)

    def test_the_same_count_is_unusual_at_night_only(self):
        """A key that works by day is unusual when it does so at three in the morning."""
        rng = np.random.default_rng(2)
        rows = []
        for hour in range(24 * 15):
            n = int(rng.poisson(40 if 8 <= hour % 24 < 18 else 0.2))
            rows += burst(START_US + hour * HOUR_US, n, network="10.0.0", client="sdk/1")
        at_us = START_US + 14 * DAY_US
        noon, night = at_us + 12 * HOUR_US, at_us + 3 * HOUR_US
        rows += burst(night, 400, network="10.0.0", client="sdk/1")
        rows += burst(noon, 400, network="10.0.0", client="sdk/1")
        w = (table := table_of(batch_of(sorted(rows)))).windows
        score = np.zeros(len(w))
        seasonal.count_nats(w["key"], w["cell"], w["count"], score)
        by_night = score[w["cell"] == night // CELL_US]
        by_day = score[w["cell"] == noon // CELL_US]
        assert by_night > 2 * by_day > 0
        series = ALL["seasonal + rare"](table)
        assert series.score.max() == pytest.approx(seasonal.COUNT_TEMPER * by_night[0])
        assert series.ts_us[np.argmax(series.score)] == night + CELL_US

    def test_rare_is_priced_by_how_often_news_came(self):
        """A new network says much of a key with one, little of a key with a new one an hour."""
        at_us = START_US + 6 * DAY_US
        fixed = table_of(batch_of(sorted(steady(7) + burst(at_us, 1, client="sdk/1"))))
        before = int(np.sum(fixed.windows["cell"] < at_us // CELL_US))
        series = ALL["seasonal + rare"](fixed)
        assert series.score.tolist() == [pytest.approx(math.log((before + 2) / 2))]
        roaming = [(*r[:2], f"10.{i // 12}.1", *r[3:]) for i, r in enumerate(steady(7))]
        assert len(ALL["seasonal + rare"](table_of(batch_of(roaming))).key) == 0

    def test_rare_nats_equal_plain_python(self, busy_table):
        """Per window with something new: (windows that had it + 1) / (windows + 2) so far."""
        nats = seasonal.rare_nats(busy_table, "new_routes")
        seen, windows = Counter(), Counter()
        for w, value in zip(busy_table.windows, nats, strict=True):
            key, is_new = int(w["key"]), w["new_routes"] > 0
            priced = is_new and windows[key] >= 20
            expected = -math.log((seen[key] + 1) / (windows[key] + 2)) if priced else 0.0
            assert value == pytest.approx(expected)
            seen[key] += is_new
            windows[key] += 1
        assert np.sum(nats > 0) > 2
