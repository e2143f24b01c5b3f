"""One sentence per family: the count behind the evidence, and what is usual for the key."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import Any

from detector.core.network import network_text
from models import novelty, slow

HOURS_PER_CELL = 0.25


class Texts:
    """Texts of the hashed values a shard has met, by kind; bounded by NAMES_MAX."""

    def __init__(self, tables: tuple[dict[int, str], ...] | None = None) -> None:
        self.tables: tuple[dict[int, str], ...] = tables or tuple({} for _ in range(novelty.KINDS))

    def network(self, value: int) -> str:
        """The network's text; ``unknown`` for 0."""
        return network_text(value, self.tables[novelty.NETWORK])

    def client(self, value: int) -> str:
        """The client's text; ``unknown`` for 0."""
        return self._text(novelty.CLIENT, value, "client")

    def block(self, value: int) -> str:
        """The block's text: a /16, a /32 or an autonomous system."""
        return network_text(value, self.tables[novelty.BLOCK])

    def route(self, value: int) -> str:
        """The route's text, or a stand-in with its hash."""
        return self._text(novelty.ROUTE, value, "route")

    def _text(self, kind: int, value: int, word: str) -> str:
        table: Mapping[int, str] = self.tables[kind]
        return "unknown" if value == 0 else table.get(value, f"{word}#{value:016x}")


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _per_cell(row: Any, kind: int) -> float:
    """Bursts of new values of a kind that an active cell usually brings."""
    shape = novelty.SHAPE[kind] + float(row["bursts"][kind])
    return shape / (novelty.RATE[kind] + float(row["exposure"]))


def _new_value(row: Any, kind: int, what: str, who: str) -> tuple[float, float, str]:
    usual = _per_cell(row, kind)
    hours = HOURS_PER_CELL / usual
    pace = f"one new {what} in {hours:,.0f} active hours" if hours >= 1 else f"new {what}s all day"
    return max(1, int(row["fresh"][kind])), usual, f"{who} is new to this key; its pace is {pace}"


def _network(row: Any, texts: Texts) -> tuple[float, float, str]:
    who = f"network {texts.network(int(row['network']))}"
    if row["by_block"]:
        who += f" ({texts.block(int(row['block']))})"
        return _new_value(row, novelty.BLOCK, "provider block", who)
    return _new_value(row, novelty.NETWORK, "network", who)


def _client(row: Any, texts: Texts) -> tuple[float, float, str]:
    who = f"client {texts.client(int(row['client']))}"
    return _new_value(row, novelty.CLIENT, "client", who)


def _brought(row: Any, texts: Texts, kind: int, noun: str) -> tuple[float, float, str]:
    brought = row["actor_route_new"] if kind == novelty.ROUTE else row["actor_area_new"]
    n = int(brought) if row["actor"] else int(row["fresh"][kind])
    usual = _per_cell(row, kind) * float(row["burst_size"][kind])
    if n == 0:
        return n, usual, f"in the last hours this key used {noun}s it never used before"
    last = f", latest {texts.route(int(row['route']))}" if row["route"] else ""
    return n, usual, f"{_n(n, noun)} this key never used before{last}; usual {usual:.2g} in 15 min"


def _routes(row: Any, texts: Texts) -> tuple[float, float, str]:
    return _brought(row, texts, novelty.ROUTE, "route")


def _areas(row: Any, texts: Texts) -> tuple[float, float, str]:
    return _brought(row, texts, novelty.AREA, "API area")


def _mix(row: Any, _: Texts) -> tuple[float, float, str]:
    total, by_route = int(row["actor_requests"]), bool(row["mix_by_route"])
    foreign = int(row["actor_foreign_routes" if by_route else "actor_foreign"])
    usual = float(row["mix_route_usual" if by_route else "mix_usual"])
    text = f"{foreign} of its {_n(total, 'request')} go where this key had never been"
    return foreign, usual * total, f"{text}; usual share {usual:.0%}"


def _so_far(count: float, usual: float) -> str:
    """Evidence outlives the 15 minutes that brought it: say so when these are quiet again."""
    return "" if count > usual else "; the evidence is from the last hours"


def _actor_volume(row: Any, _: Texts) -> tuple[float, float, str]:
    count, usual = int(row["actor_count"]), float(row["actor_usual"])
    text = f"{_n(count, 'request')} in this 15 min from this source; a new one usually makes"
    return count, usual, f"{text} {usual:.0f}{_so_far(count, usual)}"


def _volume(row: Any, _: Texts) -> tuple[float, float, str]:
    count, mean = int(row["count"]), float(row["mean"])
    text = f"{_n(count, 'request')} in this 15 min; usual for this hour {mean:.1f}"
    return count, mean, text + _so_far(count, 2 * mean)


def _probing(row: Any, _: Texts) -> tuple[float, float, str]:
    n, usual = round(float(row["failing_routes"])), float(row["failing_usual"])
    if n <= max(1.0, usual):
        return n, usual, "in the last hours many different routes refused this key"
    return (
        n,
        usual,
        f"about {_n(n, 'different route')} refused it in this 15 min; usual {usual:.2g}",
    )


def _dormancy(row: Any, _: Texts) -> tuple[float, float, str]:
    gap, before = int(row["gap"]) / 96, int(row["gap_before"]) / 96
    text = f"woke up after {gap:.1f} days of silence; its longest before was {before:.1f}"
    return gap, before, text


def _concurrency(row: Any, _: Texts) -> tuple[float, float, str]:
    n = int(row["actor_switches"])
    text = f"took turns with the key's other networks {_n(n, 'time')} within minutes"
    return n, 0.0, f"{text}: both in use at once"


def _enumeration(row: Any, _: Texts) -> tuple[float, float, str]:
    new, total, usual = int(row["idents_new"]), int(row["idents"]), float(row["idents_usual"])
    text = f"{new} of {_n(total, 'object id')} in this 15 min were never asked for before"
    return new, usual * total, f"{text}; usual share {usual:.0%}{_so_far(new, usual * total)}"


def _sequence(row: Any, _: Texts) -> tuple[float, float, str]:
    steps, trials, usual = int(row["steps"]), int(row["steps_trials"]), float(row["steps_usual"])
    text = f"{steps} of {_n(trials, 'numeric id')} in this 15 min follow one on the other"
    return steps, usual * trials, f"{text}; usual share {usual:.0%}{_so_far(steps, usual * trials)}"


def _additive(row: Any, _: Texts) -> tuple[float, float, str]:
    own, owed = float(row["owner_requests"]), float(row["owner_expected"])
    text = f"the key's own sources carry on beside it: {own:,.0f} requests since it came"
    return own, owed, f"{text}, {owed:,.0f} expected"


def _off_hours(row: Any, _: Texts) -> tuple[float, float, str]:
    now, usual = float(row["mean"]), float(row["mean_usual"])
    text = f"it works at an hour when this key makes {now:.2g} requests in 15 min"
    return now, usual, f"{text}; over the day {usual:.2g}"


def _slow(row: Any, _: Texts) -> tuple[float, float, str]:
    usual, last = row["slow_usual"], row["slow_last"]
    if row["slow_ramp"] == slow.GROWTH:
        times = exp(float(last[0] - usual[0]))
        return (
            times,
            1.0,
            f"made {times:.1f} times the requests a day that it made weeks ago, for three days",
        )
    if row["slow_ramp"]:
        times = exp(float(last[0] - usual[0]))
        return times, 1.0, f"grew a little every day for two weeks, to {times:.1f} times the usual"
    times = exp(float(last[1] - usual[1]))
    return times, 1.0, f"takes {times:.1f} times the usual bytes per request, day after day"


def _objects(row: Any, _: Texts) -> tuple[float, float, str]:
    times = exp(float(row["slow_last"][2] - row["slow_usual"][2]))
    text = f"asks for {times:.1f} times the usual share of objects it never asked for before"
    return times, 1.0, text + ", day after day"


def _errors(row: Any, _: Texts) -> tuple[float, float, str]:
    tries, now = int(row["tries"]), int(row["tries_cell"])
    text = f"{_n(tries, 'request')} with this key failed authentication, {now} in this 15 min"
    return tries, 0.0, text


def _surge(row: Any, _: Texts) -> tuple[float, float, str]:
    count, mean = int(row["count"]), float(row["mean"])
    times = count / max(mean, 0.1)
    text = f"{_n(count, 'request')} in this 15 min, {times:,.0f} times the usual {mean:.1f}"
    return count, mean, f"{text}; this key seldom surges like that"


def _denied(row: Any, _: Texts) -> tuple[float, float, str]:
    n, usual = int(row["denied"]), float(row["denied_usual"])
    if n == 0:
        return n, usual, "in the last hours it was refused routes it had never tried"
    text = f"{_n(n, 'route')} answered 403 for the first time in this 15 min"
    return n, usual, f"{text}; usual {usual:.2g}"


def _misses(row: Any, _: Texts) -> tuple[float, float, str]:
    n, total, usual = int(row["missed"]), int(row["missed_of"]), float(row["missed_usual"])
    text = f"{n} of {_n(total, 'object')} it had never asked for were refused or not there"
    return n, usual * total, f"{text}; usual share {usual:.0%}{_so_far(n, usual * total)}"


def _travel(row: Any, texts: Texts) -> tuple[float, float, str]:
    who = texts.network(int(row["network"]))
    return 1.0, 0.0, f"nobody moves that fast between {who} and where this key was just used"


def _roaming(row: Any, _: Texts) -> tuple[float, float, str]:
    n, usual = int(row["fresh"][novelty.NETWORK]), _per_cell(row, novelty.NETWORK)
    usual *= float(row["burst_size"][novelty.NETWORK])
    if n <= 1:
        return n, usual, "one new network after the other in the last hours"
    return n, usual, f"{n} networks in 15 min that this key never used; usual {usual:.2g}"


def _excess(row: Any, _: Texts) -> tuple[float, float, str]:
    count, mean = int(row["actor_count"]), float(row["mean"])
    text = f"{_n(count, 'request')} in this 15 min from this source alone; the whole key usually"
    return count, mean, f"{text} makes {mean:.1f}{_so_far(count, mean)}"


DESCRIBE = (
    _network,
    _client,
    _routes,
    _areas,
    _mix,
    _actor_volume,
    _volume,
    _probing,
    _dormancy,
    _concurrency,
    _enumeration,
    _sequence,
    _additive,
    _off_hours,
    _slow,
    _errors,
    _surge,
    _travel,
    _denied,
    _misses,
    _roaming,
    _objects,
    _excess,
)
