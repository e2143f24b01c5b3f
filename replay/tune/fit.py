"""Fitting one channel's weights: logistic regression pulled towards the shipped ones.

A logistic regression on all key-days fits the bulk of them, but alerts come from the few at
the top. So the fit sees the highest tenth of the clean bags only, chosen anew in each round
(hard-negative mining), and attacks that no weights would find count little. Found of held-out
attacks on two simulated fleets at one false alert in 1,000 key-days: STOLEN .32 fitted to all
key-days, .38 to the highest tenth; ABUSED .61 and .66.

A family which the attacks hardly show keeps its shipped weight: there is nothing to learn
from. The result is scaled so that the highest clean bags score as before, so thresholds keep
their meaning. No weight leaves a quarter to four times the shipped one; a family without a
weight may bring 3 nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize  # type: ignore[import-untyped]

from models import fusion
from replay.tune.collect import F64, Bags, counted

STRENGTH = 3.0
ROUNDS = 3
HARD_PART, HARD_MIN = 0.1, 20  # of the clean bags, the highest
SHOWN_NATS, SHOWN_MIN = 0.5, 10  # a family is fitted when that many attacks show so much of it
TOP_PART = 0.002  # of the clean bags; they say how high an attack must score to be found
REACH_NATS, REACH_WIDTH_NATS = 3.0, 1.5  # an attack farther below that counts little ...
REACH_LEAST = 0.05  # ... at least this
CHANGE_LEAST, CHANGE_MOST = 0.25, 4.0  # times the shipped weight
ENTER_NATS = 3.0  # the most a family without a shipped weight may bring
LEVEL_BAGS = 20  # the highest clean bags, whose mean score stays
SCALE_MIN, SCALE_MAX = 0.1, 10.0
TELLING_NATS = 4.0  # lower clean scores do not say what a nat is worth at a threshold
_SLOPE_START, _OFFSET_START = float(np.log(0.3)), -3.0
_LOG_SLOPE = (-3.0, 1.0)
_SIZE = np.array(fusion.CAPS) / fusion.CAP  # makes weights of families with other caps comparable

Mask = npt.NDArray[np.bool_]


def scores(bags: Bags, weights: F64) -> F64:
    """Each bag's highest score over what a young key's threshold is raised by, nats."""
    return _highest(bags, weights)[1]


def _highest(bags: Bags, weights: F64) -> tuple[F64, F64, F64]:
    """Of each bag the evidence of its highest row, its score, and its ``extra``."""
    if not len(bags):
        return np.zeros((0, fusion.N_FAMILIES)), np.zeros(0), np.zeros(0)
    z = counted(bags.z, weights)
    score = z @ weights - bags.extra
    best = np.maximum.reduceat(score, bags.first)
    bag = np.repeat(np.arange(len(bags)), np.diff(bags.first, append=len(score)))
    at = np.flatnonzero(score == best[bag])
    at = at[np.unique(bag[at], return_index=True)[1]]
    return z[at], best, bags.extra[at]


def fitted_families(attacks: Bags, shipped: F64, *, only_weighted: bool) -> Mask:
    """Which families' weights the attacks can teach; ``only_weighted``: of those that have one."""
    z, _, _ = _highest(attacks, shipped)
    shown: Mask = (z > SHOWN_NATS).sum(axis=0) >= SHOWN_MIN
    return shown & (shipped > 0) if only_weighted else shown


@dataclass(frozen=True, slots=True)
class _Problem:
    """A weighted logistic regression. Parameters: free weights, log slope, offset."""

    z: F64
    extra: F64
    sign: F64  # 1 for an attack, -1 for a clean bag
    share: F64  # of the loss; attacks together 1, clean bags together 1
    shipped: F64
    free: Mask
    strength: float

    def weights(self, x: F64) -> F64:
        weights = self.shipped.copy()
        weights[self.free] = x[:-2]
        return weights

    def loss(self, x: F64) -> tuple[float, F64]:
        """Log loss and pull, with their gradient."""
        weights, slope = self.weights(x), np.exp(x[-2])
        score = self.z @ weights - self.extra
        margin = self.sign * (slope * score + x[-1])
        away = (weights - self.shipped) * _SIZE
        loss = self.share @ np.logaddexp(0.0, -margin) + self.strength * (away @ away)
        push = -self.sign * self.share / (1.0 + np.exp(np.minimum(margin, 500.0)))
        gradient = slope * (push @ self.z) + 2 * self.strength * away * _SIZE
        tail = [slope * (push @ score), push.sum()]
        return float(loss), np.concatenate([gradient[self.free], tail])


def fit(shipped: F64, free: Mask, strength: float, attacks: Bags, clean: Bags) -> F64:
    """Non-negative weights of a channel; those not ``free`` stay as they are.

    ``strength`` is the pull towards the shipped weights, as of so many attacks and clean bags
    that ask for nothing else.
    """
    low, high = limits_of(shipped)
    bounds = [*zip(low[free], high[free], strict=True), _LOG_SLOPE, (None, None)]
    weights, x = shipped, np.concatenate([shipped[free], [_SLOPE_START, _OFFSET_START]])
    for _ in range(ROUNDS):
        problem = _problem(attacks, clean, weights, shipped, free, strength)
        x = minimize(problem.loss, x, jac=True, method="L-BFGS-B", bounds=bounds).x
        weights = problem.weights(x)
    return levelled(weights, clean, shipped, (low, high))


def limits_of(shipped: F64) -> tuple[F64, F64]:
    """The least and the most a weight may become: one log does not decide everything."""
    entering = ENTER_NATS / np.array(fusion.CAPS)
    return shipped * CHANGE_LEAST, np.maximum(shipped * CHANGE_MOST, entering)


def _problem(
    attacks: Bags, clean: Bags, weights: F64, shipped: F64, free: Mask, strength: float
) -> _Problem:
    z_attack, s_attack, extra_attack = _highest(attacks, weights)
    z_clean, s_clean, extra_clean = _highest(clean, weights)
    order = np.argsort(-s_clean, kind="stable")
    hard = order[: max(HARD_MIN, round(HARD_PART * len(order)))]
    top = s_clean[order[: max(1, round(TOP_PART * len(order)))]].mean()
    short = (top - s_attack - REACH_NATS) / REACH_WIDTH_NATS
    within = REACH_LEAST + 1.0 / (1.0 + np.exp(np.minimum(short, 500.0)))
    share = np.concatenate([within / within.sum(), np.full(len(hard), 1.0 / len(hard))])
    return _Problem(
        z=np.concatenate([z_attack, z_clean[hard]]),
        extra=np.concatenate([extra_attack, extra_clean[hard]]),
        sign=np.repeat([1.0, -1.0], [len(z_attack), len(hard)]),
        share=share,
        shipped=shipped,
        free=free,
        strength=strength / min(len(z_attack), len(hard)),
    )


def levelled(weights: F64, clean: Bags, shipped: F64, limits: tuple[F64, F64]) -> F64:
    """The weights that differ from the shipped ones times one number, within the limits.

    The number is what makes the highest clean bags score as with the shipped weights; at most
    1 where those scores are too low to tell, so far below any threshold.
    """
    wanted, changed = _level(clean, shipped), weights != shipped
    most = SCALE_MAX if wanted >= TELLING_NATS else 1.0

    def scaled(by: float) -> F64:
        return np.where(changed, np.clip(weights * by, *limits), weights)

    def above(by: float) -> float:
        return _level(clean, scaled(by)) - wanted

    if above(SCALE_MIN) >= 0.0 or above(most) <= 0.0:
        return weights
    return scaled(float(brentq(above, SCALE_MIN, most, xtol=1e-4)))


def _level(clean: Bags, weights: F64) -> float:
    return float(np.sort(scores(clean, weights))[-LEVEL_BAGS:].mean())
