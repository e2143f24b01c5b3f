"""Verdicts: weights that follow what people say about alerts, a little at a time.

River's online logistic regression over the shares of a score. Nats are log odds, so the score
less its threshold is the log odds of a true alert before anybody has said anything, and every
verdict moves the factor of each share by how surprising it was. No factor leaves [0.5, 1.5],
however many verdicts agree: whoever gives them, or makes others give them, can shift the
balance but switch off nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from river import base, linear_model, optim

from models.families import FAMILIES
from models.fusion import CAPS, F_AREA, F_ROUTE, WEIGHTS
from models.weights import CHANNELS

FACTOR_MIN, FACTOR_MAX = 0.5, 1.5
_NAMES = frozenset(FAMILIES)


class _BoundedSGD(optim.SGD):
    """Gradient descent that ends each step within the bounds; what is no family stays at 1."""

    def step(self, w: Any, g: Any) -> Any:
        w = super().step(w, g)
        for name in g.keys():  # noqa: SIM118 - River's vectors are iterated by their keys
            w[name] = min(max(w[name], FACTOR_MIN), FACTOR_MAX) if name in _NAMES else 1.0
        return w


class VerdictWeights(base.Classifier):
    """Learns from verdicts on alerts how much each family should count.

    Parameters
    ----------
    channel
        ``"stolen"``, ``"abused"`` or ``"throttle"``.
    start
        Weights to start from and to stay near, one per family; the shipped ones by default.
    threshold_nats
        The score at which an alert is as likely true as not.
    learning_rate
        A verdict of full surprise on a share of n nats moves its factor by this times n.

    Examples
    --------
    >>> model = VerdictWeights("stolen")
    >>> for _ in range(3):
    ...     model.learn_one({"new_network": 8.0}, False)      # "that was expected"
    >>> model.weights()[0] < WEIGHTS[0][0], model.weights()[1:] == WEIGHTS[0][1:]
    (True, True)
    """

    def __init__(
        self,
        channel: str = "stolen",
        start: Sequence[float] | None = None,
        threshold_nats: float = 12.0,
        learning_rate: float = 0.01,
    ) -> None:
        self.channel = channel
        self.start = WEIGHTS[CHANNELS.index(channel)] if start is None else tuple(start)
        self.threshold_nats = threshold_nats
        self.learning_rate = learning_rate
        self._model = linear_model.LogisticRegression(
            optimizer=_BoundedSGD(learning_rate),
            l2=0.0,
            intercept_init=-threshold_nats,
            intercept_lr=0.0,
            initializer=optim.initializers.Constant(1.0),
        )
        # a lesson without weight: River makes a weight when it first learns of a feature
        self._model.learn_one(dict.fromkeys(FAMILIES, 0.0), False, w=0.0)

    def learn_shares(self, shares: Mapping[str, float], y: bool) -> None:
        """The same from the shares an alert shows, nats by family, under the starting weights.

        A share that is no family's counts for how likely the alert was; no factor comes of it.
        """
        self._model.learn_one({f: float(n) for f, n in shares.items() if n}, y)

    def factors(self) -> tuple[float, ...]:
        """By what each starting weight is multiplied, in the order of ``FAMILIES``."""
        factors = self._model.weights
        return tuple(float(factors[family]) for family in FAMILIES)

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        """Takes in a verdict on an alert with this evidence, nats by family; True = confirmed."""
        self._model.learn_one(self._shares(x), y)

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        """How likely an alert with this evidence is confirmed."""
        probability: dict[bool, float] = self._model.predict_proba_one(self._shares(x))
        return probability

    def weights(self) -> tuple[float, ...]:
        """The weights as learned so far, in the order of ``FAMILIES``."""
        return tuple(w * f for w, f in zip(self.start, self.factors(), strict=True))

    def _shares(self, x: dict[str, Any]) -> dict[str, float]:
        """Each family's share of the score as it was before any verdict; nested ones once."""
        z = np.minimum([float(x.get(family, 0.0)) for family in FAMILIES], CAPS)
        shares = z * np.array(self.start)
        shares[F_AREA if shares[F_ROUTE] >= shares[F_AREA] else F_ROUTE] = 0.0
        return {f: float(share) for f, share in zip(FAMILIES, shares, strict=True) if share}
