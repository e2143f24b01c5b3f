"""The fleet's three budgets: thresholds of STOLEN, ABUSED and THROTTLE, and the hard caps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import msgspec
import numpy as np
import numpy.typing as npt

from detector.core.episodes import ABUSED, STOLEN, THROTTLE
from detector.core.fleet_window import DAY_US
from models.budget import BudgetController

WEEK_US = 7 * DAY_US
KEPT_US = 2 * WEEK_US
TAIL_WEEKS = 4
CAP_FACTOR = 1.2
# Times its threshold: may use the whole of the week's allowance, and at once. Thresholds of a
# log's first hours are a guess, so much more must be over them; a week later it is as for good.
STRONG, STRONG_AT_FIRST = 1.25, 1.6
RESERVE, RESERVE_FROM = 0.05, 5.0  # of N; budgets under five a week set nothing aside
GAP_DAYS = 4  # as many days without a candidate are a gap in the log, and say nothing
ALERTS = (STOLEN, ABUSED)

Levels = Callable[[int, int, int], npt.NDArray[np.float64]]


def strong_from(now_us: int, start_us: int) -> float:
    """Times its threshold from which an alert is strong, in a log that began at ``start_us``."""
    share = min(1.0, (now_us - start_us) / WEEK_US)
    return STRONG_AT_FIRST + share * (STRONG - STRONG_AT_FIRST)


class Raised(msgspec.Struct, array_like=True):
    """An alert, notice or recommendation; one confirmed as true counts against no budget."""

    at_us: int
    channel: int
    is_confirmed: bool = False


class Budgets(msgspec.Struct):
    """One controller per channel, and what was raised in the last two weeks."""

    controllers: list[BudgetController] = []
    raised: dict[str, Raised] = {}
    day: int = -1  # event day whose thresholds are in force
    overdrawn_us: int = -1  # latest notice beyond the week's allowance
    since_us: int = -1  # the tail looks back to here at most: the log's start, or its last gap

    def configure(self, per_week: Sequence[float], floors: Sequence[float]) -> None:
        """Sets rates a week and least thresholds per channel; what was learned stays."""
        if not self.controllers:
            self.controllers = [BudgetController(rate) for rate in per_week]
        for controller, rate, floor in zip(self.controllers, per_week, floors, strict=True):
            controller.per_week, controller.least = rate, floor

    def threshold(self, channel: int) -> float | None:
        """In force, nats; ``None`` while the shipped one applies."""
        return self.controllers[channel].threshold

    def note(self, alert_id: str, now_us: int, channel: int) -> None:
        """Counts what is raised now."""
        self.raised[alert_id] = Raised(now_us, channel)

    def confirm(self, alert_id: str) -> bool:
        """It was a true one: gives back what it cost. False when it is not known, or twice."""
        raised = self.raised.get(alert_id)
        if raised is None or raised.is_confirmed:
            return False
        raised.is_confirmed = True
        controller = self.controllers[raised.channel]
        if raised.at_us < self.day * DAY_US and controller.threshold is not None:
            controller.refund()
        return True

    def has_room(self, channel: int, now_us: int, start_us: int, *, is_strong: bool) -> bool:
        """True when the cap allows one more now.

        At most ``ceil(1.2 N)`` in any seven days, STOLEN and ABUSED together. From N = 5 on a
        twentieth of N, at least one, is left for what is strong; and in a log of d < 7 days what
        is not may have ``ceil(1.2 N d / 7)``.
        """
        channels = ALERTS if channel in ALERTS else (THROTTLE,)
        n = sum(self.controllers[c].per_week for c in channels)
        in_week = self._count(channels, now_us - WEEK_US + 1, now_us + WEEK_US)
        allowed = ceil(CAP_FACTOR * n - 1e-9)
        if is_strong or in_week >= allowed:
            return in_week < allowed
        reserve = max(1, int(RESERVE * n)) if n >= RESERVE_FROM else 0
        share = min(1.0, (now_us - start_us) / WEEK_US)
        young = ceil(CAP_FACTOR * n * share - 1e-9) if share < 1.0 else allowed
        return in_week < min(allowed - reserve, max(1, young))

    def may_overdraw(self, now_us: int) -> bool:
        """True, and noted, when no notice of the last 24 hours was beyond the allowance."""
        if 0 <= self.overdrawn_us > now_us - DAY_US:
            return False
        self.overdrawn_us = now_us
        return True

    def reach(self, now_us: int, start_us: int, levels: Levels) -> bool:
        """Moves on to the day of ``now_us``; True when midnight has passed.

        ``levels(channel, since_us, until_us)`` are the levels of the episodes opened then.
        """
        today, passed = now_us // DAY_US, 0 <= self.day < now_us // DAY_US
        if self.since_us < 0:
            self.since_us = start_us
        if passed and today - self.day > GAP_DAYS:
            self._end_day(levels)
            self.since_us = today * DAY_US
        while 0 <= self.day < today and self.since_us < today * DAY_US:
            self._end_day(levels)
        self.day = today
        if passed:
            self.raised = {k: r for k, r in self.raised.items() if r.at_us > now_us - KEPT_US}
        return passed

    def _end_day(self, levels: Levels) -> None:
        """The day's alerts correct the controllers, which set the next day's thresholds."""
        begin_us, end_us = self.day * DAY_US, (self.day + 1) * DAY_US
        weeks = min(TAIL_WEEKS, (end_us - self.since_us) // WEEK_US)
        self.day += 1
        if weeks == 0:
            return
        for channel, controller in enumerate(self.controllers):
            in_force = controller.threshold is not None
            alerts = self._count((channel,), begin_us, end_us) if in_force else None
            controller.end_day(levels(channel, end_us - weeks * WEEK_US, end_us), weeks, alerts)

    def _count(self, channels: tuple[int, ...], since_us: int, before_us: int) -> int:
        return sum(
            since_us <= r.at_us < before_us and r.channel in channels and not r.is_confirmed
            for r in self.raised.values()
        )
