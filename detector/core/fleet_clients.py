"""A client release: one new client on many keys, each from the networks it always had.

For one key a new client is news; on the sixth key of a third owner within a day it is a
version somebody published. The evidence of a new client is then bounded by how common it is
among the keys that stand out today: of K such keys c show it, so chance alone shows it with
probability at least c / (K + c), and the evidence is at most ``log(1 + K / c)`` nats.

Only keys whose network is not news count: thieves with one tool on many keys come from
elsewhere, and must not pass for a release.
"""

from __future__ import annotations

from functools import partial
from math import log

import msgspec

from detector.core.fleet_window import (
    DAY_US,
    HOUR_US,
    Finding,
    Notice,
    Sight,
    Window,
    expire,
    owned,
    owners,
    put,
    recent,
)

RELEASE_KEYS, RELEASE_OWNERS, RELEASE_NETWORKS = 6, 3, 3
NEWS_NATS = 1.0  # a network that costs as much is news
CLIENTS_MAX, CLIENT_KEYS_MAX = 512, 256


class Clients(msgspec.Struct):
    """Windows of one day by client."""

    windows: dict[str, Window] = {}

    def observe(self, sight: Sight, log_change_keys: int) -> Finding:
        """Counts a sight; has a notice when nearly everybody's client changed at once."""
        if not _counts(sight):
            return Finding()
        window = self.windows.get(sight.client, {})
        expire(window, sight.now_us - DAY_US)
        put(window, sight.key, sight.mark(0.0), CLIENT_KEYS_MAX)
        put(self.windows, sight.client, window, CLIENTS_MAX)
        n = recent(window, sight.now_us - HOUR_US)
        if n < log_change_keys:
            return Finding()
        return Finding(0.0, f"client/{sight.client}", partial(_changed, sight.client, n))

    def judge(self, sight: Sight, keys_today: int) -> Finding:
        """What a release of its client explains of it."""
        nats = sight.nats.get("new_client", 0.0)
        window = self.windows.get(sight.client)
        if sight.throttle or nats <= 0.0 or window is None:
            return Finding()
        expire(window, sight.now_us - DAY_US)
        if not _is_release(window):
            return Finding()
        # nothing but the client makes this source a new one
        more = ("actor_volume",) if _counts(sight) else ()
        explained = sight.explained("new_client", *more)
        explained = max(0.0, explained - min(nats, log(1.0 + keys_today / len(window))))
        notice = partial(_released, sight.client, window)
        return Finding(-explained, f"client/{sight.client}", notice)

    def forget(self, now_us: int) -> None:
        """Drops clients nobody brought for a day."""
        for window in self.windows.values():
            expire(window, now_us - DAY_US)
        self.windows = {client: window for client, window in self.windows.items() if window}


def _counts(sight: Sight) -> bool:
    has_client = sight.client != "" and sight.nats.get("new_client", 0.0) > 0.0
    return has_client and not sight.throttle and sight.share("new_network") < NEWS_NATS


def _is_release(window: Window) -> bool:
    if len(window) < RELEASE_KEYS or owners(window) < RELEASE_OWNERS:
        return False
    return len({m.network for m in window.values()}) >= RELEASE_NETWORKS


def _released(client: str, window: Window) -> Notice:
    text = (
        f"client {client} is new on {owned(window)} within 24 hours, each on networks of its"
        " own: a client release. Alerts that rest on this client are left out"
    )
    return Notice("common_cause", "low", text, len(window), 0.0)


def _changed(client: str, n: int) -> Notice:
    text = (
        f"data_quality: the log changed: {n} keys show the client {client} for the first time"
        " within an hour. Look for a proxy or log format that drops or rewrites the user agent"
    )
    return Notice("common_cause", "medium", text, n, 0.0)
