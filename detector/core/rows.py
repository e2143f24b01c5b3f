"""What comes out of the fold: one row per episode opened, raised, closed, hard fact, or silence.

A row copies what its episode's sentences need, so that nothing later in the log can change it.
"""

from __future__ import annotations

import numpy as np

from models.fusion import N_FAMILIES
from models.novelty import KINDS

OPEN, PEAK, CLOSE, HARD, SILENT = 1, 2, 3, 4, 5

ROW = np.dtype(
    [
        ("kind", "u1"),  # OPEN, PEAK, CLOSE, HARD or SILENT
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
        ("slow_ramp", "u1"),
        ("mix_by_route", "u1"),
        ("fact", "u1"),
        ("denied", "u4"),
        ("denied_usual", "f4"),
        ("missed", "u4"),
        ("missed_of", "u4"),
        ("missed_usual", "f4"),
        ("tries", "u4"),
        ("tries_cell", "u4"),
    ],
    align=True,
)
