"""The records of a shard's own arrays, field by field; those of the models lie with the models."""

from __future__ import annotations

import numpy as np

from models.novelty import KINDS

FACTS = 4  # kinds of hard facts

KEY = np.dtype(
    [
        ("hi", "u8"),
        ("lo", "u8"),
        ("first_us", "i8"),
        ("last_us", "i8"),
        ("ordinal", "u8"),  # events of the key, late ones included
        ("cell", "i4"),  # the open cell
        ("cells", "u4"),  # committed active cells
        ("hold_cell", "i4"),  # nothing is learned up to and including this cell
        ("hold_since", "i4"),  # the cell in which the latest period of holds began
        ("epoch", "i4"),  # 56-day period that the two counts below belong to
        ("values", "u2", (KINDS,)),  # values remembered in this epoch
        ("actors", "u2"),  # actors made in this epoch
        ("hard_day", "i4", (FACTS,)),  # day of the last hard fact of each kind, plus 1; 0 = none
        ("young", "f4"),  # decayed requests to areas the key has known for less than a day
        ("young_route", "f4"),  # and to routes
        ("newborn", "f4"),  # decayed requests to areas known for less than an hour
        ("newborn_route", "f4"),
        ("total", "f4"),  # decayed requests
        ("actor_sum", "f4"),  # requests of closed actor cells
        ("actor_weight", "f4"),
        ("own_mix", "f4"),  # evidence of young routes among requests of the own sources
        ("source", "u8"),  # network of the latest event
        ("rival", "u8"),  # tag of the actor that made it; 0 = the key's own source did
        ("switches", "f4"),  # decayed: pairs of events close in time from two networks
        ("pairs", "f4"),  # decayed: pairs of events close in time
        ("owned", "f8"),  # requests of established sources, so far
        ("expected", "f8"),  # requests expected in the closed cells, so far
        ("place", "u4"),  # of the latest event with one; 0 = none
        ("place_us", "i8"),
        ("leaps", "f4"),  # decayed: moves between places that nobody can make
        ("moves", "f4"),  # decayed: events with a place after another one
    ],
    align=True,
)

PAIR = np.dtype(
    [
        ("tag", "u8"),  # hash of (key, kind, value); 0 = free slot
        ("first_cell", "i4"),
        ("last_cell", "i4"),
        ("cells", "u2"),  # active cells it was seen in, while nothing was held
        ("days", "u1"),
        ("entry", "u1"),  # surprise when it first came, in 1/16 nat
        ("owned", "u1"),  # an established source has used it too
        ("mark", "u1"),  # kind, BARRED, and four bits of the key's hash: see mark_pair
        ("owner", "u2"),  # sixteen more
    ],
    align=True,
)

EPISODE = np.dtype(
    [
        ("opened_us", "i8"),  # 0 = no open episode
        ("opened_ordinal", "u8"),
        ("above_us", "i8"),  # last time the score was at or above the floor
        ("suspect_us", "i8"),  # since when evidence has been gathering; 0 = it is not
        ("suspect_last_us", "i8"),
        ("leak_requests", "u4"),
        ("leak_bytes", "i8"),
        ("peak", "f4"),
        ("over", "u1"),  # the threshold was reached
        ("held", "u1"),  # learning was held on its account
        ("quiet_cell", "i4"),  # nothing opens up to and including this cell: it is expected
    ],
    align=True,
)

ASPECTS = 3  # of a line that a gateway or shipper may change for everybody: see kernel_log

FIELDS = np.dtype(
    [
        ("value", "u8", (ASPECTS,)),  # network, client, or prefix of the run; 0 = field is absent
        ("run", "u2", (ASPECTS,)),  # requests in a row that show nothing else
        ("since", "i4", (ASPECTS,)),  # the cell in which the run began
        ("block", "u8"),  # of the run's network
        ("told_value", "u8", (ASPECTS,)),  # what the fleet stage was last told, and when
        ("told_cell", "i4", (ASPECTS,)),
        ("before", "f4", (KINDS,)),  # evidence of novelty before the change came
        ("proved", "u1"),  # the latest event proved a prefix
        ("had", "u1", (KINDS,)),  # the open cell taught something about the kind
    ],
    align=True,
)

SHARD = np.dtype(
    [
        ("off", "u8"),  # mechanisms switched off, a bit each: core.settings.MECHANISMS
        ("clock_us", "i8"),
        ("keys", "i8"),
        ("pairs", "i8"),
        ("actors", "i8"),
        ("auth", "i8"),
        ("pages", "i8"),
        ("events", "i8"),
        ("no_key", "i8"),
        ("late", "i8"),
        ("auth_failed", "i8"),
        ("keys_over_cap", "i8"),
        ("values_over_cap", "i8"),
        ("heirs", "i8"),  # keys that inherited a baseline
        ("heirs_blank", "i8"),  # keys whose predecessor is not in this shard
        ("values", "i8"),  # distinct hashed values whose text is known
        ("unnamed", "i8"),  # entries of State.unnamed waiting for their text
    ],
    align=True,
)
