"""The consumer's options: ours are fixed and explicit, the operator's pass through."""

from __future__ import annotations

from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from detector.config import KafkaSection, SecretRef
from detector.core.errors import ConfigError

_SECRET_SUFFIX = "password"  # noqa: S105 - the end of an option's name


def consumer_options(section: KafkaSection) -> dict[str, Any]:
    """Keyword arguments for ``KafkaConsumer``.

    ``kafka.options`` adds to ours and may replace none. An option whose name ends with
    ``password`` is a reference, ``env:NAME`` or ``file:PATH``, never the secret itself.
    Raises ``ConfigError``.
    """
    if find_spec("crc32c") is None:
        raise ConfigError(
            "the package crc32c is missing (install kafka-python[crc32c]): without it the "
            "client checks records at a few MB/s"
        )
    ours = {**_fixed(section), "security_protocol": _security_protocol(section)}
    taken = sorted(ours.keys() & section.options.keys())
    if taken:
        raise ConfigError(f"kafka.options.{taken[0]} is set by keywatch itself, remove it")
    theirs = {name: _plain(name, value) for name, value in section.options.items()}
    return {**ours, **theirs}


def _fixed(section: KafkaSection) -> dict[str, Any]:
    return {
        "bootstrap_servers": list(section.bootstrap_servers),
        "client_id": "keywatch",
        "group_id": section.group_id,
        "group_instance_id": section.group_instance_id,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "allow_auto_create_topics": False,
        # eager: the cooperative assignor of this client left partitions unowned in trials
        "partition_assignment_strategy": [StickyPartitionAssignor()],
        "max_poll_records": section.max_poll_records,
        "session_timeout_ms": section.session_timeout_ms,
        "heartbeat_interval_ms": section.heartbeat_interval_ms,
        "max_poll_interval_ms": section.max_poll_interval_ms,
        "bootstrap_timeout_ms": int(section.connect_timeout_s * 1000),
        "check_crcs": True,
    }


def _security_protocol(section: KafkaSection) -> str:
    if section.security_protocol is not None:
        return section.security_protocol
    remote = [s for s in section.bootstrap_servers if not is_loopback(s)]
    if remote:
        raise ConfigError(
            f"kafka.security_protocol is not set and broker {remote[0]} is not on this machine: "
            'set "SSL" or "SASL_SSL", or "PLAINTEXT" to accept an unencrypted connection'
        )
    return "PLAINTEXT"


def is_loopback(server: str) -> bool:
    """True when ``host:port`` is this machine by name or address; no name is resolved.

    >>> [is_loopback(s) for s in ("localhost:9092", "[::1]:9092", "127.0.0.1", "kafka:9092")]
    [True, True, True, False]
    """
    host = server.rpartition("://")[2]
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _plain(name: str, value: Any) -> Any:
    if not name.endswith(_SECRET_SUFFIX):
        return value
    scheme, _, place = str(value).partition(":")
    what = f"kafka.options.{name}"
    if scheme == "env" and place:
        return SecretRef(env=place).read(what)
    if scheme == "file" and place:
        return SecretRef(file=Path(place)).read(what)
    raise ConfigError(f'{what} must be "env:NAME" or "file:PATH", never the secret itself')
