"""Commands that tell a service what people say: verdicts on alerts, resets of keys."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from detector.cli.options import RequiredConfigFile
from detector.core.errors import UsageError

_AlertId = Annotated[str, typer.Argument(help="The id shown with the alert.")]
_Key = Annotated[str, typer.Argument(help="The key's name as alerts show it; never a raw key.")]
_Until = Annotated[
    str | None, typer.Option("--until", help="Event time (RFC 3339) at which it ends.")
]


def confirm(alert_id: _AlertId, config: RequiredConfigFile) -> None:
    """Say that an alert was a true one."""
    _ask(config, verdict="confirmed", alert_id=alert_id)


def expected(alert_id: _AlertId, config: RequiredConfigFile, until: _Until = None) -> None:
    """Say that what an alert shows is the owner's own doing."""
    _ask(config, verdict="expected", alert_id=alert_id, until=until)


def withdraw(alert_id: _AlertId, config: RequiredConfigFile) -> None:
    """Take a verdict back."""
    _ask(config, verdict="withdrawn", alert_id=alert_id)


def reset(key: _Key, config: RequiredConfigFile) -> None:
    """Forget all that was learned of a key. Cannot be undone."""
    _ask(config, verdict="reset", key=key)


def accept(
    key: _Key,
    config: RequiredConfigFile,
    network: Annotated[str, typer.Option("--network", help="As alerts write it.")] = "",
    client: Annotated[str, typer.Option("--client", help="As alerts write it.")] = "",
    until: _Until = None,
) -> None:
    """Say that a network, a client, or both together, are a key's own."""
    if not network and not client:
        raise UsageError("give --network, --client or both")
    _ask(config, verdict="expected", key=key, network=network, client=client, until=until)


def _ask(config: Path, until: str | None = None, **said: Any) -> None:
    """Puts a request into the state directory; the service takes it within seconds."""
    from detector.cli.state import RequestStore, find_alert
    from detector.config import load
    from detector.controls import Request
    from detector.decode.timestamp import parse_timestamp

    until_us = None
    if until is not None:
        until_us = parse_timestamp(until.encode("utf-8", "replace"))
        if until_us < 0:
            raise UsageError("--until is RFC 3339 with an offset, in the years 2000 to 2100")
    store = RequestStore(load(config).state.dir)
    if "alert_id" in said:
        alert = find_alert(store, said["alert_id"])
        if alert is None:
            raise UsageError(f"no alert {said['alert_id']} in the state directory")
        if alert["key"] == "*" and said["verdict"] == "expected":
            raise UsageError("a notice is about many keys: give a verdict on each of their alerts")
    key = store.ask(Request(until_us=until_us, **said))
    sys.stdout.write(f"asked for: {key}; a running service takes it within seconds\n")
