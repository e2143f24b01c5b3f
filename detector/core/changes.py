"""What the fold says of a key whose lines changed, as a candidate for the fleet stage.

A change is a short text: ``network/10.0.0.0/24`` or ``client/proxy/1`` (the one value all requests
now show), ``prefix//api`` (before all paths), ``no_network``, ``no_client``, ``network_came``,
``client_came``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detector.core import kernel_fields as fields
from detector.core.book import Subject
from detector.core.episodes import Candidate, Episode, alert_id
from detector.core.sentences import Texts

SCORE_NATS = 3.0  # of a notice: it is no suspicion, so it says the least there is
_PLAIN = {
    fields.NO_NETWORK: "no_network",
    fields.NO_CLIENT: "no_client",
    fields.NETWORK_CAME: "network_came",
    fields.CLIENT_CAME: "client_came",
}


def prefix_change(prefix: int, prefixes: Mapping[int, str]) -> str:
    """The change of a prefix by its number; empty for 0."""
    return f"prefix/{prefixes.get(prefix, f'#{prefix:016x}')}" if prefix else ""


def changed(row: Any, who: Subject, texts: Texts, prefixes: Mapping[int, str]) -> Candidate:
    """The candidate of a CHANGE row. Its episode is nobody's: it only carries key and time."""
    change, value = int(row["change"]), int(row["value"])
    if change == fields.PREFIX:
        name = prefix_change(value, prefixes)
    elif change == fields.NETWORK:
        name = f"network/{texts.network(value)}"
    elif change == fields.CLIENT:
        name = f"client/{texts.client(value)}"
    else:
        name = _PLAIN[change]
    ts_us, ordinal = int(row["ts_us"]), int(row["ordinal"])
    return Candidate(ts_us, ordinal, False, False, _carrier(who, name, ts_us, ordinal), change=name)


def _carrier(who: Subject, name: str, ts_us: int, ordinal: int) -> Episode:
    return Episode(
        alert_id=alert_id(who.name.text, f"log/{name}", ts_us, ordinal),
        key=who.name.text,
        owner=who.owner,
        channel="stolen",
        severity="info",
        state="closed",
        opened_us=ts_us,
        first_suspicious_us=ts_us,
        peak_us=ts_us,
        last_seen_us=ts_us,
        closed_us=ts_us,
        alerted_us=None,
        score=SCORE_NATS,
        threshold=SCORE_NATS,
        return_period_days=None,
        reasons=(),
        actor=None,
        requests_leaked=0,
        bytes_leaked=0,
        action="none",
        simulated=True,
        curve=(),
    )
