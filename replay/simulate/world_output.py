"""A world as files: its log, its labels, its key registry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from detector.core.errors import UsageError
from replay.labels import write_labels
from replay.simulate.columns import EventColumns
from replay.simulate.output import write_ndjson
from replay.simulate.world import World


def write_world(
    world: World,
    out: Path,
    *,
    labels: Path | None = None,
    registry: Path | None = None,
    force: bool = False,
    progress: Callable[[EventColumns], None] = lambda _chunk: None,
) -> int:
    """Writes the canonical log and what else is wanted; returns the number of lines.

    ``progress`` is told every chunk. Raises ``UsageError`` for a file that exists already,
    unless ``force``, or that cannot be written.
    """
    files = [path for path in (out, labels, registry) if path is not None]
    for path in files:
        if path.exists() and not force:
            raise UsageError(f"{path} exists already; --force overwrites it")
    if len({path.absolute() for path in files}) < len(files):
        raise UsageError("the log, its labels and its registry must be different files")

    def told() -> Iterator[EventColumns]:
        for chunk in world.lines():
            yield chunk
            progress(chunk)

    try:
        if registry is not None:  # before the log: an impossible path shows at once
            records = (json.dumps(record) + "\n" for record in world.registry_records())
            registry.write_text("".join(records), encoding="utf-8")
        if labels is not None:
            labels.touch()
        lines = write_ndjson(out, told())
        if labels is not None:
            write_labels(labels, world.labels())
    except OSError as e:
        raise UsageError(f"cannot write {e.filename or out}: {e.strerror}") from e
    return lines
