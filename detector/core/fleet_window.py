"""Keys that showed one thing lately: a sliding window of marks, bounded.

Marks lie in the order in which they were last made, so the old ones are at the front and a
look costs nothing but what expires.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import msgspec

from detector.core.episodes import Candidate, Reason
from detector.core.silence import score_left
from models.fusion import F_CLIENT, F_NETWORK

T = TypeVar("T")
_NEWS = ((F_NETWORK, "new_network"), (F_CLIENT, "new_client"))
UNWEIGHED_NATS = 1e-6  # evidence that only trees count still says that a source is new
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


class Mark(msgspec.Struct, array_like=True):
    """A key in a window, as its latest candidate made it.

    ``rest`` is what is left of the candidate's level without the thing at hand, nats.
    ``foreign``: the source also brought a client, routes or identifiers the key did not have.
    """

    at_us: int
    owner: str
    network: str
    alert_id: str
    rest: float
    foreign: bool


Window = dict[str, Mark]


class Sight(msgspec.Struct, frozen=True):
    """A candidate as the rules of common causes see it.

    ``level`` is its score without what a cold key must add, ``bar`` the threshold for it, ``total``
    the sum behind the score before its correction, all in nats; ``left`` says what the score would
    be if signals had another cause. ``now_us`` is the stage's time, which never runs back.
    """

    now_us: int
    key: str
    owner: str
    throttle: bool
    alert_id: str
    level: float
    bar: float
    nats: dict[str, float]
    network: str
    client: str
    channel: str = "stolen"
    total: float = 0.0
    left: Callable[[tuple[str, ...]], float] | None = None

    def share(self, *signals: str) -> float:
        """Nats that these signals carry."""
        return sum(self.nats.get(s, 0.0) for s in signals)

    def explained(self, *signals: str) -> float:
        """Nats that go if these signals have another cause, with what they mean beside others."""
        if self.left is None or not signals:
            return self.share(*signals)
        return max(0.0, self.left(()) - self.left(signals))

    def mark(self, rest: float, *, foreign: bool = False) -> Mark:
        """Made by this sight."""
        return Mark(self.now_us, self.owner, self.network, self.alert_id, rest, foreign)


class Notice(msgspec.Struct, frozen=True):
    """One sentence about many keys."""

    signal: str
    severity: str
    text: str
    keys: int
    expected: float
    network: str = ""


class Finding(msgspec.Struct, frozen=True):
    """What a common cause makes of a candidate.

    ``nats`` is added to its level: below 0 for what is explained, above for what a campaign
    adds (``reason``). With ``collapse`` it must not alert whatever its level. ``about`` names
    the cause, which is told once, in the words of ``notice``, about STOLEN unless
    ``is_of_channel``; what is urgent may overdraw the week's allowance.
    """

    nats: float = 0.0
    about: str = ""
    notice: Callable[[], Notice] | None = None
    collapse: bool = False
    reason: Reason | None = None
    is_urgent: bool = False
    is_of_channel: bool = False


def sight_of(c: Candidate, now_us: int, level: float, bar: float) -> Sight:
    """The view of a candidate."""
    e, nats = c.episode, dict[str, float]()
    for reason in e.reasons:
        nats[reason.signal] = nats.get(reason.signal, 0.0) + reason.nats
    for family, name in _NEWS:  # what weighs nothing in a sum, or too little to be a reason
        if e.grounds.signs and e.grounds.signs[family] > 0.0:
            nats.setdefault(name, UNWEIGHED_NATS)
    network, client = (e.actor.network, e.actor.client) if e.actor is not None else ("", "")
    who = (e.key, owner_of(c), c.throttle, e.alert_id)
    left = partial(score_left, e) if e.grounds.signs else None
    total = level - e.combined_nats
    return Sight(now_us, *who, level, bar, nats, network, client, e.channel, total, left)


def owner_of(c: Candidate) -> str:
    """A key without an owner is an owner of its own."""
    e = c.episode
    return f"={e.owner}" if e.owner is not None else f"*{e.key}"


def put(entries: dict[str, T], name: str, value: T, size_max: int) -> None:
    """Adds or renews an entry, last in order; at the limit the oldest goes."""
    if name in entries:
        del entries[name]
    elif len(entries) >= size_max:
        del entries[next(iter(entries))]
    entries[name] = value


def expire(window: Window, before_us: int) -> None:
    """Drops the marks made before that time."""
    while window:
        key = next(iter(window))
        if window[key].at_us >= before_us:
            return
        del window[key]


def expire_times(times: dict[str, int], before_us: int) -> None:
    """Same, for entries that are nothing but a time."""
    while times:
        key = next(iter(times))
        if times[key] >= before_us:
            return
        del times[key]


def recent(window: Window, since_us: int) -> int:
    """How many marks were made since then."""
    n = 0
    for mark in reversed(window.values()):
        if mark.at_us < since_us:
            break
        n += 1
    return n


def owners(window: Mapping[str, Mark]) -> int:
    """Distinct owners among the marks."""
    return len({m.owner for m in window.values()})


def some_keys(window: Mapping[str, Mark], shown: int = 6) -> str:
    """The first few keys by name, and how many more there are."""
    names = sorted(window)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def owned(window: Mapping[str, Mark]) -> str:
    """``9 keys of 4 owners``; owners are left out where the log names none.

    >>> owned({"a": Mark(0, "*a", "", "", 0.0, False)})
    '1 key'
    """
    n, known = len(window), {m.owner for m in window.values() if m.owner.startswith("=")}
    text = f"{n} key" if n == 1 else f"{n} keys"
    return f"{text} of {len(known)} owner{'s' if len(known) > 1 else ''}" if known else text
