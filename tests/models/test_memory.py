"""The memory of identifiers: what it remembers, for how long, and at what size."""

from __future__ import annotations

import numpy as np

from models import memory
from models.enumeration import Enumeration
from models.slow import SlowDrift


def remembered(model: Enumeration, idents: range) -> int:
    return sum(not model._is_new(model._ident({"ident": i})) for i in idents)


def fed(idents: range, repeats: int = 1) -> Enumeration:
    model = Enumeration()
    for _ in range(repeats):
        for i in idents:
            model.learn_one({"t": 0, "ident": i})
    return model


def test_what_was_asked_for_is_remembered():
    """No identifier of the young generation is forgotten, however full it is."""
    assert remembered(fed(range(60)), range(60)) == 60


def test_few_identifiers_need_one_page():
    """Twenty customers, over and over, fit the first generation of 64 bytes."""
    model = fed(range(20), repeats=50)
    assert len(model._pages) == 1
    assert int(model._memory["generation"][0]) == 0


def test_many_identifiers_make_it_grow():
    """A key that comes back to thousands of objects soon knows nearly all of them."""
    model = fed(range(3000), repeats=3)
    assert int(model._memory["level"][0]) >= 3
    assert remembered(model, range(3000)) > 2900
    assert remembered(model, range(10_000, 13_000)) < 450  # false ones


def test_a_crawler_does_not_make_it_grow():
    """Where nearly everything is new, remembering more says nothing: the size stays small."""
    model = Enumeration()
    for i in range(20_000):
        model.learn_one({"t": i * 10, "ident": i})
    assert int(model._memory["level"][0]) <= 2


def test_a_page_holds_what_was_entered_and_little_else():
    """Up to the fill at which a generation ends, fewer than one stranger in ten is "seen"."""
    rng = np.random.default_rng(1)
    own, others = rng.integers(0, 1 << 63, (2, 2000)).astype(np.uint64)
    page, n_bits, n = np.zeros(1, memory.PAGE), 0, 0
    while n_bits < memory.FILL * memory.PAGE_BITS:
        n_bits += memory.enter(page[0], own[n])
        n += 1
    assert all(memory.holds(page[0], i) for i in own[:n])
    assert sum(memory.holds(page[0], i) for i in others) < 200


def test_a_small_lasting_shift_of_new_objects_is_evidence():
    """A third more new objects a day shows within ten days; bytes and ramp stay quiet."""

    def told(what: str) -> float:
        model, rng = SlowDrift(what=what), np.random.default_rng(2)
        for day in range(40):
            share = 0.30 if day < 30 else 0.42
            for i in range(400):
                fresh = rng.random() < share
                model.learn_one({"t": day * 86400 + i * 100, "size": 1000, "fresh": fresh})
        return model.score_one({"t": 40 * 86400, "size": 1000, "fresh": False})

    assert told("objects") > 6
    assert told("drift") < 1
