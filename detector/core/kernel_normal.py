"""What a row tells about the rest of the key: the data behind "this stayed normal"."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.core.kernel_sources import VALUES_MAX
from detector.core.tables import find_tag, mix64
from models import novelty
from models._jit import kernel

ROUTES_CAP = VALUES_MAX[novelty.ROUTE]


@kernel
def age_cells(s: Any, key: Any, kind: int, value: int) -> int:
    """Cells since the key first had this value; -1 = not known."""
    place = find_tag(s.pairs, mix64(key.lo ^ np.uint64(kind + 1), value))
    return key.cell - s.pairs[place].first_cell if place >= 0 and value != 0 else -1


@kernel
def fill_normal(s: Any, row: Any, slot: int, actor_place: int) -> None:
    """Copies ages and counts of the open cell; of the actor's source where there is an actor."""
    key, m = s.keys[slot], s.misses[slot]
    row.age_cells = key.cell - s.volume[slot].born_cell
    row.routed = key.total if key.values[novelty.ROUTE] < ROUTES_CAP else 0.0
    row.answered = m.others + m.cell_trials
    row.refused = m.others_failed + m.cell_missed
    row.client_age = -1
    row.source = key.source
    if actor_place >= 0:
        a = s.actors[actor_place]
        row.source = a.network
        row.client_age = age_cells(s, key, novelty.CLIENT, a.client)
    row.network_age = age_cells(s, key, novelty.NETWORK, row.source)
