"""Memory: which identifiers a key asked for lately, in a few bits each.

A Bloom filter (Bloom, 1970) that grows with its key, cut into pages of 64 bytes (a blocked
filter: Putze, Sanders & Singler, 2007), so that a look-up touches one cache line a generation.
Identifiers enter the young generation; when that is full it becomes the old one, which still
answers but takes nothing in, and a young one of four times as many pages begins. So a key
with twenty customers pays for two pages and a busy one remembers tens of thousands of
objects. Growth ends at ``LEVEL_MAX``; where nearly everything is new anyway remembering more
says nothing, and the next generation is no larger.

A false "seen" has a probability of about 5 % a full generation; it only weakens evidence,
and the usual share of new identifiers is measured through the same filter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models._jit import kernel

PAGE_WORDS = 8
PAGE_BITS = 64 * PAGE_WORDS
LEVEL_MAX = 4  # 4**4 pages, 16 KiB, some 22,000 identifiers a generation
FILL = 0.4  # share of set bits after which a new generation begins
GENERATIONS = 3  # names for pages: the young, the old, and the next
GROW_BELOW = 0.9  # usual share of new identifiers above which memory does not grow

PAGE = np.dtype(
    [
        ("tag", "u8"),  # hash of (key, generation, page number); 0 = free slot
        ("last_cell", "i4"),
        ("generation", "u2"),  # the one its bits belong to; another one's count as none
        ("words", "u8", (PAGE_WORDS,)),
    ],
    align=True,
)

MEMORY = np.dtype(
    [
        ("bits", "u4"),  # set bits of the young generation
        ("generation", "u2"),  # number of the young one
        ("level", "u1"),  # the young one has 4**level pages
        ("old_level", "u1"),
    ],
    align=True,
)


@kernel
def page_number(ident: int, level: int) -> int:
    """Which of a generation's pages an identifier's hash belongs to."""
    return (np.uint64(ident) >> np.uint64(40)) & np.uint64((1 << (2 * level)) - 1)


@kernel
def holds(page: Any, ident: int) -> bool:
    """True when the page has all three bits of an identifier."""
    for i in range(3):
        at = (np.uint64(ident) >> np.uint64(9 * i)) & np.uint64(PAGE_BITS - 1)
        if page.words[at >> np.uint64(6)] >> (at & np.uint64(63)) & np.uint64(1) == 0:
            return False
    return True


@kernel
def enter(page: Any, ident: int) -> int:
    """Sets an identifier's three bits; returns how many were not set before."""
    added = 0
    for i in range(3):
        at = (np.uint64(ident) >> np.uint64(9 * i)) & np.uint64(PAGE_BITS - 1)
        word, bit = at >> np.uint64(6), np.uint64(1) << (at & np.uint64(63))
        added += page.words[word] & bit == 0
        page.words[word] |= bit
    return added


@kernel
def clear(page: Any, generation: int) -> None:
    """Makes a page an empty one of a generation."""
    page.generation = generation
    for i in range(PAGE_WORDS):
        page.words[i] = np.uint64(0)


@kernel
def note_bits(m: Any, added: int, usual_new: float) -> None:
    """Counts bits; begins a new generation when the young one is full."""
    m.bits += added
    if m.bits < FILL * PAGE_BITS * (1 << (2 * m.level)):
        return
    m.generation += np.uint16(1)
    m.old_level = m.level
    m.level = min(m.level + (1 if usual_new < GROW_BELOW else 0), LEVEL_MAX)
    m.bits = 0
