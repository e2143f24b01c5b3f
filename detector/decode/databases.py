"""Optional databases about networks: autonomous systems and positions (MaxMind DB files).

Read with ``maxminddb``. Any file works whose records are named as in GeoLite2 and whose type
says what it is: ASN (or ISP), City (or Enterprise). Nothing is downloaded or reloaded.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.core.errors import ConfigError
from detector.core.network import TAG_V4, TAG_V6, network_text, pack_asn, pack_place
from detector.decode.text import printable

if TYPE_CHECKING:
    from maxminddb import Reader

NAME_CHARS_MAX = 80
_ASN_MAX = (1 << 32) - 1
_ASN_TYPES, _CITY_TYPES = ("ASN", "ISP"), ("City", "Enterprise")


class Database:
    """One open file. Memory-mapped: a new version must replace it, not overwrite it."""

    def __init__(self, path: Path, entry: str, types: tuple[str, ...]) -> None:
        """Raises ``ConfigError``; ``entry`` names the configuration's entry in it."""
        self._where = f"{entry} {path}"
        self._reader = self._open(path)
        found = str(self._reader.metadata().database_type)
        if not any(word in found for word in types):
            raise ConfigError(
                f"{self._where}: its type is {printable(found)[:NAME_CHARS_MAX]!r}, "
                f"which does not contain {' or '.join(types)}"
            )
        self._has_v6 = self._reader.metadata().ip_version == 6

    def record(self, network: int) -> dict[str, Any]:
        """What it says of a packed network's first address; empty for nothing.

        Raises ``ConfigError`` when the file is damaged there.
        """
        tag, value = network >> 60, network & ((1 << 60) - 1)
        if tag != TAG_V4 and (tag != TAG_V6 or not self._has_v6):
            return {}
        address = IPv4Address(value << 8) if tag == TAG_V4 else IPv6Address(value << 80)
        try:
            record = self._reader.get(address)
        except (RuntimeError, ValueError, RecursionError) as e:  # InvalidDatabaseError and its kin
            what = f"the database is damaged at {network_text(network)}"
            raise ConfigError(f"{self._where}: {what}") from e
        return record if isinstance(record, dict) else {}

    def _open(self, path: Path) -> Reader:
        from maxminddb import open_database

        try:
            return open_database(path)
        except OSError as e:
            raise ConfigError(f"cannot read {self._where}: {e.strerror or e}") from e
        except (RuntimeError, ValueError, TypeError, KeyError, RecursionError) as e:
            raise ConfigError(f"{self._where} is not a MaxMind DB file, or damaged") from e


class Databases:
    """The configured databases; either may be missing. Raises ``ConfigError``."""

    def __init__(self, asn: Path | None, city: Path | None) -> None:
        self._asn = Database(asn, "network.asn_database", _ASN_TYPES) if asn else None
        self._city = Database(city, "network.city_database", _CITY_TYPES) if city else None

    def __bool__(self) -> bool:
        return self._asn is not None or self._city is not None

    def system_of(self, network: int) -> tuple[int, str]:
        """A network's autonomous system as a block, and its text; ``(0, "")`` = unknown."""
        record = self._asn.record(network) if self._asn is not None else {}
        number = record.get("autonomous_system_number")
        if not isinstance(number, int) or not 0 < number <= _ASN_MAX:
            return 0, ""
        owner = record.get("autonomous_system_organization")
        name = printable(owner)[:NAME_CHARS_MAX] if isinstance(owner, str) else ""
        return pack_asn(number), f"AS{number} {name}".rstrip()

    def place_of(self, network: int) -> int:
        """A network's packed position; 0 = unknown."""
        record = self._city.record(network) if self._city is not None else {}
        location = record.get("location")
        at = location if isinstance(location, dict) else {}
        latitude, longitude = at.get("latitude"), at.get("longitude")
        if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
            return 0
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):
            return 0
        return pack_place(latitude, longitude)
