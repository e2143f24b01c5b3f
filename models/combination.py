"""What signs mean together: a correction of the sum of weighted evidence, by small trees.

A sum cannot say that new routes from a key's own source are a release, and the same routes
from a source that shares nothing with the key are a theft. Trees can: each asks three
questions ("new_route above 6.5? exposure above 900? new_network above 2?") and adds the nats
that fit the eight answers. They are boosted on top of the sum, so they only say what it
misses, and they are shipped: ``python -m benchmarks.fit trees`` makes ``combination.json``
from simulated fleets that no reported figure uses, and from thefts spliced into a public log.
More evidence of a family never lowers a correction; what is known of the key may do either.

Sources: gradient boosting (Friedman 2001, "Greedy function approximation"), oblivious trees
as in CatBoost (Prokhorenkova et al. 2018): one question for a whole level, so a tree is a
table that is looked up without a branch.

Trade-off: a correction is less easily told than a share of a sum. So it is shown as one
number beside the shares, and what would have silenced an alert is worked out with it.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.families import FAMILIES
from models.fusion import QUANTUM

DEPTH = 3
CHANNELS = ("stolen", "abused")  # a throttle is decided by its sum alone
# What else a tree may ask about, beside the families' evidence.
CONTEXT = (
    "known",  # how far the key is settled, 0 to 1
    "exposure",  # decayed active cells
    "usual",  # requests a cell over all hours
    "network_bursts",  # decayed cells that brought new networks
    "client_bursts",
    "route_bursts",
    "network_age",  # cells since the key first had the source's network; -1 = no source, not kept
    "client_age",  # of its client; either is the key's age where the log does not name it
    "actor_requests",
    "foreign_usual",  # usual share of requests to areas as young as the actor
)
FEATURES = (*FAMILIES, *CONTEXT)
N_FEATURES = len(FEATURES)
FROM_NATS = 1.0  # a lower sum is left as it is: the trees were made from higher ones
CORRECTION_MIN, CORRECTION_MAX = -4.0, 16.0  # nats: what is strong on its own stays visible


class Trees(NamedTuple):
    """Trees by channel, as the fold takes them.

    - ``feature``  what a level asks about, int64[channels, trees, DEPTH]
    - ``above``    and above which value the answer is yes, float32[channels, trees, DEPTH]
    - ``nats``     by answers, the first level's as the highest bit, float64[.., 2 ** DEPTH]
    """

    feature: Any
    above: Any
    nats: Any


NONE = Trees(
    np.zeros((len(CHANNELS), 0, DEPTH), np.int64),
    np.zeros((len(CHANNELS), 0, DEPTH), np.float32),
    np.zeros((len(CHANNELS), 0, 1 << DEPTH)),
)


@kernel
def together(x: Any, trees: Trees, channel: int) -> float:
    """The correction, nats; ``x[N_FEATURES]``, compared as float32.

    >>> import numpy as np
    >>> x = np.zeros(N_FEATURES)
    >>> one = Trees(np.zeros((2, 1, 3), np.int64), np.ones((2, 1, 3), np.float32),
    ...             np.arange(16.0).reshape(2, 1, 8))
    >>> together(x, one, 0), together(x + 2.0, one, 0), together(x + 9.0, one, 1)
    (0.0, 7.0, 15.0)
    """
    total = 0.0
    for tree in range(trees.nats.shape[1]):
        leaf = 0
        for level in range(DEPTH):
            value = np.float32(x[trees.feature[channel, tree, level]])
            leaf = 2 * leaf + int(value > trees.above[channel, tree, level])
        total += trees.nats[channel, tree, leaf]
    return min(max(total, CORRECTION_MIN), CORRECTION_MAX)


@kernel
def corrected(score: float, least: float, x: Any, trees: Trees, channel: int) -> float:
    """A sum of FROM_NATS or more with its correction, quantised as sums are.

    Never below ``least``, the share of ``slow_drift``: it guards against a baseline that is led
    astray over weeks, of which trees made from two weeks of attacks know nothing.
    """
    if score < FROM_NATS:
        return score
    total = max(score + together(x, trees, channel), least, 0.0)
    return float(np.floor(total * QUANTUM + 0.5) / QUANTUM)


def trees_of(table: dict[str, list[Any]]) -> Trees:
    """Trees from ``{channel: [[[[feature, above], ...], [nats, ...]], ...]}``.

    Raises ``KeyError`` or ``ValueError`` for a table of another shape.
    """
    index = {name: i for i, name in enumerate(FEATURES)}
    made = [table[channel] for channel in CHANNELS]
    feature = [[[index[name] for name, _ in asked] for asked, _ in trees] for trees in made]
    above = [[[value for _, value in asked] for asked, _ in trees] for trees in made]
    nats = [[leaves for _, leaves in trees] for trees in made]
    shape = len(CHANNELS), -1, DEPTH
    return Trees(
        np.array(feature, np.int64).reshape(shape),
        np.array(above, np.float32).reshape(shape),
        np.array(nats, np.float64).reshape(len(CHANNELS), -1, 1 << DEPTH),
    )


@cache
def shipped() -> Trees:
    """The trees that come with this version."""
    text = resources.files("models").joinpath("combination.json").read_text("utf-8")
    return trees_of(json.loads(text))


class Combination(AnomalyDetector):
    """The correction of a channel's sum; the features are ``FEATURES``, missing ones 0.

    Parameters
    ----------
    channel
        ``"stolen"`` or ``"abused"``.

    Examples
    --------
    The same new routes say more from a stranger than from a source of the key's own:

    >>> model = Combination("stolen")
    >>> settled = {"known": 1.0, "exposure": 1500.0, "usual": 5.0, "new_route": 9.0}
    >>> stranger = {"new_network": 7.0, "new_client": 7.0, "foreign_mix": 5.0}
    >>> model.score_one(settled) < model.score_one({**settled, **stranger})
    True
    """

    def __init__(self, channel: str = "stolen") -> None:
        self.channel = channel

    def score_one(self, x: dict[str, Any]) -> float:
        """The correction, nats; may be negative."""
        vector = np.array([float(x.get(name, 0.0)) for name in FEATURES])
        return float(together(vector, shipped(), CHANNELS.index(self.channel)))

    def learn_one(self, x: dict[str, Any]) -> Combination:  # noqa: ARG002 - River's signature
        """The shipped trees do not grow."""
        return self
