"""The frozen, validated configuration: TOML in, one object out, no I/O beyond the file.

Unknown keys are errors. A secret is given by reference, ``{ env = "NAME" }`` or
``{ file = "PATH" }``, never as text in the TOML itself.
"""

from __future__ import annotations

import os
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from detector.core.errors import ConfigError
from detector.core.registry import grant_fault
from models.weights import checked_weights

Severity = Literal["info", "low", "medium", "high", "critical"]


class Section(BaseModel):
    """One table of the file: unknown keys refused, immutable once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretRef(Section):
    """Where a secret is: in an environment variable or in a file, exactly one of them."""

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _one_place(self) -> SecretRef:
        if (self.env is None) == (self.file is None):
            raise ValueError("give exactly one of env, file")
        return self

    def read(self, what: str) -> str:
        """The secret's text, without surrounding white space.

        Raises ``ConfigError`` when the variable or the file is missing or empty.
        """
        if self.env is not None:
            text, place = os.environ.get(self.env, ""), f"environment variable {self.env}"
        else:
            assert self.file is not None
            place = f"file {self.file}"
            try:
                text = self.file.read_text(encoding="utf-8")
            except OSError as e:
                raise ConfigError(f"{what}: cannot read {place}: {e.strerror}") from e
        if not text.strip():
            raise ConfigError(f"{what}: {place} is missing or empty")
        return text.strip()


class KafkaSection(Section):
    """The input topic. ``options`` are passed to kafka-python as they are (TLS, SASL)."""

    bootstrap_servers: list[str] = Field(min_length=1)
    topic: str = Field(min_length=1)
    group_id: str = "keywatch"
    group_instance_id: str | None = None
    offset_reset: Literal["earliest", "latest", "error"] = "earliest"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None = None
    options: dict[str, str | int | float | bool] = {}
    poll_timeout_ms: int = Field(500, ge=50, le=5000)
    max_poll_records: int = Field(20_000, ge=1, le=200_000)
    session_timeout_ms: int = Field(45_000, ge=6_000)
    heartbeat_interval_ms: int = Field(3_000, ge=500)
    max_poll_interval_ms: int = Field(300_000, ge=10_000)
    connect_timeout_s: float = Field(30, gt=0, le=600)


class DecodeSection(Section):
    """How records are read."""

    format: Literal["auto", "canonical", "combined"] = "auto"
    trusted_proxies: list[str] = []
    trust_event_time: bool = False
    late_limit_s: float = Field(86_400, ge=0)
    future_limit_s: float = Field(300, ge=0, le=300)
    pepper: SecretRef | None = None
    value_bytes_max: int = Field(1 << 20, ge=1024)
    dead_letter: Path | None = None
    dead_letter_records_max: int = Field(100_000, ge=0)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for text in value:
            ip_network(text)  # raises ValueError with the offending text
        return value


class NetworkSection(Section):
    """Optional MaxMind DB files: with them a block is an autonomous system, and has a place."""

    asn_database: Path | None = None
    city_database: Path | None = None


class KeysSection(Section):
    """The optional key registry."""

    registry: Path | None = None


class DetectionSection(Section):
    """What a user tunes: one budget. The rest are documented, conservative defaults.

    ``weights``, by channel and signal, replace single shipped ones; ``tune fit`` writes them.
    """

    false_alerts_per_week: float = Field(5, gt=0, le=1000)
    throttles_per_week: float = Field(100, gt=0, le=10_000)
    keys_max: int = Field(2_000_000, ge=100)
    learn_from_verdicts: bool = False
    decoy_routes: list[str] = []
    weights: dict[str, dict[str, float]] = {}

    @field_validator("decoy_routes")
    @classmethod
    def _patterns(cls, value: list[str]) -> list[str]:
        for decoy in value:
            if fault := grant_fault(decoy):
                raise ValueError(f"{fault.replace('grant', 'decoy')} (in {decoy!r})")
        return value

    @field_validator("weights")
    @classmethod
    def _weights(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        checked_weights(value)  # raises ValueError with the offending name
        return value


class StateSection(Section):
    """Where snapshots, the journal of alerts and their delivery marks live."""

    dir: Path = Path("keywatch-state")
    snapshot_every_s: float = Field(30, gt=0)
    snapshot_every_events: int = Field(1_000_000, ge=1)
    snapshots_kept: int = Field(3, ge=3, le=100)


class SlackSection(Section):
    """Slack by bot token (needs ``channel``) or by incoming webhook."""

    bot_token: SecretRef | None = None
    channel: str | None = None
    webhook_url: SecretRef | None = None
    base_url: str = "https://slack.com/api/"
    min_severity: Severity = "low"

    @model_validator(mode="after")
    def _one_way(self) -> SlackSection:
        if (self.bot_token is None) == (self.webhook_url is None):
            raise ValueError("give exactly one of bot_token, webhook_url")
        if self.bot_token is not None and not self.channel:
            raise ValueError("bot_token needs channel")
        return self


class RevocationSection(Section):
    """The signed revocation webhook (Standard Webhooks). ``simulate`` never sends."""

    url: str
    secret: SecretRef
    mode: Literal["simulate", "live"] = "simulate"
    min_severity: Literal["medium", "high", "critical"] = "medium"
    allow_http_loopback: bool = False
    never_revoke: list[str] = []
    max_per_hour: int = Field(10, ge=1, le=1000)
    evidence_age_max_s: float = Field(900, gt=0)


class SinksSection(Section):
    """Where alerts go. The terminal is on unless switched off."""

    terminal: bool = True
    jsonl: Path | None = None
    slack: SlackSection | None = None
    revocation: RevocationSection | None = None
    queue_max: int = Field(100_000, ge=10)


class ServiceSection(Section):
    """Metrics, health and logs. Loopback unless configured otherwise."""

    http_host: str = "127.0.0.1"
    http_port: int = Field(9464, ge=0, le=65535)
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    stop_timeout_s: Annotated[float, Field(gt=0, le=600)] = 25
    stall_exit_s: float = Field(180, gt=5)


class Config(Section):
    """All of ``keywatch.toml``. ``replay`` works without any; ``run`` needs ``[kafka]``."""

    kafka: KafkaSection | None = None
    decode: DecodeSection = DecodeSection()
    network: NetworkSection = NetworkSection()
    keys: KeysSection = KeysSection()
    detection: DetectionSection = DetectionSection()
    state: StateSection = StateSection()
    sinks: SinksSection = SinksSection()
    service: ServiceSection = ServiceSection()


def load(path: Path | None) -> Config:
    """Reads and validates a TOML file; ``None`` gives the defaults.

    Raises ``ConfigError`` with one sentence that names the file and the offending entry.
    """
    if path is None:
        return Config()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"cannot read configuration {path}: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"configuration {path} is not valid TOML: {e}") from e
    try:
        return Config.model_validate(data)
    except ValidationError as e:
        raise ConfigError(f"configuration {path}: {_first_fault(e)}") from e


def _first_fault(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    first = faults[0]
    where = ".".join(str(part) for part in first["loc"]) or "top level"
    what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where}: {what}{more}"
