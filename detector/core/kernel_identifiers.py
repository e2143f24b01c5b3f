"""The fold's memory of identifiers: pages of a growing Bloom filter, in one table for all keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.core.tables import EXPIRY_CELLS, find_tag, mix64
from models import enumeration, memory
from models._jit import kernel

SALT = 0x9A6E  # keeps pages' tags apart from other hashes of the key


@kernel
def is_new(s: Any, slot: int, ident: int) -> bool:
    """Enters an identifier into its key's memory; True when it was not there."""
    key, m = s.keys[slot], s.memory[slot]
    before = (int(m.generation) + 65535) & 65535
    old = find_tag(s.pages, _tag(key, before, memory.page_number(ident, m.old_level)))
    known = old >= 0 and _is_of(s.pages[old], key, before) and memory.holds(s.pages[old], ident)
    generation = int(m.generation)
    tag = _tag(key, generation, memory.page_number(ident, m.level))
    place = find_tag(s.pages, tag)
    if place < 0:
        place = -1 - place
        s.shard[0].pages += 1
        s.pages[place].tag = tag
        memory.clear(s.pages[place], generation)
    page = s.pages[place]
    if not _is_of(page, key, generation):
        memory.clear(page, generation)
    page.last_cell = key.cell
    added = memory.enter(page, ident)
    if added > 0:
        memory.note_bits(m, added, enumeration.share(s.enumeration[slot]))
    return added > 0 and not known


@kernel
def _tag(key: Any, generation: int, number: int) -> int:
    return page_tag(key.lo, page_name(generation, number))


@kernel
def page_name(generation: int, number: int) -> int:
    """What a page is called within its key."""
    return np.uint64((generation % memory.GENERATIONS) << 32) | np.uint64(number)


@kernel
def page_tag(key_lo: int, name: int) -> int:
    """What it is called in the table."""
    return mix64(mix64(key_lo, SALT), name)


@kernel
def _is_of(page: Any, key: Any, generation: int) -> bool:
    """True for a page of that generation whose bits have not expired."""
    return page.generation == generation and key.cell - page.last_cell <= EXPIRY_CELLS
