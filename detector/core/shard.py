"""A shard: the state of one partition and the fold over its log."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detector.core import codec, kernel_episodes, kernels, key_state, tables, verdicts, violations
from detector.core.book import EpisodeBook, Subject, as_of
from detector.core.changes import changed, prefix_change
from detector.core.control import Control
from detector.core.episodes import Candidate, Episode
from detector.core.events import EventBatch, KeyName
from detector.core.fleet_silences import Silence
from detector.core.kernel_episodes import CLOSE_AFTER_US, EPISODE_MAX_US
from detector.core.kernel_silence import Sweeper
from detector.core.path_alias import PathAliases
from detector.core.registry import KeyRegistry
from detector.core.sentences import Texts
from detector.core.settings import ShardSettings
from detector.core.verdicts import Controls, Parts
from detector.core.violations import ViolationTable, sentence
from models.clock import CELL_US
from models.novelty import ROUTE

# A key's event may come this much later than others of its partition (the decoder's late
# limit and a little more); only then can another key's time decide that its episode is over.
SWEEP_GRACE_US = 90_000_000_000
_COUNTERS = (
    "events",
    "no_key",
    "late",
    "auth_failed",
    "keys_over_cap",
    "values_over_cap",
    "heirs",
    "heirs_blank",
)


class Columns(NamedTuple):
    """The columns a kernel reads, in one argument."""

    ts_us: Any
    key_hi: Any
    key_lo: Any
    network: Any
    client: Any
    route: Any
    area: Any
    block: Any
    ident: Any
    number: Any
    place: Any
    status: Any
    auth: Any
    size_bytes: Any
    fact: Any
    prefix: Any  # of a fact: the first segment without which there would be none
    aliases: Any


class Canonical(NamedTuple):
    """A shard's state without places: rows, open episodes, texts of values by kind."""

    rows: dict[str, npt.NDArray[Any]]
    episodes: list[Episode]
    texts: tuple[dict[int, str], ...]
    controls: Controls


class Shard:
    """``state, event -> state, evidence`` over one partition's log.

    Parameters
    ----------
    settings
        Thresholds and limits; two shards compare only under equal settings.
    registry
        Grants and owners of keys, if there is a registry.

    Notes
    -----
    Any split of a log into batches gives the same candidates, episodes and digest. Only
    key-local state is used, so the same holds for any number of shards.
    """

    def __init__(self, settings: ShardSettings, registry: KeyRegistry | None = None) -> None:
        self.settings = settings
        self.registry = registry
        self._has_heirs = registry is not None and registry.has_successors
        self._violations = ViolationTable(registry)
        self._state = tables.blank(keys=1024, pairs=8192, actors=1024)
        self._names: list[KeyName] = []
        self._texts = Texts()
        self._book = EpisodeBook()
        self._controls = Controls()
        self._rules = self._controls.lessons.rules(settings)
        self._slots: dict[str, int] = {}
        self._sweeper = Sweeper()
        self._silences: list[Silence] = []
        self._scratch = kernels.make_scratch()
        self._aliases = PathAliases()
        self._state.shard["off"] = settings.off
        self._next_close_us = 0

    @property
    def clock_us(self) -> int:
        """Largest event time seen; 0 before the first event."""
        return int(self._state.shard["clock_us"][0])

    @property
    def n_keys(self) -> int:
        """Live keys."""
        return int(self._state.shard["keys"][0])

    @property
    def n_events(self) -> int:
        """Events folded, those without a key included."""
        return int(self._state.shard["events"][0])

    @property
    def counters(self) -> dict[str, int]:
        """Events by what became of them, since the shard began."""
        return {name: int(self._state.shard[name][0]) for name in _COUNTERS}

    @property
    def sequence(self) -> int:
        """Sequence number of the last control record applied; -1 = none."""
        return self._controls.sequence

    @property
    def nbytes(self) -> int:
        """Memory of the state's arrays, room to grow included."""
        return sum(array.nbytes for array in self._state)

    def fold(self, batch: EventBatch) -> list[Candidate]:
        """Folds a batch in order; returns candidates in event order.

        Each candidate holds its episode as of its own event, whatever follows in the batch.
        """
        columns = self._columns(batch)
        candidates: list[Candidate] = []
        at, asked = 0, -1 if self._has_heirs else -2
        while at < len(batch):
            before = at
            at, n_rows, asks = kernels.fold(
                self._state, columns, at, asked, self.settings.keys_max, self._rules, self._scratch
            )
            self._take_names(batch)
            rows = self._scratch.rows[:n_rows]
            for row in rows:
                candidate = self._apply(row, batch)
                if candidate is not None:
                    candidates.append(candidate)
            rows[:] = np.zeros((), tables.ROW)
            if asks:
                asked = at
                self._welcome(batch, at)
            elif at == before or at < len(batch):
                self._state = tables.grown(self._state)
        self._sweep(self.clock_us - SWEEP_GRACE_US)
        return candidates

    def control(self, record: Control, sequence: int | None = None) -> bool:
        """Applies a control record here, between two events; True when its key is this shard's.

        Every shard is given every record: all of them learn from a verdict, one has the key.
        """
        if sequence is not None:
            self._controls.sequence = sequence
        slot = self._slot_of(record.key)
        if slot is not None:
            parts = Parts(self._state, slot, self._texts, self._book, self._controls)
            verdicts.apply(record, parts)
        if self._controls.lessons.take(record, self.settings):
            self._rules = self._controls.lessons.rules(self.settings)
        return slot is not None

    def factors_at(self, ts_us: int, channel: int) -> tuple[float, ...]:
        """What verdicts multiply a channel's weights by for an event of this time."""
        return self._controls.lessons.factors_at(ts_us, channel)

    def take_silences(self) -> list[Silence]:
        """Silences that ended since the last call; to be taken before a snapshot is."""
        taken, self._silences = self._silences, []
        return taken

    def silences(self, after_us: int, until_us: int) -> list[Silence]:
        """Silences that last and are due in ``(after_us, until_us]``, by the order of keys."""
        cells = after_us // CELL_US, until_us // CELL_US
        rows = self._sweeper.sweep(self._state, *cells, self._scratch.rows)
        self._scratch.rows[:] = np.zeros((), tables.ROW)
        return [self._silence(row) for row in rows]

    def _silence(self, row: Any) -> Silence:
        name = self._names[int(row["slot"])]
        return Silence(
            at_us=int(row["ts_us"]),
            key=name.text,
            owner=self._owner(name),
            since_us=int(row["opened_us"]),
            expected=round(float(row["mean"]), 3),
            nats=round(float(row["score"]), 3),
        )

    def mark_alerted(self, alert: Episode) -> bool:
        """Writes the fleet's decision into its episode; False when it is not this shard's."""
        return self._book.mark_alerted(alert)

    def advance(self, watermark_us: int) -> None:
        """Other shards have reached this event time: what is over by then is closed here too."""
        self._sweep(watermark_us - SWEEP_GRACE_US)

    def finish(self, last_us: int) -> None:
        """The whole log, in event-time order, ended at ``last_us``."""
        self._sweep(last_us)

    def take_closed(self, watermark_us: int | None = None) -> list[Episode]:
        """Episodes that closed before the watermark (default: the clock), each once."""
        return self._book.take_closed(self.clock_us if watermark_us is None else watermark_us)

    def close_all(self) -> list[Episode]:
        """End of a log: all episodes not yet taken; those still open say so."""

        def now(at: tuple[int, int], episode: Episode) -> Episode:
            return as_of(episode, self._state.episodes[at])

        closed = self._book.take_closed(np.iinfo(np.int64).max)
        return closed + self._book.map_open(now)

    def requests(self) -> list[tuple[str, int]]:
        """Events of each key, those that were too late included, in order of appearance."""
        counts = self._state.keys["ordinal"][: self.n_keys].tolist()
        return [(name.text, n) for name, n in zip(self._names, counts, strict=True)]

    def keys_by(self, ts_us: int) -> int:
        """Keys whose first event is not younger than an event time."""
        return int(np.count_nonzero(self._state.keys["first_us"][: self.n_keys] <= ts_us))

    def to_state(self) -> bytes:
        """The whole state as bytes; see ``core.codec``."""
        return codec.encode(self._state, self._names, self._texts, self._book, self._controls)

    @classmethod
    def from_state(
        cls, data: bytes, settings: ShardSettings, registry: KeyRegistry | None = None
    ) -> Shard:
        """The shard that ``to_state`` described. Raises ``SnapshotError``."""
        shard = cls(settings, registry)
        shard._state, shard._names, shard._texts, shard._book, shard._controls = codec.decode(data)
        shard._state.shard["off"] = settings.off
        shard._aliases.learn(shard._texts.tables[ROUTE])
        shard._rules = shard._controls.lessons.rules(settings)
        return shard

    def digest(self) -> str:
        """Hash of all state that can influence a later result, in key order."""
        return state_digest([self])

    def canonical(self) -> Canonical:
        """What ``state_digest`` needs of a shard."""
        return Canonical(
            codec.canonical_rows(self._state),
            self._book.map_open(lambda _, episode: episode),
            self._texts.tables,
            self._controls,
        )

    def _slot_of(self, key: str) -> int | None:
        for slot in range(len(self._slots), len(self._names)):
            self._slots[self._names[slot].text] = slot
        return self._slots.get(key)

    def _columns(self, batch: EventBatch) -> Columns:
        self._aliases.learn(batch.names.routes)
        values = {c: getattr(batch, c) for c in EventBatch.COLUMNS if c in Columns._fields}
        codes, prefix = self._violations.judge(batch)
        return Columns(**values, fact=codes, prefix=prefix, aliases=self._aliases.table)

    def _welcome(self, batch: EventBatch, at: int) -> None:
        """A key's first event: one that replaces another key begins with that one's baseline."""
        hi, lo, state = batch.key_hi[at], batch.key_lo[at], self._state
        name = batch.names.keys[int(hi) << 64 | int(lo)]
        assert self.registry is not None
        parent_name = self.registry.predecessor(name.text)
        if parent_name is None or self.n_keys >= self.settings.keys_max:
            return
        parent = self._slot_of(parent_name)
        if parent is None or state.keys["cell"][parent] < 0:
            state.shard["heirs_blank"] += 1
            return
        slot, ts_us = tables.find_key(state.index, state.keys, hi, lo), int(batch.ts_us[at])
        if slot < 0:
            slot = kernels.new_key(state, -1 - slot, hi, lo, ts_us)
            self._take_names(batch)
        self._state = key_state.inherit(state, slot, parent, ts_us)
        self._state.shard["heirs"] += 1

    def _take_names(self, batch: EventBatch) -> None:
        keys, shard = self._state.keys, self._state.shard
        for slot in range(len(self._names), self.n_keys):
            self._names.append(batch.names.keys[self._hash_of(keys[slot])])
        names = batch.names
        sources = (names.networks, names.clients, names.routes, names.areas, names.blocks)
        for kind, value in self._state.unnamed[: int(shard["unnamed"][0])].tolist():
            text = sources[kind].get(value)
            if text is not None:
                self._texts.tables[kind][value] = text
        shard["unnamed"] = 0

    def _apply(self, row: Any, batch: EventBatch) -> Candidate | None:
        slot, channel = int(row["slot"]), int(row["channel"])
        if row["kind"] == tables.CLOSE:
            self._book.close(slot, channel, row)
            return None
        if row["kind"] == tables.SILENT:
            self._silences.append(self._silence(row))
            return None
        name = self._names[slot]
        who = Subject(name, self._owner(name))
        if row["kind"] == tables.CHANGE:
            return changed(row, who, self._texts, self._aliases.prefixes)
        if row["kind"] == tables.HARD:
            route = batch.names.routes.get(int(batch.route[int(row["event"])]), "a route")
            fact = int(row["fact"])
            about = prefix_change(int(row["prefix"]), self._aliases.prefixes)
            what = sentence(fact, route)
            return self._book.add_hard(row, who, violations.NAMES[fact], what, about)
        row["status"] = batch.status[int(row["event"])]
        self._next_close_us = 0
        settled = self.settings.channels[channel].weights_at(float(row["known"]))
        factors = self.factors_at(int(row["ts_us"]), channel)
        weights = tuple(w * f for w, f in zip(settled, factors, strict=True))
        return self._book.apply(row, who, self._texts, weights)

    def _owner(self, name: KeyName) -> str | None:
        entry = self.registry.get(name.text) if self.registry is not None else None
        return entry.owner if entry is not None and entry.owner else name.owner

    def _sweep(self, now_us: int) -> None:
        """Closes what is over as of ``now_us``, just as the key's own next event would.

        Open episodes are few; the earliest possible end is kept, so most calls look at none.
        """
        if now_us <= self._next_close_us or not self._book.open:
            return
        ends = []
        for slot, channel in list(self._book.open):
            e = self._state.episodes[slot, channel]
            if kernel_episodes.expired(e, now_us):
                self._book.close(slot, channel, e)
                kernel_episodes.clear(e)
            else:
                above, opened = int(e["above_us"]), int(e["opened_us"])
                ends += [above + CLOSE_AFTER_US, opened + EPISODE_MAX_US]
        self._next_close_us = min(ends, default=0)

    @staticmethod
    def _hash_of(key: Any) -> int:
        return int(key["hi"]) << 64 | int(key["lo"])


def state_digest(shards: Sequence[Shard]) -> str:
    """One hash over the state of all shards: equal for any number of shards of one log.

    Rows are put in key order and table places left out; what has expired by the latest
    clock is left out too, because whether it still lies in a table says nothing.
    """
    parts = [s.canonical() for s in shards]
    clock_us = max((s.clock_us for s in shards), default=0)
    h = blake2b(digest_size=16)
    h.update(codec.canonical_bytes([p.rows for p in parts], clock_us))
    for episode in sorted((e for p in parts for e in p.episodes), key=lambda e: e.alert_id):
        h.update(repr(episode).encode())
    for kind in range(len(Texts().tables)):
        merged = {v: t for p in parts for v, t in p.texts[kind].items()}
        h.update(repr(sorted(merged.items())).encode())
    standing = {name: s for p in parts for name, s in p.controls.standing.items()}
    lessons = parts[0].controls.lessons if parts else None
    h.update(repr((sorted(standing.items(), key=lambda item: item[0]), lessons)).encode())
    return h.hexdigest()
