"""What a simulated world is asked to be, and the ground truth it tells afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from detector.core.errors import UsageError
from replay.simulate.settings import DAY_US, MINUTE_US, SECOND_US

START_US = 1_767_571_200 * SECOND_US  # 2026-01-05T00:00:00Z, a Monday
CELL_US = 15 * MINUTE_US
CELLS_PER_DAY = DAY_US // CELL_US

KEYS_MIN, KEYS_MAX = 30, 20_000
DAYS_MAX = 366
CLASSES = ("server", "cloud", "mobile", "developer", "sparse")
SERVER, CLOUD, MOBILE, DEVELOPER, SPARSE = range(len(CLASSES))
SHARES = (0.50, 0.17, 0.05, 0.18, 0.10)

ALL_ATTACKS = tuple(f"A{i:02d}" for i in range(1, 23))
LATE = "B19"  # leaves event-time order
# The log itself changes, for good: user agents vanish, paths get a prefix, one address for all.
# L01d: user agents appear that were missing before. L01e to L01g: a to c for a day, and back.
LOG_CHANGES = ("L01a", "L01b", "L01c", "L01d", "L01e", "L01f", "L01g")
ALL_BENIGN = tuple(f"B{i:02d}" for i in range(1, 21) if f"B{i:02d}" != LATE)
_KNOWN_BENIGN = (*ALL_BENIGN, LATE, "L01", *LOG_CHANGES)


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """Size and content of a world.

    Parameters
    ----------
    seed
        Equal settings and seed give equal events.
    keys, days
        Keys, 30 to 20,000; event days from 2026-01-05 00:00 UTC, a Monday.
    quiet_days
        No attack and no named benign scenario starts before this day.
    requests_per_day
        Benign mean of a fleet of 2,000 keys; other fleets get their proportion.
    attacks_per_scenario
        Instances of each attack scenario; 0 = none.
    attacks
        Scenarios among ``ALL_ATTACKS``.
    benign
        Scenarios that must occur in the test period. Not among ``ALL_BENIGN``, because a
        consumer must be ready for them: ``B19`` (late shipment: events come in arrival order)
        and ``L01`` (the log itself changes; ``L01a`` to ``L01g`` choose how).
    """

    seed: int
    keys: int = 2000
    days: int = 35
    quiet_days: int = 21
    requests_per_day: int = 1_000_000
    attacks_per_scenario: int = 8
    attacks: tuple[str, ...] = ALL_ATTACKS
    benign: tuple[str, ...] = ALL_BENIGN

    def __post_init__(self) -> None:
        if not KEYS_MIN <= self.keys <= KEYS_MAX:
            raise UsageError(f"a world has {KEYS_MIN} to {KEYS_MAX:,} keys, not {self.keys:,}")
        if not 2 <= self.days <= DAYS_MAX:
            raise UsageError(f"a world lasts 2 to {DAYS_MAX} days, not {self.days:,}")
        if not 1 <= self.quiet_days < self.days:
            raise UsageError("quiet days are at least one, and fewer than the days of the world")
        if not 1000 <= self.requests_per_day <= 1_000_000_000:
            raise UsageError("a fleet of 2,000 keys makes 1,000 to 1,000,000,000 requests a day")
        if self.seed < 0 or self.attacks_per_scenario < 0:
            raise UsageError("the seed and the number of attacks are numbers from 0 up")
        _check("attack", self.attacks, ALL_ATTACKS)
        _check("benign scenario", self.benign, _KNOWN_BENIGN)

    @property
    def end_us(self) -> int:
        """First microsecond after the span."""
        return START_US + self.days * DAY_US

    @property
    def test_us(self) -> int:
        """Where the test period begins."""
        return START_US + self.quiet_days * DAY_US

    @property
    def per_day(self) -> float:
        """Expected benign requests a day of this fleet."""
        return self.requests_per_day * self.keys / 2000


def _check(what: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}; known are {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Attack:
    """Ground truth of one instance of an attack scenario.

    ``number`` is its index in ``World.attacks`` and its value in the per-event column.
    Times are those of the first and the last request, microseconds since 1970 UTC.
    ``networks`` (at most 16) and ``clients`` (product and major version) are texts as the
    detector shows them. ``causes`` are the signals a good explanation may name. ``rate_ratio``
    is requests per active 15 minutes over the key's own mean per 15 minutes (of several keys
    the median). ``requests`` is 0 until all batches have been read.
    """

    number: int
    scenario: str
    keys: tuple[str, ...]
    start_us: int
    end_us: int
    networks: tuple[str, ...]
    clients: tuple[str, ...]
    causes: tuple[str, ...]
    rate_ratio: float
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Happening:
    """One instance of a benign scenario: ``B01`` to ``B20``, ``L01a`` to ``L01g``."""

    scenario: str
    keys: tuple[str, ...]
    start_us: int
    end_us: int
