"""What comes out of the fold: a row per episode opened, raised or closed, fact, change, silence.

A row copies what its episode's sentences need, so that nothing later in the log can change it.
"""

from __future__ import annotations

import numpy as np

from models.combination import CONTEXT
from models.fusion import N_FAMILIES
from models.novelty import KINDS

OPEN, PEAK, CLOSE, HARD, CHANGE, SILENT = 1, 2, 3, 4, 5, 6

ROW = np.dtype(
    [
        ("kind", "u1"),  # OPEN, PEAK, CLOSE, HARD, CHANGE or SILENT
        ("channel", "u1"),
        ("over", "u1"),
        ("slot", "i8"),
        ("event", "i8"),  # row of the batch
        ("ts_us", "i8"),
        ("ordinal", "u8"),
        ("opened_us", "i8"),
        ("opened_ordinal", "u8"),
        ("above_us", "i8"),
        ("suspect_us", "i8"),
        ("leak_requests", "i8"),
        ("leak_bytes", "i8"),
        ("score", "f8"),
        ("threshold", "f8"),
        ("z", "f4", (N_FAMILIES,)),
        ("context", "f4", (len(CONTEXT),)),  # of the same moment
        ("combined", "f4"),  # nats of the score that are no share of a sum
        ("corrected", "u1"),  # whether trees were asked; they may have added nothing
        ("known", "f8"),  # how far the key was settled, 0 to 1
        ("fresh", "u2", (KINDS,)),
        ("bursts", "f4", (KINDS,)),
        ("exposure", "f4"),
        ("count", "u4"),
        ("mean", "f4"),
        ("failing_routes", "f4"),
        ("failing_usual", "f4"),
        ("burst_size", "f4", (KINDS,)),
        ("mix_usual", "f4"),
        ("failed", "u4"),
        ("gap", "i4"),
        ("gap_before", "i4"),
        ("idents", "u4"),
        ("idents_new", "u4"),
        ("idents_usual", "f4"),
        ("actor", "u1"),
        ("network", "u8"),
        ("client", "u8"),
        ("route", "u8"),
        ("actor_first_us", "i8"),
        ("actor_requests", "u4"),
        ("actor_count", "u4"),
        ("actor_usual", "f4"),
        ("actor_foreign", "u4"),
        ("actor_route_new", "u2"),
        ("actor_area_new", "u2"),
        ("actor_switches", "u4"),
        ("actor_foreign_routes", "u4"),
        ("mix_route_usual", "f4"),
        ("by_block", "u1"),  # the block, not only the network, is new
        ("block", "u8"),
        ("owner_requests", "f4"),  # of established sources since the actor came
        ("owner_expected", "f4"),
        ("mean_usual", "f4"),  # requests per cell over all hours
        ("steps", "u4"),
        ("steps_trials", "u4"),
        ("steps_usual", "f4"),
        ("slow_usual", "f4", (3,)),
        ("slow_last", "f4", (3,)),
        ("slow_ramp", "u1"),  # 1: a ramp; slow.GROWTH: growth; 0: what a request takes
        ("mix_by_route", "u1"),
        ("fact", "u1"),
        ("prefix", "u8"),  # of a HARD row's path, where the grants fit without it
        ("change", "u1"),  # of a CHANGE row: what of the log changed for this key
        ("value", "u8"),  # and to what
        ("denied", "u4"),
        ("denied_usual", "f4"),
        ("missed", "u4"),
        ("missed_of", "u4"),
        ("missed_usual", "f4"),
        ("tries", "u4"),
        ("tries_cell", "u4"),
        # what stayed normal, and the data to say so
        ("age_cells", "i4"),  # of the key
        ("routed", "f4"),  # its decayed requests with a route; 0 past the cap of routes
        ("answered", "u4"),  # requests in the open cell
        ("refused", "u4"),  # of these, answered 4xx
        ("status", "i2"),  # of this event; 0 = the log does not say
        ("source", "u8"),  # the actor's network, or that of the latest event
        ("network_age", "i4"),  # cells since the key first had it; -1 = not known
        ("client_age", "i4"),  # the same for the actor's client
    ],
    align=True,
)
