"""The key registry: what the owner of the keys knows about them. Pure data.

A grant is ``METHOD path-pattern``: method ``*`` = any; in the pattern ``*`` is one segment
and ``**`` at the end is the rest, which may be nothing. A grant that cannot be compared
because the log names no method is given the benefit of the doubt. A decoy is written like a
grant: an endpoint that exists for nobody, so that whoever asks for it is up to something.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple

KeyClass = Literal["never", "approve", "auto"]
KEY_CLASSES: tuple[KeyClass, ...] = ("never", "approve", "auto")
NO_VIOLATION, OUT_OF_GRANT, DECOY, REVOKED, ROTATED = range(5)
NEVER_US = (1 << 63) - 1
# The gateway's clock and the registry's differ, and gateways remember a key for a moment.
REVOKED_GRACE_US = 60_000_000
# Who rotates a key needs time to deploy the new one.
ROTATED_GRACE_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One key. ``None`` = not told; times are microseconds since 1970 UTC.

    ``key_class`` says how far a response may go: ``never`` revoke, ask (``approve``), or
    ``auto``. ``grants`` = ``None`` allows everything, ``()`` nothing.
    """

    key: str
    owner: str | None = None
    tags: tuple[str, ...] = ()
    key_class: KeyClass = "approve"
    plan: str | None = None
    environment: str | None = None
    grants: tuple[str, ...] | None = None
    quota: int | None = None
    created_us: int | None = None
    expires_us: int | None = None
    revoked_us: int | None = None
    rotated_from: str | None = None
    pinned: bool = False
    leaked_us: int | None = None


class Facts(NamedTuple):
    """What holds for a key on a route; from these times on its successes are violations."""

    is_decoy: bool
    is_outside: bool
    revoked_us: int
    rotated_us: int


class KeyRegistry:
    """Entries by key text, and decoys. Immutable; of several entries for a key the last counts.

    ``digest`` is equal for equal entries and decoys in any order. ``has_grants`` is False when
    no key lists any grant, and ``has_facts`` when nothing at all can be a violation, so that a
    caller may skip the question; ``has_successors`` when no key replaces another one. Without
    ``has_decoys`` only successes can be violations.
    """

    def __init__(self, entries: Iterable[RegistryEntry], decoys: Iterable[str] = ()) -> None:
        self._entries = {entry.key: entry for entry in entries}
        decoys = sorted(set(decoys))
        self._decoys = tuple(_parse(decoy) for decoy in decoys)
        self._grants = {
            entry.key: tuple(_parse(grant) for grant in entry.grants)
            for entry in self._entries.values()
            if entry.grants is not None
        }
        self._revoked = _ends(self._entries.values())
        self._rotated = _successions(self._entries.values())
        self._parents = {
            entry.key: entry.rotated_from
            for entry in self._entries.values()
            if entry.rotated_from is not None
        }
        self._families = {*self._parents, *self._parents.values()}
        self.has_successors = bool(self._parents)
        self.has_grants = bool(self._grants)
        self.has_decoys = bool(self._decoys)
        self.has_facts = bool(self._grants or self._decoys or self._revoked or self._rotated)
        self.digest = _digest(self._entries, decoys)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key_text: str) -> RegistryEntry | None:
        """The key's entry, or ``None`` for a key that is not registered."""
        return self._entries.get(key_text)

    def allows(self, key_text: str, route_text: str) -> bool:
        """Whether a key's grants cover a route; True when it has none listed.

        >>> entry = RegistryEntry("k", grants=("GET /v1/orders/*", "* /v1/reports/**"))
        >>> registry = KeyRegistry([entry])
        >>> registry.allows("k", "GET /v1/orders/{id}"), registry.allows("k", "GET /v1/users")
        (True, False)
        """
        grants = self._grants.get(key_text)
        return grants is None or _any_covers(grants, route_text)

    def predecessor(self, key_text: str) -> str | None:
        """The key that this one replaces, if it replaces any."""
        return self._parents.get(key_text)

    def family(self, key_text: str) -> str | None:
        """One name for all keys that followed each other; ``None`` for a key without relatives.

        >>> entries = RegistryEntry("b", rotated_from="a"), RegistryEntry("c", rotated_from="b")
        >>> registry = KeyRegistry(entries)
        >>> [registry.family(key) for key in "abcd"]
        ['a', 'a', 'a', None]
        """
        if key_text not in self._families:
            return None
        met = {key_text}
        while (parent := self._parents.get(key_text)) is not None and parent not in met:
            met.add(parent)
            key_text = parent
        return min(met) if key_text in self._parents else key_text  # a circle has no beginning

    def facts(self, key_text: str, route_text: str | None) -> Facts:
        """All there is to know about a key on a route; ``None`` is a request without a route."""
        return Facts(
            route_text is not None and _any_covers(self._decoys, route_text),
            route_text is not None and not self.allows(key_text, route_text),
            self._revoked.get(key_text, NEVER_US),
            self._rotated.get(key_text, NEVER_US),
        )

    def violation(
        self, key_text: str, route_text: str | None, ts_us: int, *, succeeded: bool = True
    ) -> int:
        """The violation that a request with an accepted key is, ``NO_VIOLATION`` for none.

        Of several the first counts: ``DECOY`` (whatever the answer was), and for a success
        ``REVOKED`` (or expired), ``ROTATED`` (its successor is older than the grace),
        ``OUT_OF_GRANT``.

        >>> registry = KeyRegistry([RegistryEntry("k", grants=(), revoked_us=0)], ["GET /trap"])
        >>> [registry.violation("k", "GET /x", minute * 60_000_000) for minute in (0, 1)]
        [1, 3]
        >>> registry.violation("another", "GET /trap", 0, succeeded=False)
        2
        """
        facts = self.facts(key_text, route_text)
        if facts.is_decoy:
            return DECOY
        if not succeeded:
            return NO_VIOLATION
        if ts_us >= facts.revoked_us:
            return REVOKED
        if ts_us >= facts.rotated_us:
            return ROTATED
        return OUT_OF_GRANT if facts.is_outside else NO_VIOLATION


def _ends(entries: Iterable[RegistryEntry]) -> dict[str, int]:
    """From when on a success with a key is a violation, because it was revoked or expired."""
    ends = {}
    for entry in entries:
        told = [us for us in (entry.revoked_us, entry.expires_us) if us is not None]
        if told:
            ends[entry.key] = min(told) + REVOKED_GRACE_US
    return ends


def _successions(entries: Iterable[RegistryEntry]) -> dict[str, int]:
    """From when on a key should be out of use, because another one has replaced it."""
    ends: dict[str, int] = {}
    for entry in entries:
        if entry.rotated_from is not None and entry.created_us is not None:
            end_us = entry.created_us + ROTATED_GRACE_US
            ends[entry.rotated_from] = min(end_us, ends.get(entry.rotated_from, NEVER_US))
    return ends


def grant_fault(grant: str) -> str | None:
    """What is wrong with a grant, as the end of a sentence; ``None`` if nothing is.

    >>> grant_fault("GET /v1/**/x")
    '** may only be the last segment'
    """
    method, blank, path = grant.partition(" ")
    if not method or not blank or not path:
        return "a grant is METHOD and path pattern, such as GET /v1/orders/*"
    if " " in path:
        return "a grant has one blank only, between method and path"
    if "**" in path.split("/")[:-1]:
        return "** may only be the last segment"
    return None


def _parse(text: str) -> tuple[str, tuple[str, ...]]:
    method, _, path = text.partition(" ")
    return method.upper(), tuple(part for part in path.split("/") if part)


def _any_covers(patterns: tuple[tuple[str, tuple[str, ...]], ...], route_text: str) -> bool:
    method, path = _parse(route_text)
    return any(_covers(pattern, method, path) for pattern in patterns)


def _covers(grant: tuple[str, tuple[str, ...]], method: str, path: tuple[str, ...]) -> bool:
    granted, pattern = grant
    if granted not in ("*", method) and method != "-":
        return False
    if pattern[-1:] == ("**",):
        pattern = pattern[:-1]
        if len(path) < len(pattern):
            return False
        path = path[: len(pattern)]
    if len(path) != len(pattern) or "..." in path:
        return False
    return all(want in ("*", got) for want, got in zip(pattern, path, strict=True))


def _digest(entries: dict[str, RegistryEntry], decoys: list[str]) -> str:
    state = blake2b(digest_size=16)
    for told in (decoys, *(astuple(entries[key]) for key in sorted(entries))):
        line = repr(told).encode("utf-8", "surrogatepass")
        state.update(len(line).to_bytes(8, "little") + line)
    return state.hexdigest()
