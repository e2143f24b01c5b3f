"""Options that several commands share, and how a listing is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from detector.core.errors import ConfigError


class Output(StrEnum):
    """How a listing is printed."""

    TABLE = "table"
    JSON = "json"


ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file (keywatch.toml).")
]
RequiredConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration file (keywatch.toml).")
]
OutputFormat = Annotated[Output, typer.Option("--output", help="Form of the listing.")]


def print_json(value: Any) -> None:
    """Pretty JSON on stdout; ASCII, so no text in it can steer a terminal."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout, every cell escaped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from detector.safe_text import safe

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(safe("" if cell is None else cell)) for cell in row))
    Console().print(table)


def read_ndjson(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of ours. Raises ``ConfigError`` when it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line]
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or "not NDJSON"
        raise ConfigError(f"cannot read {path}: {reason}") from e
