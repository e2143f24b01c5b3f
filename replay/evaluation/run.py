"""One pass over a world feeds every method; then each is judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from detector.core.errors import UsageError
from detector.core.events import EventBatch
from detector.core.registry import KeyRegistry
from detector.core.settings import ShardSettings
from replay.evaluation import ours, rivals
from replay.evaluation.feedback import Feedback
from replay.evaluation.keys import KeyIndex
from replay.evaluation.points import points_of_series
from replay.evaluation.record import BUDGETS, About, Answer, Result, Rules, result_of
from replay.evaluation.rivals.windows import WindowTable
from replay.evaluation.store import code_digest, slug, world_record
from replay.evaluation.truth import RequestLog, truth_of
from replay.simulate.world import World
from replay.simulate.world_settings import Attack, WorldSettings

OURS = "ours"
ALL = (OURS, *rivals.ALL)
ABLATED = "ours~"  # ours~new_network is ours without that signal
REPORT_EVERY_EVENTS = 5_000_000

Say = Callable[[str], None]


class Observer(Protocol):
    """Sees the events of a world once, in order."""

    def observe(self, batch: EventBatch) -> None:
        """Takes in the next batch of the log."""
        ...


class Method(NamedTuple):
    """A way to find attacked keys; several may share what they observe."""

    observer: Observer
    answer: Callable[[], Answer]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. ``stated`` are the budgets for which alerts are really raised.

    With ``feedback_days`` each of these is answered by the truth so many days later; 0 = never.
    """

    methods: tuple[str, ...]
    share_stolen: float | None = None
    stated: tuple[float, ...] = (10.0, 2.0, 40.0)
    feedback_days: float = 0.0
    settings: ShardSettings = field(default_factory=ShardSettings)


def run_world(world: World, plan: Plan, say: Say = lambda _: None) -> list[Result]:
    """Runs the plan's methods over one world; a result each, in their order."""
    keys, code, began_s = KeyIndex(world.key_class), code_digest(), time.perf_counter()
    methods = make_methods(plan, keys, world.registry(), world.attacks)
    observers = {id(m.observer): m.observer for m in methods.values()}
    spent_s = dict.fromkeys(observers, 0.0)
    requests, events, reported = RequestLog(keys), 0, 0
    for batch, attack in world.batches():
        requests.observe(batch, attack)
        for i, observer in observers.items():
            at_s = time.perf_counter()
            observer.observe(batch)
            spent_s[i] += time.perf_counter() - at_s
        events += len(batch)
        if events - reported >= REPORT_EVERY_EVENTS:
            reported = events
            say(_pace(world.settings, events, time.perf_counter() - began_s))
    truth, results = truth_of(world, keys, requests.sorted()), []
    for name, method in methods.items():
        at_s = time.perf_counter()
        say(f"seed {world.settings.seed}: asking {name}")
        answer = method.answer()
        about = About(
            method=name,
            seed=world.settings.seed,
            world=world_record(world.settings),
            code=code,
            events=events,
            feedback_days=plan.feedback_days if name == OURS else 0.0,
            elapsed_s=round(spent_s[id(method.observer)] + time.perf_counter() - at_s, 1),
        )
        results.append(result_of(about, answer, truth, _rules(name, plan)))
    return results


def make_methods(
    plan: Plan, keys: KeyIndex, registry: KeyRegistry | None, attacks: Sequence[Attack] = ()
) -> dict[str, Method]:
    """Methods by name: ``ours``, ``ours~SIGNAL`` or a rival's."""
    table = WindowTable()
    methods = {}
    for name in plan.methods:
        if name in rivals.ALL:
            methods[name] = Method(table, partial(_rivals_answer, name, table, keys))
            continue
        settings, stated, feedback = plan.settings, plan.stated, None
        if plan.feedback_days > 0 and name == OURS:
            feedback = Feedback(attacks, plan.feedback_days)
        if name.startswith(ABLATED):
            settings, stated = ours.without(settings, name.removeprefix(ABLATED)), stated[:1]
        observer = ours.Ours(settings, keys, registry, stated, feedback)
        methods[name] = Method(observer, observer.answer)
    return methods


def named(text: str) -> str:
    """The method whose name or short name ``text`` is. Raises ``UsageError``."""
    found = [name for name in ALL if text in (name, slug(name))]
    if not found:
        raise UsageError(f"unknown method {text!r}; known are {', '.join(map(slug, ALL))}")
    return found[0]


def ablated(signals: str) -> str:
    """The name of our method without signals, ``a`` or ``a+b``. Raises ``UsageError``."""
    ours.without(ShardSettings(), signals)
    return ABLATED + signals


def _rivals_answer(name: str, table: WindowTable, keys: KeyIndex) -> Answer:
    """A rival numbers keys as its table does; here they are numbered as the world does."""
    series = rivals.ALL[name](table)
    number = np.array([keys.number_of[text] for text in table.keys], np.int32)
    return Answer(points_of_series(number[series.key], series.ts_us, series.score))


def _rules(name: str, plan: Plan) -> Rules:
    if name in rivals.ALL:
        return Rules(BUDGETS)
    return Rules(BUDGETS, plan.share_stolen, ours.offset(plan.settings))


def _pace(settings: WorldSettings, events: int, elapsed_s: float) -> str:
    total = settings.per_day * settings.days
    left_s = elapsed_s * max(0.0, total / events - 1)
    return f"seed {settings.seed}: {events / 1e6:.0f} M events, about {left_s / 60:.0f} min left"
