"""What a simulated fleet is asked to be. All times are event time; nothing reads a clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from detector.core.errors import UsageError

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

# 2026-03-02T00:00:00Z, a Monday: weekly cycles start at their beginning.
START_US = 1_772_409_600 * SECOND_US

KEYS_MAX = 20_000
HOURS_MAX = 2 * 365 * 24

ATTACK_KINDS = (
    "stolen_key",
    "stolen_quiet",
    "scraper",
    "prober",
    "dormant_wakeup",
    "flood",
    "enumeration",
)


class KeyClass(IntEnum):
    """How a key is used; each class has its own networks, rhythm and clients."""

    SERVER = 0
    CLOUD = 1
    MOBILE = 2
    DEVELOPER = 3
    BATCH = 4


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """One attack to inject; what is left ``None`` is drawn from the fleet's seed.

    ``rate`` is requests per hour. ``victim`` is the number of a key of the fleet.
    """

    kind: str
    start_us: int | None = None
    duration_s: float | None = None
    rate: float | None = None
    victim: int | None = None


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Size and temper of a fleet.

    Parameters
    ----------
    n_keys
        Number of keys, 1 to 20,000: a key's history of sources is kept in memory.
    hours
        Span in hours from ``start_us`` (microseconds since 1970 UTC).
    events_per_day
        Expected events of the whole fleet on a working day, before happenings; each key's
        share is lognormal with ``rate_sigma``, so the realised number varies by tens of percent.
    shares
        Share of servers, cloud NAT, mobile apps, developers, batch jobs; need not sum to 1.
    happenings
        Multiplies how often benign things happen (deploys, egress changes, spikes, outages ...);
        0 = never. Higher makes a harder background.
    quiet_from_us
        No happening starts after it, where a scenario places its own; ``None`` = no such time.
    attacks
        What to inject.
    """

    n_keys: int = 80
    start_us: int = START_US
    hours: int = 14 * 24
    events_per_day: float = 14_000
    rate_sigma: float = 1.2
    shares: tuple[float, float, float, float, float] = (0.46, 0.18, 0.06, 0.17, 0.13)
    happenings: float = 1.0
    quiet_from_us: int | None = None
    attacks: tuple[AttackPlan, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.n_keys <= KEYS_MAX:
            raise UsageError(f"a fleet has 1 to {KEYS_MAX} keys, not {self.n_keys}")
        if self.hours > HOURS_MAX:
            raise UsageError(f"a simulation spans at most {HOURS_MAX} hours, not {self.hours}")
        if self.hours < 1 or not self.events_per_day > 0:
            raise UsageError("a fleet needs at least one hour and more than 0 events per day")
        if len(self.shares) != len(KeyClass) or min(self.shares) < 0 or not sum(self.shares):
            raise UsageError("shares are five numbers from 0 up, not all 0")
        for plan in self.attacks:
            if plan.kind not in ATTACK_KINDS:
                known = ", ".join(ATTACK_KINDS)
                raise UsageError(f"unknown attack {plan.kind!r}; known are {known}")

    @property
    def end_us(self) -> int:
        """First microsecond after the span."""
        return self.start_us + self.hours * HOUR_US
