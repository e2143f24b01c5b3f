"""Many worlds, one after the other: what is finished stays, what is missing is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from detector.core.errors import UsageError
from replay.evaluation import store, table
from replay.evaluation.record import Result
from replay.evaluation.run import Plan, Say, run_world
from replay.simulate.world import World
from replay.simulate.world_settings import WorldSettings

TABLES_FILE = "tables.md"


def sweep(
    out: Path,
    settings: WorldSettings,
    seeds: Iterable[int],
    plan: Plan,
    *,
    again: bool = False,
    say: Say = lambda _: None,
    make_world: Callable[[WorldSettings], World] = World,
) -> str:
    """Evaluates the plan's methods on a world per seed; returns the tables, also in ``out``.

    A method whose result for exactly such a world lies in ``out`` is not run again, unless
    ``again``. A result file is written as soon as its world is done. Raises ``UsageError``.
    """
    worlds = [replace(settings, seed=seed) for seed in seeds]
    todo = {w.seed: list(plan.methods) for w in worlds}
    if not again:
        days = plan.feedback_days
        todo = {w.seed: store.missing(out, plan.methods, w, days)[1] for w in worlds}
    began_s, done, n_todo = time.perf_counter(), 0, sum(bool(m) for m in todo.values())
    for world in worlds:
        if not todo[world.seed]:
            say(f"seed {world.seed}: already there")
            continue
        methods = tuple(todo[world.seed])
        store.save(out, run_world(make_world(world), replace(plan, methods=methods), say))
        done += 1
        per_world_s = (time.perf_counter() - began_s) / done
        left_min = per_world_s * (n_todo - done) / 60
        say(f"seed {world.seed}: done; {n_todo - done} to go, about {left_min:.0f} min")
    text = table.render(stored(out, worlds, plan))
    _write(out / TABLES_FILE, text)
    return text


def stored(out: Path, worlds: Iterable[WorldSettings], plan: Plan) -> list[Result]:
    """The plan's results that lie in ``out`` for exactly these worlds."""
    days = plan.feedback_days
    return [r for w in worlds for r in store.missing(out, plan.methods, w, days)[0]]


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise UsageError(f"cannot write to {path}: {e.strerror}") from e
