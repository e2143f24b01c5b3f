"""What a decoder must know besides the bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from detector.core.errors import ConfigError

SEED_BYTES_MIN, SEED_BYTES_MAX = 16, 64
EVENTS_PER_MESSAGE_MAX = 10_000


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How records are read. Never shows its secrets in ``repr``.

    Parameters
    ----------
    pepper
        Secret for the fingerprints of raw keys. ``None``: a raw key raises ``ConfigError``.
    hash_seed
        16 to 64 secret bytes that key every hash. State is comparable only between
        decoders with the same seed.
    trusted_proxies
        Networks whose ``X-Forwarded-For`` entries are believed.
    value_bytes_max
        A longer message is rejected unread.
    trust_event_time
        Switches off the clamp of event time against the broker's record timestamp.
    late_limit_s, future_limit_s
        How far event time may lie before and after the broker's timestamp.
    asn_database, city_database
        MaxMind DB files: autonomous systems as blocks, positions as places.

    Raises ``ConfigError`` for values that cannot work.
    """

    hash_seed: bytes = field(repr=False)
    pepper: bytes | None = field(default=None, repr=False)
    trusted_proxies: tuple[str, ...] = ()
    value_bytes_max: int = 1 << 20
    trust_event_time: bool = False
    late_limit_s: float = 86_400
    future_limit_s: float = 300
    asn_database: Path | None = None
    city_database: Path | None = None

    def __post_init__(self) -> None:
        if not SEED_BYTES_MIN <= len(self.hash_seed) <= SEED_BYTES_MAX:
            raise ConfigError(
                f"the hash seed must hold {SEED_BYTES_MIN} to {SEED_BYTES_MAX} bytes, "
                f"not {len(self.hash_seed)}"
            )
        if self.pepper is not None and not self.pepper:
            raise ConfigError("the pepper is empty")
        if self.value_bytes_max < 1:
            raise ConfigError("value_bytes_max must be positive")
        self.proxy_networks()

    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The trusted proxies as networks."""
        try:
            return tuple(ip_network(text) for text in self.trusted_proxies)
        except ValueError as e:
            raise ConfigError(f"trusted_proxies: {e}") from e
