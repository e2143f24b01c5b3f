"""Loads the key registry: NDJSON, one key a line, checked entry by entry; and the decoys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from detector.config import Config
from detector.core.errors import ConfigError
from detector.core.registry import KeyRegistry, RegistryEntry, grant_fault
from detector.decode.timestamp import parse_timestamp

LINE_BYTES_MAX = 1 << 16
ENTRIES_MAX = 5_000_000

_Time = str | int | float | None


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    key: Annotated[str, Meta(min_length=1, max_length=200)]
    owner: str | None = None
    tags: list[str] = []
    class_: Literal["never", "approve", "auto"] = msgspec.field(name="class", default="approve")
    plan: str | None = None
    environment: str | None = None
    grants: list[str] | None = None
    quota: Annotated[int, Meta(ge=0)] | None = None
    created_at: _Time = None
    expires_at: _Time = None
    revoked_at: _Time = None
    rotated_from: str | None = None
    pinned: bool = False
    leaked_at: _Time = None


_decode = msgspec.json.Decoder(_Line).decode


def configured_registry(config: Config) -> KeyRegistry | None:
    """The registry with the decoys; ``None`` when neither is configured.

    Raises ``ConfigError``.
    """
    path, decoys = config.keys.registry, config.detection.decoy_routes
    if path is not None:
        return load_registry(path, decoys)
    return KeyRegistry([], decoys) if decoys else None


def load_registry(path: Path, decoys: Sequence[str] = ()) -> KeyRegistry:
    """Reads a registry file. Blank lines are skipped; a key may be listed once only.

    Raises ``ConfigError`` with ``file:line`` and one sentence. It never quotes a value: a raw
    key may have been pasted into the wrong place.
    """
    entries: dict[str, RegistryEntry] = {}
    first_lines: dict[str, int] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                entry = _entry(line, f"{path}:{number}")
                if entry.key in entries:
                    first = first_lines[entry.key]
                    raise ConfigError(
                        f"{path}:{number}: this key is listed already in line {first}"
                    )
                if len(entries) >= ENTRIES_MAX:
                    raise ConfigError(f"{path}:{number}: more than {ENTRIES_MAX} keys")
                entries[entry.key], first_lines[entry.key] = entry, number
    except OSError as e:
        raise ConfigError(f"cannot read key registry {path}: {e.strerror}") from e
    return KeyRegistry(entries.values(), decoys)


def _entry(line: bytes, where: str) -> RegistryEntry:
    if len(line) > LINE_BYTES_MAX:
        raise ConfigError(f"{where}: the line is longer than {LINE_BYTES_MAX} bytes")
    try:
        line.decode()
        entry = _decode(line)
    except UnicodeDecodeError as e:
        raise ConfigError(f"{where}: the line is not valid UTF-8") from e
    except msgspec.ValidationError as e:
        raise ConfigError(f"{where}: {_sentence(e)}") from e
    except (msgspec.MsgspecError, RecursionError) as e:
        raise ConfigError(f"{where}: the line is not valid JSON") from e
    for grant in entry.grants or ():
        if fault := grant_fault(grant):
            raise ConfigError(f"{where}: grants: {fault}")
    if entry.rotated_from == entry.key:
        raise ConfigError(f"{where}: rotated_from names the key itself")
    return RegistryEntry(
        key=entry.key,
        owner=entry.owner,
        tags=tuple(entry.tags),
        key_class=entry.class_,
        plan=entry.plan,
        environment=entry.environment,
        grants=None if entry.grants is None else tuple(entry.grants),
        quota=entry.quota,
        created_us=_time(entry.created_at, "created_at", where),
        expires_us=_time(entry.expires_at, "expires_at", where),
        revoked_us=_time(entry.revoked_at, "revoked_at", where),
        rotated_from=entry.rotated_from,
        pinned=entry.pinned,
        leaked_us=_time(entry.leaked_at, "leaked_at", where),
    )


def _sentence(error: msgspec.ValidationError) -> str:
    """The message of msgspec without the value that some of them quote."""
    text = str(error)
    if text.startswith("Invalid enum value"):
        return "class must be never, approve or auto"
    if text.startswith("Object contains unknown field"):
        return "the entry has an unknown field"
    return text[:1].lower() + text[1:]


def _time(value: _Time, name: str, where: str) -> int | None:
    if value is None:
        return None
    time = parse_timestamp(str(value).encode("utf-8", "replace"))
    if time < 0:
        raise ConfigError(
            f"{where}: {name} must be RFC 3339 text with an offset or an epoch number, "
            "in the years 2000 to 2100"
        )
    return time
