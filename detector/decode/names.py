"""First-seen values become text here; later events of the same value only carry a number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.events import U64
from detector.core.network import TAG_OTHER
from detector.decode import kernels
from detector.decode.address import network_of
from detector.decode.client import AGENT_BYTES_MAX, client_of
from detector.decode.intern import VALUES_MAX, Growing, Interner
from detector.decode.rows import SOURCE_IP, USER_AGENT, Rows
from detector.decode.settings import DecodeSettings
from detector.decode.siphash import derive, hash_text
from detector.decode.template import area_of


@dataclass(frozen=True, slots=True)
class Values:
    """One column of hashes and the text of each of its values."""

    column: U64
    names: dict[int, str]


class RouteNames:
    """Route texts and their areas by route hash."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._area_key = derive(settings.hash_seed, "area")
        self._interner = Interner(VALUES_MAX)
        self._areas = Growing()
        self._texts: list[tuple[str, str]] = []

    def columns(self, rows: Rows, route: U64) -> tuple[Values, Values]:
        """Routes and areas."""
        found = self._interner.intern(_pairs(route))
        if found.is_fresh:
            self._texts = []
            self._areas.reset()
        texts = [
            kernels.route_text(rows.buf, rows.cells[row])[0].decode()
            for row in found.new_rows.tolist()
        ]
        new = [(text, area_of(text)) for text in texts]
        self._texts += new
        self._areas.extend([hash_text(area, self._area_key) for _, area in new])
        area = self._areas.at(found.ids)
        routes: dict[int, str] = {}
        areas: dict[int, str] = {}
        seen = found.seen_rows
        cells = zip(
            found.ids[seen].tolist(), route[seen].tolist(), area[seen].tolist(), strict=True
        )
        for number, route_hash, area_hash in cells:
            routes[route_hash], areas[area_hash] = self._texts[number]
        return Values(route, routes), Values(area, areas)


class ClientNames:
    """Clients by look-up hash of the user agent."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._key = derive(settings.hash_seed, "client")
        self._interner = Interner(VALUES_MAX)
        self._clients = Growing()
        self._texts: list[str] = []

    def columns(self, rows: Rows, agent: U64) -> Values:
        """Clients of a batch."""
        found = self._interner.intern(_pairs(agent))
        if found.is_fresh:
            self._texts = []
            self._clients.reset()
        texts = [
            client_of(rows.text(row, USER_AGENT, AGENT_BYTES_MAX))
            for row in found.new_rows.tolist()
        ]
        self._texts += texts
        self._clients.extend([hash_text(text, self._key) if text else 0 for text in texts])
        column = self._clients.at(found.ids)
        seen = found.seen_rows
        numbers, hashes = found.ids[seen].tolist(), column[seen].tolist()
        names = {h: self._texts[number] for number, h in zip(numbers, hashes, strict=True) if h}
        return Values(column, names)


class NetworkNames:
    """Networks of whatever is not a plain IPv4 address, by look-up hash of its text."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._key = derive(settings.hash_seed, "network")
        self._trusted = settings.proxy_networks()
        self._interner = Interner(VALUES_MAX)
        self._networks = Growing()
        self._texts: list[str | None] = []

    def columns(self, rows: Rows, network: U64, address: U64) -> Values:
        """``network`` completed where it is 0 and ``address`` is not."""
        found = self._interner.intern(_pairs(address))
        if found.is_fresh:
            self._texts = []
            self._networks.reset()
        new = [
            network_of(rows.text(row, SOURCE_IP), self._trusted, self._key)
            for row in found.new_rows.tolist()
        ]
        self._texts += [text for _, text in new]
        self._networks.extend([packed for packed, _ in new])
        column = np.where(network == 0, self._networks.at(found.ids), network)
        names: dict[int, str] = {}
        seen = found.seen_rows
        for number, packed in zip(found.ids[seen].tolist(), column[seen].tolist(), strict=True):
            text = self._texts[number]
            if text is not None and packed >> 60 == TAG_OTHER:
                names[packed] = text
        return Values(column, names)


def _pairs(hashes: U64) -> U64:
    out = np.zeros((len(hashes), 2), np.uint64)
    out[:, 0] = hashes
    return out
