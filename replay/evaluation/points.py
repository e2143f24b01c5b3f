"""What a method says, reduced to what a judge needs: when a score first reached a threshold.

A method that thinks in episodes gives ``Points``; one that gives a score per key and window
gives a ``Series``. Both answer ``alerts(thresholds)``, and both follow the same rule of what
one alert is, so false alerts of different methods are counted in the same coin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from detector.core.episodes import Episode
from models.clock import DAY_US

I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

STOLEN, ABUSED, THROTTLE, HARD = range(4)
CHANNEL_NAMES = ("stolen", "abused", "throttle", "hard")
N_CHANNELS = len(CHANNEL_NAMES)
NO_KEY = -1

QUIET_US = DAY_US  # a key whose score rests below the threshold for longer may alert again
ALERT_MAX_US = 7 * DAY_US  # and so may one whose score has stayed above it for longer


@dataclass(frozen=True, slots=True)
class Alerts:
    """What would have been raised, in order of time; arrays of equal length.

    ``unit`` tells alerts of one method apart, ``key`` is an index into the world's keys or
    ``NO_KEY``, ``channel`` one of STOLEN, ABUSED, THROTTLE, HARD.
    """

    unit: I64
    key: I32
    channel: I8
    ts_us: I64

    def __len__(self) -> int:
        return len(self.ts_us)


@dataclass(frozen=True, slots=True)
class Note:
    """What a unit says beside its score: ``signals``, the strongest first, and a network.

    ``network`` is as ``core.network.network_text`` writes it, ``None`` where none is named.
    """

    signals: tuple[str, ...]
    network: str | None


class Scored(Protocol):
    """A method's whole answer to one world."""

    def alerts(self, thresholds: F64) -> Alerts:
        """The alerts at ``thresholds[N_CHANNELS]``; ``inf`` silences a channel."""
        ...

    def rows(self) -> tuple[I32, I8, I64, F64]:
        """Key, channel, event time and score of all there is, in no particular order."""
        ...


@dataclass(frozen=True, slots=True)
class Points:
    """Score maxima of a method that thinks in episodes, sorted by (unit, ts_us).

    - ``unit``    episode number: one unit is one possible alert
    - ``key``     index into the world's keys, ``NO_KEY`` = a notice about no single key
    - ``channel`` STOLEN, ABUSED, THROTTLE or HARD (a fact, outside any budget)
    - ``ts_us``   event time
    - ``score``   increasing within a unit
    """

    unit: I64
    key: I32
    channel: I8
    ts_us: I64
    score: F64

    def alerts(self, thresholds: F64) -> Alerts:
        """Each unit alerts once, at its first point with ``score >= threshold`` of its channel."""
        above = np.flatnonzero(self.score >= thresholds[self.channel])
        unit = self.unit[above]
        first = above[np.flatnonzero(np.diff(unit, prepend=-1) != 0)]
        return _in_time(self.unit[first], self.key[first], self.channel[first], self.ts_us[first])

    def rows(self) -> tuple[I32, I8, I64, F64]:
        """Key, channel, event time and score of every point."""
        return self.key, self.channel, self.ts_us, self.score


@dataclass(frozen=True, slots=True)
class Series:
    """Scores of a method that judges a key again and again, sorted by (key, ts_us).

    ``ts_us`` is the event time at which the score is known: the end of a window, not its
    beginning. All alerts are of the channel STOLEN: such a method has one threshold.
    """

    key: I32
    ts_us: I64
    score: F64

    def alerts(self, thresholds: F64) -> Alerts:
        """A key alerts when its score reaches the threshold, and then is one alert for a while.

        The alert lasts until the score has been below the threshold for more than QUIET_US
        (24 h) or until ALERT_MAX_US (7 days) after it was raised, whichever is first; the next
        score at or above the threshold is a new alert. The live service's episodes end by the
        same two limits, so a method is charged once, not daily, for a key that stays odd.
        """
        above = np.flatnonzero(self.score >= thresholds[STOLEN])
        first = above[_openings(self.key[above], self.ts_us[above])]
        channel = np.full(len(first), STOLEN, np.int8)
        return _in_time(first.astype(np.int64), self.key[first], channel, self.ts_us[first])

    def rows(self) -> tuple[I32, I8, I64, F64]:
        """Key, channel, event time and score of every row."""
        return self.key, np.full(len(self.key), STOLEN, np.int8), self.ts_us, self.score


def points_of_series(key: I32, ts_us: I64, score: F64) -> Series:
    """A ``Series`` from a score per row, rows in any order.

    ``key[n]`` indexes the world's keys, ``ts_us[n]`` is when the score is known and ``score[n]``
    is any number that orders: only comparisons with a threshold matter, so no calibration is
    needed. Rows whose score is NaN are left out; of several rows of a key at one time all count.

    >>> day = 86_400_000_000
    >>> series = points_of_series(np.array([0, 0, 0, 1]), np.array([0, 1, 3, 1]) * day // 1,
    ...                           np.array([5.0, 5.0, 5.0, 1.0]))
    >>> series.alerts(np.full(4, 5.0)).ts_us // day
    array([0, 3])
    """
    kept = np.flatnonzero(~np.isnan(score))
    order = kept[np.lexsort((ts_us[kept], key[kept]))]
    return Series(
        key[order].astype(np.int32), ts_us[order].astype(np.int64), score[order].astype(np.float64)
    )


def points_of_episodes(episodes: Sequence[Episode], number_of_key: Mapping[str, int]) -> Points:
    """The curves of our own episodes; unit i is ``episodes[i]``.

    A key that is not in ``number_of_key`` becomes ``NO_KEY``.
    """
    unit, key, channel, ts_us, score = [], [], [], [], []
    for i, episode in enumerate(episodes):
        of, number = channel_of(episode), number_of_key.get(episode.key, NO_KEY)
        for at_us, nats, _, _ in episode.curve:
            unit.append(i)
            key.append(number)
            channel.append(of)
            ts_us.append(at_us)
            score.append(nats)
    return Points(
        np.array(unit, np.int64),
        np.array(key, np.int32),
        np.array(channel, np.int8),
        np.array(ts_us, np.int64),
        np.array(score, np.float64),
    )


def alerts_of_episodes(alerts: Sequence[Episode], number_of_key: Mapping[str, int]) -> Alerts:
    """Alerts that were really raised; unit i is ``alerts[i]``."""
    return _in_time(
        np.arange(len(alerts)),
        np.array([number_of_key.get(a.key, NO_KEY) for a in alerts], np.int32),
        np.array([channel_of(a) for a in alerts], np.int8),
        np.array([a.alerted_us for a in alerts], np.int64),
    )


def channel_of(episode: Episode) -> int:
    """STOLEN, ABUSED, THROTTLE, or HARD for a fact."""
    return HARD if episode.is_hard else CHANNEL_NAMES.index(episode.channel)


def notes_of_episodes(episodes: Sequence[Episode]) -> list[Note]:
    """Reasons and actor's network of each episode, in the episodes' order."""
    return [
        Note(tuple(r.signal for r in e.reasons), e.actor.network if e.actor else None)
        for e in episodes
    ]


def _openings(key: I32, ts_us: I64) -> npt.NDArray[np.intp]:
    """Rows, of those above a threshold and sorted by (key, ts_us), that open an alert."""
    if not len(key):
        return np.empty(0, np.intp)
    breaks = (np.diff(key) != 0) | (np.diff(ts_us) > QUIET_US)
    is_opening = np.concatenate([[True], breaks])
    # one number per row that sorts as (key, ts_us) does, so that one search serves all keys
    first_us = int(ts_us.min())
    span_us = int(ts_us.max()) - first_us + 2 * ALERT_MAX_US
    place = key.astype(np.int64) * span_us + (ts_us - first_us)
    opened = np.flatnonzero(is_opening)
    ends = np.append(opened[1:], len(key))
    while len(opened):  # at most one round per ALERT_MAX_US of the log
        again = np.searchsorted(place, place[opened] + ALERT_MAX_US, side="right")
        longer = again < ends
        opened, ends = again[longer], ends[longer]
        is_opening[opened] = True
    return np.flatnonzero(is_opening)


def _in_time(unit: I64, key: I32, channel: I8, ts_us: I64) -> Alerts:
    order = np.lexsort((unit, ts_us))
    return Alerts(unit[order], key[order], channel[order], ts_us[order])
