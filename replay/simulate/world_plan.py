"""What happens in a world, as data: changes of keys, of rates, of answers, and of the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np

from replay.simulate import randomness
from replay.simulate.columns import EventColumns, Vocabulary
from replay.simulate.keys import Change, Weighted
from replay.simulate.settings import DAY_US
from replay.simulate.traffic import Outage
from replay.simulate.world_keys import WorldKey, make_keys
from replay.simulate.world_places import Places
from replay.simulate.world_settings import CELLS_PER_DAY, START_US, Happening, WorldSettings

FOREVER_US = 1 << 60
NOBODY = ""  # the program of requests without a user agent


@dataclass(frozen=True, slots=True)
class Rate:
    """A key's rate is multiplied by ``factor`` from ``start_us`` until ``end_us``."""

    key: int
    start_us: int
    end_us: int
    factor: float


@dataclass(frozen=True, slots=True)
class Storm:
    """A share of a key's requests is answered with ``status``.

    With a route, that share goes to this route, always for the same object: a bug repeating
    itself. With route -1 it is any request.
    """

    key: int
    start_us: int
    end_us: int
    share: float
    status: int
    route: int = -1


@dataclass(frozen=True, slots=True)
class Crawl:
    """A key reads objects it never read before: in sequence, or scattered."""

    key: int
    start_us: int
    end_us: int
    routes: tuple[int, ...]
    in_sequence: bool


@dataclass(frozen=True, slots=True)
class Zone:
    """From ``at_us`` on, a key's day runs in another time zone."""

    key: int
    at_us: int
    zone_h: float


@dataclass(frozen=True, slots=True)
class Wire:
    """The log's own faults, on events of ``keys`` from ``start_us`` until ``end_us``.

    ``what`` is ``skew`` (half of the events carry a time that is ``skew_us`` off), ``copy``
    (they appear twice) or ``late`` (they arrive at ``end_us``).
    """

    what: str
    keys: tuple[int, ...]
    start_us: int
    end_us: int
    skew_us: int = 0


@dataclass(frozen=True, slots=True)
class LogChange:
    """Every line is different from ``at_us`` until ``end_us``.

    ``what`` is ``client`` (none), ``path`` (a prefix) or ``address`` (one for all).
    """

    what: str
    at_us: int
    end_us: int


@dataclass(slots=True)
class Plan:
    """A world under construction: its keys, and everything that will happen to them."""

    settings: WorldSettings
    words: Vocabulary
    places: Places
    keys: list[WorldKey]
    rates: list[Rate] = field(default_factory=list)
    storms: list[Storm] = field(default_factory=list)
    crawls: list[Crawl] = field(default_factory=list)
    zones: list[Zone] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    holidays: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    log_changes: list[LogChange] = field(default_factory=list)
    visits: list[EventColumns] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    reserved: set[int] = field(default_factory=set)
    scale: float = 1.0
    _lasting: dict[int, list[Rate]] = field(default_factory=dict)
    _acts: list[tuple[int, int, Callable[[], object]]] = field(default_factory=list)
    _n_acts: int = 0

    @classmethod
    def of(cls, settings: WorldSettings) -> Plan:
        """A world in which nothing happens yet."""
        words = Vocabulary()
        words.client(NOBODY)
        places = Places(randomness.stream(settings.seed, randomness.WORLD, 0))
        return cls(settings, words, places, make_keys(settings, places, words))

    def stream(self, *name: int) -> np.random.Generator:
        """An independent generator of this world."""
        return randomness.stream(self.settings.seed, randomness.WORLD, *name)

    def at(self, at_us: int, act: Callable[[], object]) -> None:
        """Has something happen then. Acts see the keys as all earlier acts left them."""
        heappush(self._acts, (at_us, self._n_acts, act))
        self._n_acts += 1

    def run(self) -> None:
        """Lets everything happen, in order of time, also what is added meanwhile.

        Then rates are scaled so that the fleet's mean is what the settings ask for.
        """
        while self._acts:
            _, _, act = heappop(self._acts)
            act()

        for change in self.rates:
            if change.end_us == FOREVER_US or change.factor == 0:
                self._lasting.setdefault(change.key, []).append(change)
        self.scale = self.settings.per_day / CELLS_PER_DAY / self._expected()

    def _expected(self) -> float:
        """Mean requests per cell over the span if the keys' rates are taken as they are."""
        end_us, span_us = self.settings.end_us, self.settings.end_us - START_US
        weight = [min(k.dies_us, end_us) - max(k.born_us, START_US) for k in self.keys]
        for change in self.rates:
            key = self.keys[change.key]
            length_us = min(change.end_us, key.dies_us, end_us) - max(
                change.start_us, key.born_us, START_US
            )
            weight[change.key] += int((change.factor - 1) * max(length_us, 0))
        return sum(k.rate * max(w, 0) for k, w in zip(self.keys, weight, strict=True)) / span_us

    def own_rate(self, key: WorldKey, at_us: int) -> float:
        """The key's mean requests per 15 minutes, with what it has grown by then."""
        rate = key.rate * self.scale
        for change in self._lasting.get(key.number, ()):
            rate *= change.factor if change.factor and change.start_us <= at_us else 1.0
        return rate

    def is_paused(self, key: int, start_us: int, end_us: int) -> bool:
        """Whether nobody uses the key at some time of a span."""
        pauses = (c for c in self._lasting.get(key, ()) if not c.factor)
        return any(c.start_us < end_us and start_us < c.end_us for c in pauses)

    def times(self, rng: np.random.Generator, mean_days: float) -> list[int]:
        """Times of a Poisson process over the whole span, in order."""
        n = int(rng.poisson(self.settings.days / mean_days))
        return sorted(int(t) for t in rng.integers(START_US, self.settings.end_us, n))

    def test_time(self, rng: np.random.Generator, room_us: int = 0) -> int:
        """A time in the test period that leaves ``room_us`` until its end."""
        room_us = min(room_us, (self.settings.end_us - self.settings.test_us) // 2)
        return int(rng.integers(self.settings.test_us, self.settings.end_us - room_us))

    def set_addresses(self, key: WorldKey, at_us: int, spots: Weighted) -> None:
        """From ``at_us`` on the key's requests come from there."""
        key.changes.append(Change(at_us, "addresses", spots))
        key.blocks |= {address >> 16 for address, _ in spots}

    def rate(self, key: int, start_us: int, end_us: int, factor: float) -> None:
        """Multiplies a key's rate for a while."""
        self.rates.append(Rate(key, start_us, end_us, factor))

    def note(self, scenario: str, keys: list[int], start_us: int, end_us: int) -> None:
        """Records a benign scenario."""
        names = tuple(self.keys[k].name for k in keys)
        end_us = min(end_us, self.settings.end_us)
        self.happenings.append(Happening(scenario, names, start_us, end_us))

    def settled(self, at_us: int, *kinds: int) -> list[WorldKey]:
        """Keys of these classes that are old enough, alive, and free for anything."""
        before = max(at_us - 5 * DAY_US, START_US)
        alive = [k for k in self.keys if k.born_us <= before and at_us < k.dies_us]
        free = [k for k in alive if k.number not in self.reserved]
        return [k for k in free if not kinds or k.kind in kinds]

    def some(self, rng: np.random.Generator, at_us: int, *kinds: int) -> WorldKey:
        """A settled key, the busier the likelier: an event nobody sees is none."""
        pool = self.settled(at_us, *kinds) or self.settled(at_us)
        weight = np.array([k.rate for k in pool]) ** 0.3
        return pool[int(rng.choice(len(pool), p=weight / weight.sum()))]
