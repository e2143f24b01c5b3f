"""A simulated world: thousands of keys, months of benign life, and attacks with ground truth.

``World(WorldSettings(seed=1)).batches()`` streams it as the decoder's columns, at more than a
million events a second; ``lines`` gives the same events as a log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.core.events import I64, EventBatch
from detector.core.registry import KeyRegistry, RegistryEntry
from detector.decode.seed import PUBLIC_SEED
from replay.labels import Label, label_of
from replay.simulate import api
from replay.simulate.columns import EventColumns, merged
from replay.simulate.traffic import latency_ms
from replay.simulate.world_batch import BatchMaker
from replay.simulate.world_benign import add_benign
from replay.simulate.world_cast import Cast
from replay.simulate.world_keys import WorldKey
from replay.simulate.world_noise import add_noise
from replay.simulate.world_plan import Plan
from replay.simulate.world_settings import (
    ALL_ATTACKS,
    ALL_BENIGN,
    CELLS_PER_DAY,
    CLASSES,
    Attack,
    Happening,
    WorldSettings,
)
from replay.simulate.world_wire import Log, route_table

__all__ = ["ALL_ATTACKS", "ALL_BENIGN", "Attack", "Happening", "World", "WorldSettings"]

I32 = npt.NDArray[np.int32]
ROWS_PER_BATCH = 200_000


class World:
    """A fleet, what happens to it, and the stream of its events.

    Equal settings give equal events, whatever the size of the batches (for one NumPy version:
    its distributions may use their stream differently in another). A world can be streamed
    once or several times; ``attacks`` know their number of requests after the first time.
    """

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        self._plan = plan = Plan.of(settings)
        cast = Cast(plan)
        cast.reserve()
        add_noise(plan)
        add_benign(plan)
        plan.run()
        cast.perform()
        plan.words.routes = route_table(plan)
        extra = [*plan.visits, *cast.rows]
        self._extra = merged(extra) if extra else None
        self.attacks: list[Attack] = cast.attacks
        self._labels: list[Label] = []
        self.happenings: list[Happening] = sorted(plan.happenings, key=lambda h: h.start_us)
        self.key_class = {k.name: CLASSES[k.kind] for k in plan.keys}
        self.owner = {k.name: k.owner_name for k in plan.keys}

    def batches(
        self, rows_max: int = ROWS_PER_BATCH, hash_seed: bytes = PUBLIC_SEED
    ) -> Iterator[tuple[EventBatch, I32]]:
        """Events as columns, and of each the number of the attack it belongs to, -1 = benign.

        In event-time order, unless the settings ask for ``B19``. With the hash seed of a replay
        the columns are those it makes of the lines.
        """
        maker = BatchMaker(self._plan.words, hash_seed)
        offset = 0
        for chunk in self.chunks():
            for start in range(0, len(chunk), rows_max):
                rows = chunk.take(slice(start, start + rows_max))
                yield maker.batch(rows, offset), rows.attack.astype(np.int32)
                offset += len(rows)

    def lines(self) -> Iterator[EventColumns]:
        """The same events with their latency, which only lines have; ``block()`` writes them."""
        rng = self._plan.stream(12)
        for chunk in self.chunks():
            shown = chunk.route % len(api.routes())
            yield chunk.with_columns(latency_ms=latency_ms(rng, shown, chunk.status))

    def chunks(self) -> Iterator[EventColumns]:
        """The same events as columns of numbers; completes ``attacks`` at its end."""
        seen: dict[tuple[int, int], list[I64]] = {}
        for chunk in Log(self._plan, self._extra).chunks():
            rows = chunk.take(np.flatnonzero(chunk.attack >= 0))
            for number, key in _pairs(rows.attack, rows.key):
                mine = (rows.attack == number) & (rows.key == key)
                seen.setdefault((number, key), []).append(rows.ts_us[mine])
            if len(chunk):
                yield chunk
        self._finish({at: np.concatenate(parts) for at, parts in seen.items()})

    def _finish(self, times_us: dict[tuple[int, int], I64]) -> None:
        names = self._plan.words.keys
        self._labels = [
            label_of(names[key], self.attacks[number].scenario, times_us[number, key])
            for number, key in sorted(times_us)
        ]
        for attack in list(self.attacks):
            own = [t for (number, _), t in times_us.items() if number == attack.number]
            self.attacks[attack.number] = replace(
                attack,
                requests=sum(len(t) for t in own),
                start_us=int(min(t.min() for t in own)),
                end_us=int(max(t.max() for t in own)),
            )

    def registry(self) -> KeyRegistry:
        """The key registry: owners of all keys, and of a tenth of them the grants."""
        return KeyRegistry(
            RegistryEntry(
                key=r["key"],
                owner=r["owner"],
                rotated_from=r["rotated_from"],
                grants=None if r["grants"] is None else tuple(r["grants"]),
            )
            for r in self.registry_records()
        )

    def registry_records(self) -> list[dict[str, Any]]:
        """The same as records of a registry file."""
        return [
            {
                "key": k.name,
                "owner": k.owner_name,
                "grants": _grants(k) if k.granted else None,
                "rotated_from": k.rotated_from,
            }
            for k in self._plan.keys
        ]

    def labels(self) -> list[Label]:
        """One label for each key of each attack; none before all events have been read once."""
        return self._labels

    def describe(self) -> dict[str, Any]:
        """What the world is like: rates per key and day, classes, attacks, happenings."""
        keys = self._plan.keys
        rates = np.array([k.rate for k in keys]) * self._plan.scale * CELLS_PER_DAY
        kinds = np.array([k.kind for k in keys])
        steps = (0, 25, 50, 75, 90, 99, 100)
        ratios = [a.rate_ratio for a in self.attacks]
        names = sorted({h.scenario for h in self.happenings})
        return {
            "keys": len(keys),
            "owners": len({k.owner for k in keys}),
            "days": self.settings.days,
            "expected_requests_per_day": round(self.settings.per_day),
            "requests_per_key_and_day": {
                f"p{p}": round(float(v), 2)
                for p, v in zip(steps, np.percentile(rates, steps), strict=True)
            },
            "classes": {
                name: {
                    "keys": int((kinds == i).sum()),
                    "share_of_requests": round(float(rates[kinds == i].sum() / rates.sum()), 4),
                }
                for i, name in enumerate(CLASSES)
            },
            "attacks": len(self.attacks),
            "attacked_keys": len({key for a in self.attacks for key in a.keys}),
            "attack_requests": 0 if self._extra is None else int((self._extra.attack >= 0).sum()),
            "rate_ratio": {
                f"p{p}": round(float(v), 3)
                for p, v in zip(steps, np.percentile(ratios, steps), strict=True)
            }
            if ratios
            else {},
            "happenings": {s: sum(h.scenario == s for h in self.happenings) for s in names},
        }


def _pairs(attack: I64, key: I64) -> list[tuple[int, int]]:
    """The different pairs of an attack and a key."""
    found = np.unique(np.stack([attack, key]), axis=1)
    return [(int(a), int(k)) for a, k in found.T]


def _grants(key: WorldKey) -> list[str]:
    """The whole of each area the API lets the key call."""
    names = api.area_names()
    grants = [
        f"* /{version}/{names[area]}{rest}"
        for area in key.allowed
        for version in ("v1", "v2")
        for rest in ("", "/**")
    ]
    common = [f"{r.method} {r.before}" for r in api.routes() if r.area == api.COMMON_AREA]
    return grants + common
