"""Rows of evidence with the truth beside them: of simulated worlds, and of labelled logs.

A unit is a clean key's day (in a labelled log: its whole log) or an attack. Of each unit and
channel the rows stay that are the highest under the shipped weights or under some near them,
because which row counts depends on the weights. Of attacks that holds for each part of their
requests (``PARTS``), so that it can be told how early they would be found; some others stay too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from detector.config import Config
from detector.core.events import EventBatch
from detector.core.settings import ShardSettings
from detector.decode import make_decoder
from models import fusion
from models.clock import DAY_US
from replay.evaluation.judge import AFTERMATH_US, GRACE_US
from replay.evaluation.keys import KeyIndex
from replay.evaluation.truth import RequestLog, Truth, truth_of
from replay.files import InputFile
from replay.merge import ROWS_PER_BLOCK, merge_batches, open_inputs
from replay.secrets import ReplaySecrets
from replay.simulate.world import World, WorldSettings
from replay.tune.collect import RowTap

CHANNELS = 2  # STOLEN and ABUSED: trees correct no other
SETTINGS = ShardSettings(without=("combination",))  # trees are fitted to what the sum says
DIRECTIONS, SPREAD = 24, 0.8  # weights near the shipped ones: how many, and log-normally how near
LEAST_NATS = 0.15  # a family without a weight is looked at as if it had so much, at a cap of 9
EVENTS_AT_ONCE = 500_000
LATENESS_US = 300_000_000
LOG_UNITS = 1_000_000
PARTS = (0.05, 0.15, 0.3, 0.6)  # of an attack's requests: rows are kept up to each, and the rest
CLEAN_REQUESTS_MIN = 60  # a key of a labelled log with fewer says little
# Worlds of five days, for keys that are young: the attacks that a few days have room for.
YOUNG_DAYS, YOUNG_QUIET_DAYS = 5, 1
YOUNG_ATTACKS = (
    *("A01", "A02", "A03", "A04", "A05", "A06", "A07", "A09"),
    *("A11", "A12", "A13", "A14", "A16", "A21", "A22"),
)
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one world or log, by unit.

    - ``x``        what trees may ask about, in the order of ``combination.FEATURES``, float32
    - ``total``    the sum that they correct, nats, float64
    - ``channel``  0 STOLEN, 1 ABUSED (int64)
    - ``unit``     ascending (int64)
    - ``kind``     of the row's unit: a scenario, or a kind of labelled theft; "" = clean
    - ``leaked``   share of the attack's requests made by then, float32; 0 where not known
    - ``weeks``    length of what the clean units are from; 0 for a labelled log
    """

    x: F32
    total: F64
    channel: Ints
    unit: Ints
    kind: npt.NDArray[np.str_]
    leaked: F32
    weeks: float

    def save(self, path: Path) -> None:
        """As ``.npz``."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        np.savez_compressed(path, **fields)

    @classmethod
    def load(cls, path: Path) -> Self:
        """What ``save`` wrote."""
        with np.load(path, allow_pickle=False) as file:
            weeks = float(file["weeks"])
            return cls(**{n: file[n] for n in cls.__slots__ if n != "weeks"}, weeks=weeks)


@dataclass(frozen=True, slots=True)
class _Raw:
    """Rows as the fold gave them, those of the fields that are needed."""

    x: F32
    total: F64
    channel: Ints
    slot: Ints
    ts_us: Ints

    @classmethod
    def of(cls, rows: npt.NDArray[Any]) -> Self:
        rows = rows[(rows["channel"] < CHANNELS) & (rows["tries"] == 0)]  # tries have no correction
        z = np.minimum(rows["z"], np.array(fusion.CAPS, np.float32))
        return cls(
            np.concatenate([z, rows["context"]], axis=1),
            rows["score"] - rows["combined"].astype(np.float64),
            rows["channel"].astype(np.int64),
            rows["slot"],
            rows["ts_us"],
        )

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        columns = zip(*([getattr(p, n) for n in cls.__slots__] for p in parts), strict=True)
        return cls(*(np.concatenate(c) for c in columns))

    def rows(
        self, at: Ints, unit: Ints, kind: npt.NDArray[np.str_], leaked: F32, weeks: float
    ) -> Rows:
        order = np.argsort(unit, kind="stable")
        at = at[order]
        of = unit[order], kind[order], leaked[order]
        return Rows(self.x[at], self.total[at], self.channel[at], *of, weeks)


def world_rows(seed: int, *, young: bool = False) -> Rows:
    """Of one simulated world; ``young``: a short one, in which all keys are young."""
    settings = WorldSettings(seed=seed)
    if young:
        settings = WorldSettings(
            seed=seed, days=YOUNG_DAYS, quiet_days=YOUNG_QUIET_DAYS, attacks=YOUNG_ATTACKS
        )
    world = World(settings)
    keys = KeyIndex(world.key_class)
    tap, log, parts = RowTap(SETTINGS, world.registry()), RequestLog(keys), []
    for batch, attack in world.batches(EVENTS_AT_ONCE):
        log.observe(batch, attack)
        parts.append(_Raw.of(tap.observe(batch)[0]))
    truth = truth_of(world, keys, log.sorted())
    number = np.array([keys.number_of[name] for name, _ in tap.requests()], np.int32)
    return _labelled(_Raw.joined(parts), number, truth)


def _labelled(raw: _Raw, number: npt.NDArray[np.int32], truth: Truth) -> Rows:
    """Attacks' rows, and those of clean keys in the test period, a day after any attack."""
    key = number[raw.slot]
    at, of = truth.spans.match(key, raw.ts_us, GRACE_US)
    attack = np.full(len(key), -1)
    attack[at] = truth.spans.which[of]
    near = np.zeros(len(key), bool)
    near[truth.spans.match(key, raw.ts_us, AFTERMATH_US)[0]] = True
    clean = np.flatnonzero((raw.ts_us >= truth.test_us[0]) & ~near)
    theirs = np.flatnonzero(attack >= 0)
    day = raw.ts_us // DAY_US
    unit = np.where(attack >= 0, attack, len(truth.attacks) + key * 1000 + day % 1000)
    leaked = _leaked(truth, attack, raw.ts_us)
    rng = np.random.default_rng(0)
    part = unit * (len(PARTS) + 1) + np.searchsorted(np.array(PARTS, np.float32), leaked)
    kept = highest(raw, theirs, part)
    others = rng.choice(theirs, min(len(theirs), len(kept)), replace=False)
    kept = np.concatenate([np.union1d(kept, others), highest(raw, clean, unit)])
    scenario = np.array([a.scenario for a in truth.attacks] or [""])
    kind = np.where(attack >= 0, scenario[np.maximum(attack, 0)], "")
    silent = np.setdiff1d(np.arange(len(truth.attacks)), unit[kept])
    found = raw.rows(kept, unit[kept], kind[kept], leaked[kept], truth.weeks)
    return _with_silent(found, silent, scenario[silent])


def _leaked(truth: Truth, attack: Ints, ts_us: Ints) -> F32:
    """Share of the requests of each row's attack that were made by its time; 0 = no attack."""
    leaked = np.zeros(len(attack), np.float32)
    first = np.searchsorted(truth.requests.attack, np.arange(len(truth.attacks) + 1))
    for number in range(len(truth.attacks)):
        rows = np.flatnonzero(attack == number)
        times = truth.requests.ts_us[first[number] : first[number + 1]]
        leaked[rows] = np.searchsorted(times, ts_us[rows], side="right") / len(times)
    return leaked


def _with_silent(rows: Rows, units: Ints, kind: npt.NDArray[np.str_]) -> Rows:
    """With a row of nothing for units of which the fold said nothing."""
    n = len(units)
    unit = np.concatenate([units, rows.unit])
    order = np.argsort(unit, kind="stable")
    return Rows(
        np.concatenate([np.zeros((n, rows.x.shape[1]), np.float32), rows.x])[order],
        np.concatenate([np.zeros(n), rows.total])[order],
        np.concatenate([np.zeros(n, np.int64), rows.channel])[order],
        unit[order],
        np.concatenate([kind, rows.kind])[order],
        np.concatenate([np.ones(n, np.float32), rows.leaked])[order],
        rows.weeks,
    )


def highest(raw: _Raw, rows: Ints, unit: Ints) -> Ints:
    """Of the given rows those that lead their unit and channel under some weights."""
    rng = np.random.default_rng(0)
    lead = np.zeros(len(raw.total), bool)
    known = raw.x[rows, fusion.N_FAMILIES].astype(np.float64)[:, None]
    z, channel = raw.x[rows, : fusion.N_FAMILIES].astype(np.float64), raw.channel[rows]
    least = LEAST_NATS * fusion.CAP / np.array(fusion.CAPS)
    settled, young = (np.maximum(w, least) for w in (fusion.WEIGHTS[:2], fusion.YOUNG_WEIGHTS[:2]))
    for direction in range(DIRECTIONS):
        scale = np.exp(rng.normal(0.0, SPREAD if direction else 0.0, settled.shape))
        weights = (known * settled[channel] + (1 - known) * young[channel]) * scale[channel]
        shares = z * weights
        nested = np.minimum(shares[:, fusion.F_ROUTE], shares[:, fusion.F_AREA])
        group = unit[rows] * CHANNELS + channel
        order = np.lexsort((nested - shares.sum(axis=1), group))
        lead[rows[order[np.flatnonzero(np.diff(group[order], prepend=-1))]]] = True
    return np.flatnonzero(lead)


def log_rows(logs: list[Path], labels: Path) -> Rows:
    """Of labelled logs: a unit is a key; its kind is that of its first theft."""
    told = msgspec.json.decode(labels.read_bytes(), type=list[dict[str, Any]])
    kind_of: dict[str, str] = {}
    for label in told:
        kind_of.setdefault(label["key_id"], label["kind"])
    gone = {label["donor"] for label in told if label.get("donor")} - set(kind_of)
    raws, units, all_units = [], [], []
    all_kinds: list[str] = []
    for number, log in enumerate(logs):
        tap = RowTap(SETTINGS)
        raw = _Raw.joined([_Raw.of(tap.observe(batch)[0]) for batch in _batches(log)])
        keys = tap.requests()
        says = [
            n not in gone and (n in kind_of or count >= CLEAN_REQUESTS_MIN) for n, count in keys
        ]
        at = np.flatnonzero(np.array(says, bool)[raw.slot])
        raws.append(_Raw(*(getattr(raw, n)[at] for n in _Raw.__slots__)))
        units.append(raws[-1].slot + number * LOG_UNITS)
        all_units.append(np.flatnonzero(says) + number * LOG_UNITS)
        all_kinds.extend(kind_of.get(keys[i][0], "") for i in np.flatnonzero(says))
    raw, unit, every, kinds = (
        _Raw.joined(raws),
        np.concatenate(units),
        np.concatenate(all_units),
        np.array(all_kinds),
    )
    kind = kinds[np.searchsorted(every, unit)]
    silent = ~np.isin(every, unit)
    return _with_silent(
        raw.rows(np.arange(len(unit)), unit, kind, np.zeros(len(unit), np.float32), 0.0),
        every[silent],
        kinds[silent],
    )


def _batches(log: Path) -> Iterator[EventBatch]:
    config = Config()
    with tempfile.TemporaryDirectory() as folder:
        secrets = ReplaySecrets.of(config, Path(folder)).decode_settings(config)

        def decoded(file: InputFile) -> Iterator[EventBatch]:
            decoder = make_decoder("auto", secrets)
            for lines in file.blocks():
                yield decoder.decode(lines).batch

        files = open_inputs([log])
        yield from merge_batches(
            [decoded(file) for file in files], LATENESS_US, ROWS_PER_BLOCK, [str(log)]
        )
