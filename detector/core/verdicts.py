"""Control records at work on one shard's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from detector.core import kernel_episodes, key_state
from detector.core.book import EpisodeBook
from detector.core.control import Confirmed, Control, Expected, Reset, Withdrawn
from detector.core.episodes import ABUSED, CHANNELS, STOLEN
from detector.core.key_state import I64, Known
from detector.core.lessons import Lessons
from detector.core.network import pack_block
from detector.core.sentences import Texts
from detector.core.tables import State
from models import actor as actors_
from models import novelty
from models.clock import CELLS_PER_DAY, cell_of

QUIET_CELLS = 7 * CELLS_PER_DAY  # a key's expected behaviour has so long to become its usual
STANDING_MAX = 1000  # verdicts a shard can take back; older ones stand for good


class Standing(msgspec.Struct, array_like=True, frozen=True):
    """What a verdict that can be withdrawn has changed: pairs by tag, and a quiet channel."""

    key: str
    tags: list[int]
    is_quiet: bool = False
    is_bar: bool = False


class Controls(msgspec.Struct):
    """What a shard remembers of control records.

    ``sequence`` is the last one applied; -1 = none. ``standing`` is bounded: the oldest go.
    """

    sequence: int = -1
    standing: dict[str, Standing] = {}
    lessons: Lessons = msgspec.field(default_factory=Lessons)

    def stand(self, name: str, standing: Standing) -> None:
        """Remembers a verdict, which takes the place of an earlier one of that name."""
        self.standing.pop(name, None)
        self.standing[name] = standing
        while len(self.standing) > STANDING_MAX:
            del self.standing[next(iter(self.standing))]


class Parts(NamedTuple):
    """The parts of a shard that a record about the key at ``slot`` may change."""

    state: State
    slot: int
    texts: Texts
    book: EpisodeBook
    controls: Controls


def apply(record: Control, parts: Parts) -> None:
    """Applies a record to its key."""
    if isinstance(record, Expected):
        _expected(record, parts)
    elif isinstance(record, Confirmed):
        _confirmed(record, parts)
    elif isinstance(record, Withdrawn):
        _withdrawn(record, parts)
    else:
        _reset(record, parts)


def _expected(record: Expected, p: Parts) -> None:
    """The source is the key's own; in ABUSED, what the key does may become its usual."""
    _withdrawn(record, p)  # of an earlier verdict on the same alert
    known, whose = key_state.known_values(p.state, p.slot), _actors(record, p)
    named = _named(record, known, whose, p)
    places = _fresh(p, np.concatenate([named.places, _came_with(record, known, whose, p)]))
    key_state.accept(p.state, places)
    for place in whose:
        key_state.drop_actor(p.state, p.slot, int(place))
    is_quiet = record.channel == CHANNELS[ABUSED]
    if is_quiet:
        key_state.calm(p.state, p.slot)
        until = cell_of(record.at_us) + QUIET_CELLS
        if record.until_us is not None:
            until = cell_of(record.until_us)
        p.state.episodes["quiet_cell"][p.slot, ABUSED] = until
        _close(p, ABUSED, record.at_us)
    if record.channel == CHANNELS[STOLEN] or _is_suspect(record, p):
        _close(p, STOLEN, record.at_us)
    key_state.lift_hold(p.state, p.slot)
    tags = key_state.tags_of(p.state, places)
    p.controls.stand(record.name, Standing(record.key, tags, is_quiet))


def _confirmed(record: Confirmed, p: Parts) -> None:
    """The source stays a stranger however long it is there, and its cells teach nothing."""
    _withdrawn(record, p)
    known, whose = key_state.known_values(p.state, p.slot), _actors(record, p)
    places = _named(record, known, whose, p).places
    if not record.network and not record.client:
        places = _came_with(record, known, whose, p)
    strange = [i for i in _fresh(p, places).tolist() if _is_strange(p, i)]
    places = np.array(strange, np.int64)
    key_state.bar(p.state, places)
    tags = key_state.tags_of(p.state, places)
    p.controls.stand(record.name, Standing(record.key, tags, is_bar=True))


def _withdrawn(record: Control, p: Parts) -> None:
    """What a verdict accepted is news again, what it barred may be established again."""
    standing = p.controls.standing.pop(record.name, None)
    if standing is None:
        return
    places = key_state.places_of(p.state, standing.tags)
    if standing.is_bar:
        key_state.bar(p.state, places, lift=True)
    else:
        key_state.unknow(p.state, places)
    if standing.is_quiet:
        p.state.episodes["quiet_cell"][p.slot, ABUSED] = 0


def _reset(record: Reset, p: Parts) -> None:
    for channel in range(len(CHANNELS)):
        _close(p, channel, record.at_us)
    key_state.forget(p.state, p.slot)
    for name, standing in list(p.controls.standing.items()):
        if standing.key == record.key:
            del p.controls.standing[name]


def _actors(record: Control, p: Parts) -> I64:
    """The key's actors that a record means: its network and client, or one of them alone."""
    if not record.network and not record.client:
        return np.empty(0, np.int64)
    rows = [
        place
        for place in key_state.actors_of(p.state, p.slot).tolist()
        if record.network in ("", p.texts.network(int(p.state.actors["network"][place])))
        and record.client in ("", p.texts.client(int(p.state.actors["client"][place])))
    ]
    return np.array(rows, np.int64)


def _named(record: Control, known: Known, whose: I64, p: Parts) -> Known:
    """The network, its block and the client, as far as the key has met them."""
    networks = _with_text(record.network, known, novelty.NETWORK, p.texts.network)
    clients = _with_text(record.client, known, novelty.CLIENT, p.texts.client)
    blocks = {pack_block(value) for value in networks}
    blocks |= {int(b) for b in p.state.actors["block"][whose]} if record.network else set()
    wanted = ((novelty.NETWORK, networks), (novelty.CLIENT, clients), (novelty.BLOCK, blocks))
    chosen = np.zeros(len(known.places), np.bool_)
    for kind, values in wanted:
        among = [v in values for v in known.values.tolist()]
        chosen |= (known.kinds == kind) & np.array(among, np.bool_)
    return known.where(chosen)


def _with_text(text: str, known: Known, kind: int, text_of: Callable[[int], str]) -> set[int]:
    values = known.values[known.kinds == kind].tolist() if text else []
    return {v for v in values if text_of(v) == text}


def _came_with(record: Control, known: Known, whose: I64, p: Parts) -> I64:
    """Routes and areas new to the key since the actor came, or since the suspicion began."""
    since_us = record.since_us
    if since_us == 0 and len(whose):
        since_us = int(p.state.actors["first_us"][whose].min())
    if since_us == 0:
        return np.empty(0, np.int64)
    late: npt.NDArray[np.bool_] = p.state.pairs["first_cell"][known.places] >= cell_of(since_us)
    paths = (known.kinds == novelty.ROUTE) | (known.kinds == novelty.AREA)
    came: I64 = known.places[late & paths]
    return came


def _fresh(p: Parts, places: I64) -> I64:
    """Those that still cost something; the others are the key's own anyway."""
    costs: npt.NDArray[np.bool_] = p.state.pairs["entry"][places] > 0
    fresh: I64 = places[costs]
    return fresh


def _is_strange(p: Parts, place: int) -> bool:
    pair, key = p.state.pairs[place], p.state.keys[p.slot]
    age = int(key["cell"]) - int(pair["first_cell"])
    return bool(
        actors_.established(int(pair["cells"]), int(pair["days"]), age, int(key["cells"])) < 1.0
    )


def _is_suspect(record: Expected, p: Parts) -> bool:
    """True when the open STOLEN episode points at the source that is expected."""
    episode = p.book.open.get((p.slot, STOLEN))
    if episode is None or episode.actor is None or not (record.network or record.client):
        return False
    actor = episode.actor
    return record.network in ("", actor.network) and record.client in ("", actor.client)


def _close(p: Parts, channel: int, at_us: int) -> None:
    e = p.state.episodes[p.slot, channel]
    p.book.end(p.slot, channel, e, at_us)
    kernel_episodes.clear(e)
