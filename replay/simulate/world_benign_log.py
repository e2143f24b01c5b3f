"""Benign scenarios of the log itself: clocks, duplicates, late shipments, changed lines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from replay.simulate.settings import HOUR_US, MINUTE_US
from replay.simulate.world_plan import LogChange, Plan, Wire
from replay.simulate.world_settings import LOG_CHANGES, START_US

_CHANGED = dict(
    zip(
        LOG_CHANGES,
        ("client", "path", "address", "client", "client", "path", "address"),
        strict=True,
    )
)


def clock_skew(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B17: one node's clock is ten minutes off: half of the events of some keys lie about it."""
    keys = _served(plan, rng, 0.1)
    end_us = at_us + int(rng.uniform(2, 12) * HOUR_US)
    skew_us = int(rng.uniform(5, 10) * MINUTE_US) // 1000 * 1000
    plan.wires.append(Wire("skew", keys, at_us, end_us, skew_us * int(rng.choice([-1, 1]))))
    plan.note("B17", list(keys), at_us, end_us)


def duplicates(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B18: a shipper delivers some hours of some keys' events twice."""
    keys = _served(plan, rng, 0.05)
    end_us = at_us + int(rng.uniform(2, 5) * HOUR_US)
    plan.wires.append(Wire("copy", keys, at_us, end_us))
    plan.note("B18", list(keys), at_us, end_us)


def late_shipment(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B19: six hours of some keys' events arrive at once, at the end of the six hours."""
    keys = _served(plan, rng, 0.05)
    plan.wires.append(Wire("late", keys, at_us, at_us + 6 * HOUR_US))
    plan.note("B19", list(keys), at_us, at_us + 6 * HOUR_US)


def log_change(name: str, plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """L01: every line lacks its user agent, has a path prefix, or one address.

    From now on (L01a, L01b, L01c), until now (L01d: user agents appear), or for 18 to 30 hours
    (L01e, L01f, L01g).
    """
    what = _CHANGED[name]
    end_us = plan.settings.end_us
    if name >= "L01e":
        end_us = min(end_us, at_us + int(rng.uniform(18, 30) * HOUR_US))
    span_us = (START_US, at_us) if name == "L01d" else (at_us, end_us)
    plan.log_changes.append(LogChange(what, *span_us))
    plan.note(name, [k.number for k in plan.keys], at_us, end_us)


def _served(plan: Plan, rng: np.random.Generator, share: float) -> tuple[int, ...]:
    """The keys whose requests one node or shipper handles."""
    n = max(3, round(share * len(plan.keys)))
    return tuple(sorted(int(k) for k in rng.permutation(len(plan.keys))[:n]))


LOG_SCENARIOS: dict[str, Callable[[Plan, np.random.Generator, int], None]] = {
    "B17": clock_skew,
    "B18": duplicates,
    "B19": late_shipment,
    **{name: partial(log_change, name) for name in LOG_CHANGES},
}
