"""Results as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from replay.evaluation import measures
from replay.evaluation.measures import Measures, Pick
from replay.evaluation.record import PRECISION_AT, AttackRow, Result

OURS = "ours"
DETAIL = 10.0  # the budget at which methods are compared scenario by scenario
BUDGET_NOTE = (
    "Budgets are false alerts per week over the whole fleet; per 1,000 key-weeks they are {0}."
    " Thresholds are set per world so that each method just keeps to the budget; what the running"
    " service keeps to is below."
)

Methods = dict[str, list[Result]]
Cells = Sequence[object]


def render(results: Iterable[Result]) -> str:
    """All tables about the given results, methods in order of first appearance."""
    methods: Methods = {}
    for result in results:
        methods.setdefault(result.method, []).append(result)
    if not methods:
        return "No results.\n"
    budgets = sorted({b.per_week for rs in methods.values() for r in rs for b in r.budgets})
    main = OURS if OURS in methods else next(iter(methods))
    parts = [_head(methods, budgets), _recall(methods, budgets), _differences(methods, budgets)]
    parts += [_detail(methods, n) for n in budgets]
    parts += [_groups(methods, "Recall by scenario", lambda a: a.scenario)]
    parts += [_groups(methods, "Recall by rate against the key's own", measures.size_of)]
    parts += [_own_groups(main, methods[main], budgets)]
    parts += [_false(main, methods[main], budgets), _online(methods), _throttle(methods)]
    return "\n".join(p for p in parts if p)


def _head(methods: Methods, budgets: Sequence[float]) -> str:
    first = next(iter(methods.values()))
    world, seeds = first[0].world, sorted({r.seed for rs in methods.values() for r in rs})
    weeks, events = sum(r.weeks for r in first), sum(r.events for r in first)
    about = (
        f"Seeds {', '.join(map(str, seeds))}. A world: {world['keys']:,} keys, {world['days']}"
        f" days of which the first {world['quiet_days']} without attacks. In all"
        f" {events / 1e6:,.1f} M events, {weeks:.1f} fleet-weeks of test,"
        f" {sum(len(r.attacks) for r in first):,} attacks."
    )
    rates = ", ".join(f"{1000 * n / world['keys']:g}" for n in budgets)
    note = BUDGET_NOTE.format(rates)
    lines = ["# Detection at a stated budget of false alerts", "", about, note]
    codes = {r.code for rs in methods.values() for r in rs}
    if len(codes) > 1:
        lines.append(f"Made by {len(codes)} different versions of the code.")
    ragged = [m for m, rs in methods.items() if {r.seed for r in rs} != set(seeds)]
    if ragged:
        lines.append(f"Not run on every seed: {', '.join(ragged)}.")
    return "\n".join(lines) + "\n"


def _recall(methods: Methods, budgets: Sequence[float]) -> str:
    rows = []
    for name, results in methods.items():
        cells: list[object] = [name]
        for n in budgets:
            m = measures.measure(results, measures.at_budget(n))
            cells += [_interval(m.recall, m.low, m.high), _share(m.macro)]
        rows.append(cells)
    heads = ["method"]
    for n in budgets:
        heads += [f"{n:g}/week", "macro"]
    return _table("Recall", heads, rows)


def _differences(methods: Methods, budgets: Sequence[float]) -> str:
    if OURS not in methods or len(methods) < 2:
        return ""
    rows = []
    for name, results in methods.items():
        gaps = [measures.difference(methods[OURS], results, measures.at_budget(n)) for n in budgets]
        if name != OURS:
            rows.append([name, *(_gap(gap) for gap in gaps)])
    heads = ["ours less", *(f"{n:g}/week" for n in budgets)]
    return _table("Difference in recall on the same attacks", heads, rows)


def _detail(methods: Methods, per_week: float) -> str:
    heads = ["method", *_MEASURES, *(f"precision@{k}" for k in PRECISION_AT)]
    rows = []
    for name, results in methods.items():
        m = measures.measure(results, measures.at_budget(per_week))
        precise = [_share(measures.precision(results, k)) for k in PRECISION_AT]
        rows.append([name, *_measured(m), *precise])
    return _table(f"At {per_week:g} false alerts per week", heads, rows)


_MEASURES = (
    "recall",
    "leaked share",
    "of all requests",
    "bytes share",
    "median leaked",
    "p90",
    "median delay",
    "cause named",
    "network right",
    "false/week",
)


def _measured(m: Measures) -> list[str]:
    return [
        _share(m.recall),
        _share(m.leaked_share),
        _share(m.leaked_of_all),
        _share(m.bytes_share),
        _count(m.leaked_median),
        _count(m.leaked_p90),
        _span(m.delay_median_s),
        _share(m.cause),
        _share(m.network),
        f"{m.false_per_week:.1f}",
    ]


def _groups(methods: Methods, title: str, group: Callable[[AttackRow], str]) -> str:
    by_method = {
        name: measures.recall_by(results, measures.at_budget(DETAIL), group)
        for name, results in methods.items()
    }
    groups = sorted({g for found in by_method.values() for g in found}, key=_size_first)
    rows = [[g, *(_fraction(found.get(g)) for found in by_method.values())] for g in groups]
    return _table(f"{title} at {DETAIL:g} per week", ["", *by_method], rows)


def _own_groups(name: str, results: Sequence[Result], budgets: Sequence[float]) -> str:
    picks: dict[str, Pick] = {f"{n:g}/week": measures.at_budget(n) for n in budgets}
    picks["throttle"] = measures.throttled
    found = {
        head: measures.recall_by(results, pick, lambda a: a.scenario)
        for head, pick in picks.items()
    }
    scenarios = sorted({s for by in found.values() for s in by})
    rows = [[s, *(_fraction(by.get(s)) for by in found.values())] for s in scenarios]
    return _table(f"Recall by scenario: {name}", ["", *found], rows)


def _false(name: str, results: Sequence[Result], budgets: Sequence[float]) -> str:
    picks = [measures.at_budget(n) for n in budgets]
    heads = [f"{n:g}/week" for n in budgets]
    classes = [measures.false_by_class(results, pick) for pick in picks]
    rows: list[Cells] = []
    for c in sorted({c for found in classes for c in found}):
        counts = [found.get(c, (0, 0.0)) for found in classes]
        rows.append([c, *(f"{n} ({rate:.2f})" for n, rate in counts)])
    title = f"False alerts by class of key (per 1,000 key-weeks): {name}"
    text = _table(title, ["class", *heads], rows)
    on = [measures.false_by_happening(results, pick) for pick in picks]
    rows = []
    for s in sorted({s for found in on for s in found}):
        both = [found.get(s, (0, 0)) for found in on]
        rows.append([s, max(times for _, times in both), *(n for n, _ in both)])
    title = f"False alerts on benign happenings: {name}"
    text += "\n" + _table(title, ["happening", "times", *heads], rows)
    why = [measures.false_by_reason(results, pick) for pick in picks]
    rows = [[s, *(found.get(s, 0) for found in why)] for s in why[-1]]
    title = f"False alerts by strongest reason: {name}"
    return text + "\n" + _table(title, ["reason", *heads], rows)


def _online(methods: Methods) -> str:
    rows = []
    for name, results in methods.items():
        for n in sorted({b.per_week for r in results for b in r.online}):
            m = measures.measure(results, measures.online_at(n))
            kept = f"{m.false_per_week / n:.2f}"
            rows.append(
                [name, f"{n:g}", f"{m.false_per_week:.1f}", kept, m.worst_week, *_measured(m)[:-1]]
            )
    heads = ["method", "stated", "realised", "ratio", "worst week", *_MEASURES[:-1]]
    if not rows:
        return ""
    days = sorted({r.feedback_days for results in methods.values() for r in results if r.online})
    answered = " and ".join("no verdicts" if d == 0 else f"verdicts {d:g} days later" for d in days)
    return _table(f"Alerts really raised, by stated budget ({answered})", heads, rows)


def _throttle(methods: Methods) -> str:
    rows = []
    for name, results in methods.items():
        picks: dict[str, Pick] = {"throttle alone": measures.throttled}
        picks[f"with alerts at {DETAIL:g}/week"] = measures.with_throttle(DETAIL)
        for what, pick in picks.items():
            m = measures.measure(results, pick)
            if m.attacks:
                rows.append([name, what, *_measured(m)])
    return _table("The throttle channel", ["method", "", *_MEASURES], rows) if rows else ""


def _table(title: str, heads: Cells, rows: Iterable[Cells]) -> str:
    lines = [f"## {title}", "", _line(heads), _line(["---"] * len(heads))]
    return "\n".join([*lines, *(_line(row) for row in rows)]) + "\n"


def _line(cells: Cells) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |"


def _size_first(name: str) -> tuple[int, str]:
    known = measures.SIZE_NAMES
    return (known.index(name) if name in known else 0), name


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ({low:.2f} to {high:.2f})"


def _gap(gap: tuple[float, float, float] | None) -> str:
    return "-" if gap is None else f"{gap[0]:+.2f} ({gap[1]:+.2f} to {gap[2]:+.2f})"


def _fraction(pair: tuple[int, int] | None) -> str:
    return "-" if pair is None else f"{pair[0]}/{pair[1]}"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
