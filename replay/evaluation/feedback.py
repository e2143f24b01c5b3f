"""Verdicts on our own alerts, as a person who finds out the truth would give them."""

from __future__ import annotations

from collections.abc import Sequence

from detector.core.control import EVERYONE
from detector.core.episodes import Episode
from models.clock import DAY_US
from replay.agenda import Wish
from replay.evaluation.judge import AFTERMATH_US
from replay.simulate.world_settings import Attack


class Feedback:
    """Answers each statistical alert ``days`` after it: confirmed for an attack, else expected.

    True is an alert on an attacked key from the attack's first request to a day after its last,
    and a notice that names an attacker's network then. A hard fact, and a notice about nothing
    that is an attack, get no answer: there is nothing to accept into a baseline.
    """

    def __init__(self, attacks: Sequence[Attack], days: float) -> None:
        self._attacks = attacks
        self._delay_us = int(days * DAY_US)

    def review(self, alert: Episode) -> Wish | None:
        """The verdict to come on an alert that is raised now."""
        if alert.is_hard or alert.alerted_us is None:
            return None
        is_true = any(self._is_of(alert, attack) for attack in self._attacks)
        if alert.key == EVERYONE and not is_true:
            return None
        verdict = "confirmed" if is_true else "expected"
        return Wish(alert.alerted_us + self._delay_us, verdict, alert_id=alert.alert_id)

    def _is_of(self, alert: Episode, attack: Attack) -> bool:
        at_us = alert.alerted_us or 0
        if not attack.start_us <= at_us <= attack.end_us + AFTERMATH_US:
            return False
        if alert.key == EVERYONE:
            return alert.actor is not None and alert.actor.network in attack.networks
        return alert.key in attack.keys
