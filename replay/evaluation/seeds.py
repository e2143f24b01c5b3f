"""Which worlds may be looked at while something is being chosen, and which may not.

A number that was tuned on a world flatters itself there. Every choice (weights, caps, priors,
rules, a rival's settings) is made on TUNING alone. REPORTED are the worlds of published
figures: they are run when the choices are made, and choose nothing. Whoever changes a choice
after looking at REPORTED says so beside the figures, or moves on to fresh seeds.
"""

from __future__ import annotations

TUNING = range(1, 6)
REPORTED = range(101, 111)
