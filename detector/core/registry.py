"""The key registry: what the owner of the API declares about its keys. Pure data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One key as declared; everything but ``key`` may be missing."""

    key: str
    owner: str | None = None
    tags: tuple[str, ...] = ()
    key_class: str = "approve"
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
    """Immutable look-up of declared keys."""

    def __init__(self, entries: Iterable[RegistryEntry] = ()) -> None:
        self._entries = {e.key: e for e in entries}
        self.has_grants = any(e.grants is not None for e in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key_text: str) -> RegistryEntry | None:
        """The entry of a key, or None."""
        return self._entries.get(key_text)

    @property
    def digest(self) -> str:
        """Hash of all entries."""
        text = repr(sorted(self._entries.items()))
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def allows(self, key_text: str, route_text: str) -> bool:
        """True when the key declares no grants or one of them covers the route."""
        entry = self._entries.get(key_text)
        if entry is None or entry.grants is None:
            return True
        return any(_covers(grant, route_text) for grant in entry.grants)


def _covers(grant: str, route_text: str) -> bool:
    want_method, _, pattern = grant.partition(" ")
    method, _, path = route_text.partition(" ")
    if want_method not in ("*", method):
        return False
    wanted, parts = pattern.strip("/").split("/"), path.strip("/").split("/")
    for i, want in enumerate(wanted):
        if want == "**":
            return True
        if i >= len(parts) or want not in ("*", parts[i]):
            return False
    return len(parts) == len(wanted)
