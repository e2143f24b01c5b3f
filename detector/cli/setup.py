"""Commands for setting up: configuration, checks, key fingerprints."""

from __future__ import annotations

import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from detector.cli.options import ConfigFile, RequiredConfigFile, print_json
from detector.core.errors import UsageError

keys_app = typer.Typer(help="API keys and their names.", no_args_is_help=True)
config_app = typer.Typer(help="The configuration file.", no_args_is_help=True)


@config_app.command()
def init(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="New file; stdout without it.")
    ] = None,
) -> None:
    """Write a commented example configuration. Never overwrites a file."""
    text = files("detector.cli").joinpath("keywatch.toml").read_text(encoding="utf-8")
    if out is None:
        sys.stdout.write(text)
        return
    try:
        with open(out, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as e:
        raise UsageError(f"{out} exists already") from e
    except OSError as e:
        raise UsageError(f"cannot write {out}: {e.strerror}") from e


@config_app.command()
def show(config: ConfigFile = None) -> None:
    """Show the configuration with all defaults, as JSON; secrets only by reference."""
    from detector.config import load

    print_json(load(config).model_dump(mode="json"))


@config_app.command()
def schema() -> None:
    """Show the JSON Schema of the configuration."""
    from detector.config import Config

    print_json(Config.model_json_schema())


@keys_app.command()
def fingerprint(config: RequiredConfigFile) -> None:
    """Turn a raw API key on stdin into the name keywatch knows it by."""
    from detector.config import load
    from detector.decode.key_names import fingerprint as of

    section = load(config).decode
    if section.pepper is None:
        raise UsageError("fingerprints need [decode] pepper in the configuration")
    raw = sys.stdin.readline().rstrip("\r\n")
    if not raw:
        raise UsageError("give one raw key on stdin")
    pepper = section.pepper.read("decode.pepper").encode()
    sys.stdout.write(of(raw.encode(), pepper) + "\n")


def validate(
    config: RequiredConfigFile,
    connect: Annotated[
        bool, typer.Option("--connect", help="Also connect to the broker and find the topic.")
    ] = False,
) -> None:
    """Check configuration, key registry, secrets and sinks; send nothing."""
    from detector.assembly import make_engine, read_pepper
    from detector.config import load
    from detector.sinks.factory import make_sinks
    from detector.stores.memory import MemoryStore

    loaded = load(config)
    engine = make_engine(loaded, read_pepper(loaded), bytes(32))
    sinks = make_sinks(loaded.sinks, MemoryStore(), time.time, time.sleep, lambda: engine.registry)
    said = [f"configuration {config} is good", f"sinks: {', '.join(s.name for s in sinks)}"]
    if engine.registry is not None and loaded.keys.registry is not None:
        said.append(f"registry: {len(engine.registry)} keys")
    if loaded.kafka is not None:
        from detector.sources.kafka_options import consumer_options

        consumer_options(loaded.kafka)
        if connect:
            said.append(_connected(loaded.kafka))
    elif connect:
        raise UsageError("--connect needs a [kafka] section")
    sys.stdout.write("\n".join(said) + "\n")


def _connected(section: object) -> str:
    from detector.config import KafkaSection
    from detector.sources.kafka import KafkaSource

    assert isinstance(section, KafkaSection)
    source = KafkaSource(section)
    source.close(1.0)
    return f"topic {section.topic}: {source.partition_count} partitions"
