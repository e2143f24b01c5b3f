"""The pepper and the hash seed of a replay."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from detector.config import Config
from detector.core.errors import UsageError
from detector.decode import DecodeSettings
from detector.decode.seed import PUBLIC_SEED, seed_of

PEPPER_FILE = "pepper"
PEPPER_NOTE = (
    "The log holds raw API keys: they were replaced by fingerprints under a new pepper, kept in"
    " {0} beside this file (mode 0600)."
)


@dataclass(slots=True)
class ReplaySecrets:
    """The configured pepper, or one made for this replay and kept beside its output.

    The hash seed follows the configured pepper, as in the live service, so a replay equals
    it; without one it is public and fixed, so two replays of one log are equal anywhere.
    """

    pepper: bytes = field(repr=False)
    seed: bytes = field(repr=False)
    made_file: Path | None = None

    @classmethod
    def of(cls, config: Config, out: Path) -> ReplaySecrets:
        """Reads or makes the secrets. Raises ``ConfigError`` or ``UsageError``."""
        if config.decode.pepper is not None:
            pepper = config.decode.pepper.read("decode.pepper").encode()
            return cls(pepper, seed_of(pepper))
        path = out / PEPPER_FILE
        try:
            pepper = path.read_bytes() if path.exists() else secrets.token_bytes(32)
        except OSError as e:
            raise UsageError(f"cannot read {path}: {e.strerror}") from e
        return cls(pepper, PUBLIC_SEED, path)

    def decode_settings(self, config: Config) -> DecodeSettings:
        """How to decode: a replay has no broker's clock to hold events against."""
        section = config.decode
        return DecodeSettings(
            hash_seed=self.seed,
            pepper=self.pepper,
            trusted_proxies=tuple(section.trusted_proxies),
            value_bytes_max=section.value_bytes_max,
            trust_event_time=True,
            asn_database=config.network.asn_database,
            city_database=config.network.city_database,
        )

    def notes(self, raw_keys: int) -> list[str]:
        """Keeps a made pepper (mode 0600) when raw keys came in, and says so.

        ``raw_keys`` is the sum of the decoders' ``maker.raw_keys``. Raises ``UsageError``.
        """
        if self.made_file is None or not raw_keys:
            return []
        try:
            descriptor = os.open(self.made_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.pepper)
        except OSError as e:
            raise UsageError(f"cannot write {self.made_file}: {e.strerror}") from e
        return [PEPPER_NOTE.format(self.made_file.name)]
