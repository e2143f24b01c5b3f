"""What weights find at equal numbers of false alerts, of attacks they were not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from detector.core.episodes import CHANNELS, THROTTLE
from detector.core.events import I64
from replay.tune.collect import F64, Bags, Collected
from replay.tune.fit import LEVEL_BAGS, fit, fitted_families, scores
from replay.tune.injection import KINDS, Injection

RATES = (1.0, 3.0, 10.0)  # false alerts in 1,000 key-days
FOLDS = 5
RESAMPLES = 200
ATTACKS_MIN = 30  # of a channel; fewer teach nothing
STANDARD_ERRORS = 2.0  # by which fitted weights must be better

TOO_FEW = "only {0} attacks of this channel left any evidence; {1} are needed"
TOO_QUIET = "the clean log leaves too little evidence to compare with"
NOT_BETTER = "not better on attacks it was not fitted to"


@dataclass(frozen=True, slots=True)
class Found:
    """Of one kind of attack, the share found at each of ``RATES``."""

    kind: str
    attacks: int
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One channel's weights, and why they are used or not.

    - ``weights``  fitted to everything; the shipped ones where nothing could be fitted
    - ``found``    by kind, attacks judged by weights fitted without their victim's attacks
                   and without its clean days
    - ``gain``     mean share found over all rates, less that of the shipped weights
    - ``error``    standard error of the gain
    - ``reason``   one sentence when the shipped weights stay, else empty
    """

    channel: str
    weights: tuple[float, ...]
    found: tuple[Found, ...] = ()
    gain: float = 0.0
    error: float = 0.0
    reason: str = ""


def judge(
    channel: int,
    collected: Collected,
    injections: Sequence[Injection],
    shipped: tuple[float, ...],
    key_days: int,
    strength: float,
    rng: np.random.Generator,
) -> Judgement:
    """Fits a channel's weights and judges them by five-fold cross-validation over keys.

    ``key_days`` are those of the clean log in which a false alert could have been raised.
    """
    kinds = np.array([i.kind for i in injections])
    victims = np.array([i.victim for i in injections], np.int64)
    wanted = np.isin(kinds, KINDS[channel])
    clean, attacks = collected.clean[channel], collected.attacks[channel]
    attacks = attacks.take(wanted[attacks.unit])
    name, prior = CHANNELS[channel], np.array(shipped)
    if len(attacks) < ATTACKS_MIN:
        return Judgement(name, shipped, reason=TOO_FEW.format(len(attacks), ATTACKS_MIN))
    if len(clean) < LEVEL_BAGS * FOLDS:
        return Judgement(name, shipped, reason=TOO_QUIET)
    # what is slowed down is decided, not learned: no family enters that had no weight
    free = fitted_families(attacks, prior, only_weighted=channel == THROTTLE)
    key = victims[attacks.unit]
    s_attack, s_clean = _held_out(attacks, clean, key, partial(fit, prior, free, strength))
    before, after = np.full((2, len(kinds)), -np.inf)  # no row at all: never found
    before[attacks.unit], after[attacks.unit] = scores(attacks, prior), s_attack
    trial = Trial(
        attack=np.stack([before, after])[:, wanted],
        victim=victims[wanted],
        clean=np.stack([scores(clean, prior), s_clean]),
        owner=_key_of(clean),
        allowed=tuple(int(rate * key_days / 1000) for rate in RATES),
    )
    gain, error = trial.gain(), trial.error(rng)
    return Judgement(
        channel=name,
        weights=tuple(fit(prior, free, strength, attacks, clean).round(3).tolist()),
        found=_by_kind(kinds[wanted], KINDS[channel], trial.hits()),
        gain=gain,
        error=error,
        reason="" if gain > STANDARD_ERRORS * error else NOT_BETTER,
    )


def _held_out(
    attacks: Bags, clean: Bags, victim: I64, fitted: Callable[[Bags, Bags], F64]
) -> tuple[F64, F64]:
    """Scores of all bags, each with weights fitted to other keys."""
    s_attack, s_clean = np.zeros(len(attacks)), np.zeros(len(clean))
    for fold in range(FOLDS):  # keys are numbered by their hashes, so this is as good as chance
        is_out, is_clean_out = victim % FOLDS == fold, _key_of(clean) % FOLDS == fold
        weights = fitted(attacks.take(~is_out), clean.take(~is_clean_out))
        s_attack[is_out] = scores(attacks.take(is_out), weights)
        s_clean[is_clean_out] = scores(clean.take(is_clean_out), weights)
    return s_attack, s_clean


def _key_of(clean: Bags) -> I64:
    return clean.unit >> 32


@dataclass(frozen=True, slots=True)
class Trial:
    """Scores with the shipped (row 0) and the fitted weights (row 1).

    - ``attack``, ``clean``  scores, nats, float64[2, attacks] and float64[2, clean bags]
    - ``victim``, ``owner``  the key of each
    - ``allowed``            how many clean bags may be above the level at which one is found
    """

    attack: F64
    victim: I64
    clean: F64
    owner: I64
    allowed: tuple[int, ...]

    def hits(self) -> F64:
        """1 where an attack is above the level, else 0: ``[2, rates, attacks]``."""
        levels = [[_level(s, allowed) for allowed in self.allowed] for s in self.clean]
        return (self.attack[:, None, :] > np.array(levels)[:, :, None]).astype(np.float64)

    def gain(self) -> float:
        """Mean share of attacks found with the fitted weights, less that with the shipped ones."""
        before, after = self.hits()
        return float((after - before).mean())

    def error(self, rng: np.random.Generator) -> float:
        """The gain's standard error, by a bootstrap over keys (Efron, 1979)."""
        n_keys = 1 + max(self.victim.max(), self.owner.max())
        gains = []
        for _ in range(RESAMPLES):
            times = np.bincount(rng.integers(0, n_keys, n_keys), minlength=n_keys)
            attack = np.repeat(np.arange(len(self.victim)), times[self.victim])
            clean = np.repeat(np.arange(len(self.owner)), times[self.owner])
            drawn = replace(self, attack=self.attack[:, attack], clean=self.clean[:, clean])
            gains.append(drawn.gain())
        return float(np.std(gains))


def _level(clean: F64, allowed: int) -> float:
    """The score that at most ``allowed`` of the clean bags exceed."""
    return float(np.sort(clean)[-1 - allowed]) if allowed < len(clean) else -np.inf


def _by_kind(kind: npt.NDArray[np.str_], names: Sequence[str], hits: F64) -> tuple[Found, ...]:
    found = []
    for name in names:
        mine = kind == name
        if mine.any():
            before, after = (tuple(of.mean(axis=1).tolist()) for of in hits[:, :, mine])
            found.append(Found(name, int(mine.sum()), before, after))
    return tuple(found)
