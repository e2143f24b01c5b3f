"""From a row of numbers to an episode a person can act on in a minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detector.core.episodes import CHANNELS, Actor, Reason
from detector.core.network import network_text
from models import fusion, novelty
from models.families import FAMILIES

REASONS_MAX = 5
REASON_NATS_MIN = 0.3
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

    def route(self, value: int) -> str:
        """The route's text, or a stand-in with its hash."""
        return self._text(novelty.ROUTE, value, "route")

    def _text(self, kind: int, value: int, word: str) -> str:
        table: Mapping[int, str] = self.tables[kind]
        return "unknown" if value == 0 else table.get(value, f"{word}#{value:016x}")


def actor_of(row: Any, texts: Texts) -> Actor | None:
    """The source a row points at, if it is one the key has not established."""
    if not row["actor"]:
        return None
    return Actor(
        network=texts.network(int(row["network"])),
        client=texts.client(int(row["client"])),
        first_seen_us=int(row["actor_first_us"]),
        requests=int(row["actor_requests"]),
    )


def reasons_of(row: Any, texts: Texts, weights: tuple[float, ...]) -> tuple[Reason, ...]:
    """The families that carry the score, largest first, with the counts behind them."""
    shares = [
        (weights[j] * min(float(row["z"][j]), fusion.CAPS[j]), j) for j in range(fusion.N_FAMILIES)
    ]
    shares = _without_nested(shares)
    shares.sort(key=lambda s: (-s[0], s[1]))
    kept = [s for s in shares if s[0] >= REASON_NATS_MIN][:REASONS_MAX]
    return tuple(_reason(row, texts, family, round(nats, 3)) for nats, family in kept)


def _without_nested(shares: list[tuple[float, int]]) -> list[tuple[float, int]]:
    route, area = shares[fusion.F_ROUTE], shares[fusion.F_AREA]
    dropped = min(route, area, key=lambda s: s[0])[1]
    return [s for s in shares if s[1] != dropped]


def _reason(row: Any, texts: Texts, family: int, nats: float) -> Reason:
    observed, expected, text = _DESCRIBE[family](row, texts)
    return Reason(
        signal=FAMILIES[family],
        nats=nats,
        observed=round(float(observed), 3),
        expected=round(float(expected), 3),
        text=text,
    )


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
    foreign, total = int(row["actor_foreign"]), int(row["actor_requests"])
    usual = float(row["mix_usual"])
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


_DESCRIBE = (
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
)


def severity_of(score: float, threshold: float) -> str:
    """How far above (or below) its threshold a score is, in five steps."""
    ratio = score / threshold
    for least, word in ((1.6, "critical"), (1.25, "high"), (1.0, "medium"), (0.75, "low")):
        if ratio >= least:
            return word
    return "info"


def action_of(channel: int, severity: str, reasons: tuple[Reason, ...], actor: Actor | None) -> str:
    """The cheapest action that would stop it; a proposal, never an order."""
    if severity in ("info", "low"):
        return "none"
    if CHANNELS[channel] == "stolen":
        if severity == "medium" and actor is not None:
            return "block_actor"
        return "revoke" if severity in ("high", "critical") else "notify"
    top = reasons[0].signal if reasons else ""
    if top in ("volume", "actor_volume", "enumeration"):
        return "throttle"
    return "suspend" if severity in ("high", "critical") else "notify"
