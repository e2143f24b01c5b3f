"""The fold's memory of identifiers: pages of a growing Bloom filter, in one table for all keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.core.tables import EXPIRY_CELLS, GONE, find_tag, mix64
from models import enumeration, memory
from models._jit import kernel

SALT = 0x9A6E  # keeps pages' tags apart from other hashes of the key


@kernel
def is_new(s: Any, slot: int, ident: int) -> bool:
    """Enters an identifier into its key's memory; True when it was not there."""
    key, m = s.keys[slot], s.memory[slot]
    before = _before(m)
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
    name = np.uint64((generation % memory.GENERATIONS) << 32) | np.uint64(number)
    return mix64(mix64(key.lo, SALT), name)


@kernel
def _is_of(page: Any, key: Any, generation: int) -> bool:
    """True for a page of that generation whose bits have not expired."""
    return page.generation == generation and key.cell - page.last_cell <= EXPIRY_CELLS


@kernel
def _before(m: Any) -> int:
    """Number of the old generation."""
    return (int(m.generation) + 65535) & 65535


@kernel
def forget_pages(s: Any, slot: int) -> None:
    """A key's identifiers are gone: its pages count as expired."""
    m = s.memory[slot]
    _forget(s, s.keys[slot], int(m.generation), int(m.level))
    _forget(s, s.keys[slot], _before(m), int(m.old_level))


@kernel
def _forget(s: Any, key: Any, generation: int, level: int) -> None:
    for number in range(1 << (2 * level)):
        place = find_tag(s.pages, _tag(key, generation, number))
        if place >= 0:
            s.pages[place].last_cell = GONE


@kernel
def inherit_pages(s: Any, heir: int, parent: int) -> None:
    """Gives a key copies of another one's pages; both have the same row of ``memory``."""
    m = s.memory[parent]
    _inherit(s, s.keys[heir], s.keys[parent], int(m.generation), int(m.level))
    _inherit(s, s.keys[heir], s.keys[parent], _before(m), int(m.old_level))


@kernel
def _inherit(s: Any, heir: Any, parent: Any, generation: int, level: int) -> None:
    for number in range(1 << (2 * level)):
        place = find_tag(s.pages, _tag(parent, generation, number))
        if place >= 0 and _is_of(s.pages[place], parent, generation):
            _copy_page(s, place, _tag(heir, generation, number))


@kernel
def _copy_page(s: Any, source: int, tag: int) -> None:
    page, place = s.pages[source], find_tag(s.pages, tag)
    if place < 0:
        place = -1 - place
        s.shard[0].pages += 1
    mine = s.pages[place]
    mine.tag, mine.last_cell, mine.generation = tag, page.last_cell, page.generation
    for i in range(memory.PAGE_WORDS):
        mine.words[i] = page.words[i]
