"""Cells: the fixed 15-minute steps of event time on which baselines are committed."""

from __future__ import annotations

from models._jit import kernel

CELL_US = 900_000_000
DAY_US = 86_400_000_000
CELLS_PER_HOUR = 4
CELLS_PER_DAY = 96


@kernel
def cell_of(ts_us: int) -> int:
    """The cell an event time falls in.

    >>> cell_of(1_790_000_123_000_000)
    1988889
    """
    return ts_us // CELL_US


@kernel
def hour_of(cell: int) -> int:
    """Hour of the day, 0 to 23, UTC."""
    return cell // CELLS_PER_HOUR % 24


@kernel
def is_weekend(cell: int) -> int:
    """1 on Saturday and Sunday UTC, else 0 (day 0, 1970-01-01, was a Thursday)."""
    return 1 if (cell // CELLS_PER_DAY + 3) % 7 >= 5 else 0


@kernel
def hour_visits(born_cell: int, cell: int, hour: int) -> int:
    """How many of the cells in ``[born_cell, cell)`` lie in ``hour`` of a day.

    >>> hour_visits(0, 96 * 3, 5), hour_visits(21, 23, 5), hour_visits(0, 21, 5)
    (12, 2, 1)
    """
    return _hour_visits_before(cell, hour) - _hour_visits_before(born_cell, hour)


@kernel
def _hour_visits_before(cell: int, hour: int) -> int:
    rest = cell % CELLS_PER_DAY - hour * CELLS_PER_HOUR
    return cell // CELLS_PER_DAY * CELLS_PER_HOUR + min(CELLS_PER_HOUR, max(0, rest))


@kernel
def decay(cells: float, half_life_cells: float) -> float:
    """Share that is left after ``cells``.

    >>> decay(48, 48)
    0.5
    """
    return 2.0 ** (-cells / half_life_cells)


@kernel
def decayed_count(n: float, half_life_cells: float) -> float:
    """What n cells of weight 1, one after the other, have decayed to: a closed form.

    >>> decayed_count(1, 48)
    1.0
    """
    q = 2.0 ** (-1.0 / half_life_cells)
    return (1.0 - q**n) / (1.0 - q)
