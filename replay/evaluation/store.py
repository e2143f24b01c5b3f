"""Result files: one per method and world, so that a long evaluation can go on where it stopped."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from detector.core.errors import UsageError
from replay.evaluation.record import FORMAT, Result
from replay.simulate.world_settings import WorldSettings

OURS = "ours"
_PACKAGES = ("models", "detector/core", "replay/simulate", "replay/evaluation")


def world_record(settings: WorldSettings) -> dict[str, Any]:
    """What makes two worlds of one seed the same, as JSON has it."""
    record = {k: v for k, v in asdict(settings).items() if k != "seed"}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in record.items()}


def code_digest() -> str:
    """Hash of the sources a result depends on: a figure knows the code that made it."""
    root, digest = Path(__file__).resolve().parents[2], blake2b(digest_size=8)
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def path_of(folder: Path, method: str, seed: int) -> Path:
    """The file of a method's result on a seed's world."""
    return folder / f"{slug(method)}-{seed}.json"


def slug(method: str) -> str:
    """A method's name for files and command lines.

    >>> slug("seasonal + rare"), slug("ours~new_network")
    ('seasonal-rare', 'ours~new_network')
    """
    return re.sub(r"[^a-z0-9_~]+", "-", method.lower()).strip("-")


def load(folder: Path, method: str, settings: WorldSettings) -> Result | None:
    """The stored result for exactly this world; ``None`` if there is none."""
    try:
        result = msgspec.json.decode(
            path_of(folder, method, settings.seed).read_bytes(), type=Result
        )
    except (OSError, msgspec.DecodeError):
        return None
    same = result.format == FORMAT and result.world == world_record(settings)
    return result if same else None


def save(folder: Path, results: Iterable[Result]) -> None:
    """Writes results, each whole or not at all. Raises ``UsageError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for result in results:
            path = path_of(folder, result.method, result.seed)
            partial = path.with_suffix(".partial")
            partial.write_bytes(msgspec.json.encode(result) + b"\n")
            os.replace(partial, path)
    except OSError as e:
        raise UsageError(f"cannot write to {folder}: {e.strerror}") from e


def missing(
    folder: Path, methods: Sequence[str], settings: WorldSettings, feedback_days: float = 0.0
) -> tuple[list[Result], list[str]]:
    """Results that are there for a world, and the methods that still have to be run.

    Our own result of another delay of verdicts does not count as there.
    """
    found = {m: load(folder, m, settings) for m in methods}
    ours = found.get(OURS)
    if ours is not None and ours.feedback_days != feedback_days:
        found[OURS] = None
    return [r for r in found.values() if r is not None], [m for m, r in found.items() if r is None]
