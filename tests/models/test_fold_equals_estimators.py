"""A formula lives once: the fold's evidence is, bit for bit, what the estimators say."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import pytest

from detector.core.events import EventBatch
from detector.core.settings import ChannelLimits, ShardSettings
from detector.core.shard import Shard
from models.denied import DeniedRoutes
from models.dormancy import Dormancy
from models.enumeration import Enumeration
from models.fusion import N_FAMILIES
from models.novelty import ChurnNovelty
from models.probing import ErrorProbing
from models.sequence import Sequence
from models.surge import Surge
from models.volume import SeasonalVolume
from tests.core.logs import START_US, batch_of

# Nothing is ever suspicious enough to be held out of the baseline: estimators hold nothing.
NEVER = ChannelLimits(floor=1e9, threshold=1e9, cold_extra=0.0, weights=(0.1,) * N_FAMILIES)
SETTINGS = ShardSettings(stolen=NEVER, abused=NEVER, throttle=NEVER)
DAYS = 32
Row = dict[str, Any]


def h64(text: str) -> int:
    """The hash by which the estimators know a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def life(seed: int) -> list[Row]:
    """One key's month: days and nights, new values, errors, a burst, a sleep, late events."""
    rng = np.random.default_rng(seed)
    rows = []
    for day in (d for d in range(DAYS) if not 18 <= d < 27):
        for second in np.sort(rng.integers(7 * 3600, 20 * 3600, int(rng.integers(15, 50)))):
            rows.append(row(rng, day * 86_400 + int(second)))
    burst_s = 16 * 86_400 + 12 * 3600
    for i in range(150):
        probe = {"status": 403, "route": f"GET /admin/{i % 25}", "ident": f"n{i}", "number": i}
        rows.append(row(rng, burst_s + 20 * i) | (probe if i % 2 else {"ident": f"m{i}"}))
    rows.sort(key=lambda r: r["second"])
    for i in range(5, len(rows), 40):  # a little out of order, across cells too
        at = rows[i - 1]["second"]
        rows[i]["second"] = at - int(rng.integers(200))
    return rows


def row(rng: np.random.Generator, second: int) -> Row:
    odd = rng.random() < 0.04
    return {
        "second": second,
        "network": f"198.{50 + rng.integers(20)}.{rng.integers(200)}"
        if odd
        else f"10.0.{rng.integers(2)}",
        "client": f"curl/{rng.integers(9)}" if odd else "sdk/2",
        "route": f"GET /v{rng.integers(9)}/new{rng.integers(30)}" if odd else "GET /v1/orders/{id}",
        "status": int(rng.choice([200, 200, 200, 404, 500])),
        "ident": str(rng.integers(40)) if rng.random() < 0.8 else None,
        "number": int(rng.integers(5000)) if rng.random() < 0.6 else -1,
    }


def columns(rows: list[Row]) -> EventBatch:
    """The rows as a decoder would give them, hashed as the estimators hash."""
    names = ("network", "client", "route", "status")
    batch = batch_of(
        [(START_US + r["second"] * 1_000_000, "key", *(r[n] for n in names)) for r in rows]
    )
    for i, r in enumerate(rows):
        batch.route[i] = h64(r["route"])
        batch.names.routes[h64(r["route"])] = r["route"]
        batch.number[i] = r["number"]
        batch.ident[i] = 0 if r["ident"] is None else h64(r["ident"])
    return batch


def area(r: Row) -> str:
    return "/".join(r["route"].split("/")[:3])


def note_young(rows: list[Row]) -> None:
    """Says of each row whether its route was first seen less than a day ago, founding ones not."""
    first: dict[str, int] = {}
    cell = 0
    for r in rows:
        cell = max(cell, (START_US // 1_000_000 + r["second"]) // 900)
        founding = not first or first[rows[0]["route"]] == cell
        born = first.setdefault(r["route"], cell)
        r["young"] = not founding and born != first[rows[0]["route"]] and cell - born < 96


def features(r: Row) -> dict[str, Any]:
    x = {
        name: r[name]
        for name in ("network", "client", "route", "status", "ident", "number", "young")
    }
    x["block"] = r["network"].rpartition(".")[0]
    return x | {"t": START_US // 1_000_000 + r["second"], "area": area(r)}


def estimators() -> dict[str, Any]:
    kinds = ("network", "client", "route", "area", "block")
    return {
        "volume": SeasonalVolume(),
        "probing": ErrorProbing(),
        "dormancy": Dormancy(),
        "enumeration": Enumeration(),
        "sequence": Sequence(),
        "surge": Surge(),
        "denied": DeniedRoutes(),
        **{kind: ChurnNovelty(value=kind, kind=kind) for kind in kinds},
    }


def evidence(shard: Shard) -> dict[str, float]:
    """The fold's evidence about its only key."""
    s = shard._state
    found = {
        "volume": s.volume[0]["evidence"],
        "probing": s.probing[0]["now"],
        "dormancy": s.dormancy[0]["evidence"],
        "enumeration": s.enumeration[0]["evidence"],
        "sequence": s.sequence[0]["evidence"],
        "surge": s.surge[0]["now"],
        "denied": s.denied[0]["now"],
    }
    for index, kind in enumerate(("network", "client", "route", "area", "block")):
        found[kind] = s.novelty[0]["now"][index]
    return {name: float(value) for name, value in found.items()}


@pytest.fixture(scope="module", params=[1, 2, 3])
def told(request) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """What the fold and the estimators say of each event, as it comes."""
    rows = life(request.param)
    note_young(rows)
    log, shard, models = columns(rows), Shard(SETTINGS), estimators()
    by_fold, by_models = [], []
    for i, r in enumerate(rows):
        x = features(r)
        by_models.append({name: model.score_one(x) for name, model in models.items()})
        for name in models:
            models[name] = models[name].learn_one(x)
        assert shard.fold(log.take(slice(i, i + 1))) == []
        by_fold.append(evidence(shard))
    assert shard.counters["late"] == 0
    assert shard._state.keys[0]["hold_cell"] == -1
    return by_fold, by_models


@pytest.mark.parametrize("name", list(estimators()))
def test_the_fold_says_what_the_estimator_says(told, name):
    """On every event of a month, exactly; and the month has something to say."""
    by_fold, by_models = ([e[name] for e in said] for said in told)
    wrong = [(i, a, b) for i, (a, b) in enumerate(zip(by_fold, by_models, strict=True)) if a != b]
    assert wrong == []
    assert max(by_fold) > 2.0
    assert len(set(by_fold)) > 4
