"""The key registry: what the owner of the keys knows about them. Pure data.

A grant is ``METHOD path-pattern``: method ``*`` = any; in the pattern ``*`` is one segment
and ``**`` at the end is the rest, which may be nothing. A grant that cannot be compared
because the log names no method is given the benefit of the doubt.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from hashlib import blake2b
from typing import Literal

KeyClass = Literal["never", "approve", "auto"]
KEY_CLASSES: tuple[KeyClass, ...] = ("never", "approve", "auto")
ANSWERS_MAX = 100_000


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


class KeyRegistry:
    """Entries by key text. Immutable; of several entries for a key the last one counts.

    ``digest`` is equal for equal entries in any order. ``has_grants`` is False when no key
    lists any grant, so that a caller may skip the question.
    """

    def __init__(self, entries: Iterable[RegistryEntry]) -> None:
        self._entries = {entry.key: entry for entry in entries}
        self._grants = {
            entry.key: tuple(_parse(grant) for grant in entry.grants)
            for entry in self._entries.values()
            if entry.grants is not None
        }
        self._answers: dict[tuple[str, str], bool] = {}
        self.has_grants = bool(self._grants)
        self.digest = _digest(self._entries)

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
        if grants is None:
            return True
        question = (key_text, route_text)
        answer = self._answers.get(question)
        if answer is None:
            if len(self._answers) >= ANSWERS_MAX:
                self._answers.clear()
            method, path = _parse(route_text)
            answer = any(_covers(grant, method, path) for grant in grants)
            self._answers[question] = answer
        return answer


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


def _digest(entries: dict[str, RegistryEntry]) -> str:
    state = blake2b(digest_size=16)
    for key in sorted(entries):
        line = repr(astuple(entries[key])).encode("utf-8", "surrogatepass")
        state.update(len(line).to_bytes(8, "little") + line)
    return state.hexdigest()
