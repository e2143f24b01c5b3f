"""What public catalogues call each signal: MITRE ATT&CK techniques, OWASP API risks. Closed.

A reference says what kind of attack a signal belongs to and where to read on. It is no finding
that the API has that weakness. Sources: MITRE ATT&CK for Enterprise
(https://attack.mitre.org/techniques/), whose tactics are left out because they get other names
from version to version; OWASP API Security Top 10, 2023
(https://owasp.org/API-Security/editions/2023/en/0x11-t10/).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ATTACK, OWASP = "MITRE ATT&CK", "OWASP API Security Top 10"
REFERENCES_MAX = 6  # of one alert, its strongest signals' first


@dataclass(frozen=True, slots=True)
class Reference:
    """An entry of a catalogue."""

    framework: str
    id: str
    name: str


def _technique(its_id: str, name: str) -> Reference:
    return Reference(ATTACK, its_id, name)


def _risk(number: int, name: str) -> Reference:
    return Reference(OWASP, f"API{number}:2023", name)


_ACCOUNT = _technique("T1078.004", "Valid Accounts: Cloud Accounts")
_TOKEN = _technique("T1550.001", "Use Alternate Authentication Material: Application Access Token")
_STEAL = _technique("T1528", "Steal Application Access Token")
_LEAK = _technique("T1552", "Unsecured Credentials")
_GUESS = _technique("T1110", "Brute Force")
_DISCOVER = _technique("T1526", "Cloud Service Discovery")
_SCAN = _technique("T1595", "Active Scanning")
_WORDLIST = _technique("T1595.003", "Active Scanning: Wordlist Scanning")
_COLLECT = _technique("T1119", "Automated Collection")
_REPOSITORY = _technique("T1213", "Data from Information Repositories")
_EXFILTRATE = _technique("T1020", "Automated Exfiltration")
_SMALL = _technique("T1030", "Data Transfer Size Limits")
_FLOOD = _technique("T1499.003", "Endpoint Denial of Service: Application Exhaustion Flood")

_OBJECTS = _risk(1, "Broken Object Level Authorization")
_AUTHENTICATION = _risk(2, "Broken Authentication")
_CONSUMPTION = _risk(4, "Unrestricted Resource Consumption")
_FUNCTIONS = _risk(5, "Broken Function Level Authorization")
_FLOWS = _risk(6, "Unrestricted Access to Sensitive Business Flows")
_INVENTORY = _risk(9, "Improper Inventory Management")

REFERENCES: dict[str, tuple[Reference, ...]] = {
    "new_network": (_TOKEN, _ACCOUNT, _AUTHENTICATION),
    "new_client": (_TOKEN, _AUTHENTICATION),
    "new_route": (_DISCOVER, _FUNCTIONS),
    "new_area": (_DISCOVER, _FUNCTIONS),
    "foreign_mix": (_TOKEN, _DISCOVER, _AUTHENTICATION),
    "actor_volume": (_COLLECT, _CONSUMPTION),
    "volume": (_FLOOD, _CONSUMPTION),
    "probing": (_WORDLIST, _FUNCTIONS, _INVENTORY),
    "dormancy": (_ACCOUNT, _AUTHENTICATION),
    "concurrency": (_TOKEN, _AUTHENTICATION),
    "enumeration": (_COLLECT, _REPOSITORY, _OBJECTS),
    "sequence": (_COLLECT, _OBJECTS),
    "additive": (_TOKEN, _AUTHENTICATION),
    "off_hours": (_ACCOUNT, _AUTHENTICATION),
    "slow_drift": (_EXFILTRATE, _SMALL, _FLOWS),
    "errors": (_GUESS, _AUTHENTICATION),
    "surge": (_FLOOD, _CONSUMPTION),
    "travel": (_ACCOUNT, _AUTHENTICATION),
    "denied": (_DISCOVER, _FUNCTIONS),
    "misses": (_WORDLIST, _OBJECTS),
    "roaming": (_TOKEN, _AUTHENTICATION),
    "slow_objects": (_COLLECT, _SMALL, _OBJECTS),
    "actor_excess": (_TOKEN, _CONSUMPTION),
    "out_of_grant": (_ACCOUNT, _FUNCTIONS),
    "decoy": (_SCAN, _INVENTORY),
    "revoked": (_TOKEN, _AUTHENTICATION),
    "rotated": (_TOKEN, _AUTHENTICATION),
    "campaign": (_STEAL, _LEAK, _AUTHENTICATION),
    "common_cause": (),  # a change of the log or of the fleet: no attack
}


def references_of(signals: Iterable[str]) -> tuple[Reference, ...]:
    """Of these signals, in their order, each once, at most REFERENCES_MAX.

    >>> [r.id for r in references_of(["enumeration", "sequence"])]
    ['T1119', 'T1213', 'API1:2023']
    """
    found = dict.fromkeys(r for signal in signals for r in REFERENCES[signal])
    return tuple(found)[:REFERENCES_MAX]
