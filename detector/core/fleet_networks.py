"""One new network on many keys: a campaign, or a proxy that moved.

A party that holds many stolen keys comes to all of them from its own machines: each key sees
a network it never saw, and with it a client, routes or identifiers foreign to it. Then every
further key is evidence for all of them. A proxy, an office or a log that lost the client's
address brings the network alone: everything else stays as it was.

Either way people need one sentence, not an alert per key: the first ones speak for
themselves, then one notice speaks for all.
"""

from __future__ import annotations

from functools import partial
from math import log

import msgspec

from detector.core.episodes import Reason
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
    some_keys,
)

FAN_KEYS, FAN_OWNERS = 5, 3
SURE_KEYS = 8  # so many are a campaign however little each of them shows
SPEAKERS = 3  # alerts of one network before it is one notice
FOREIGN_SHARE, FOREIGN_NATS = 0.5, 1.0
NEWS_NATS = 0.5  # of a score: a young key's weights give a new network little
FAN_RHO, FAN_NATS_MAX = 8.0, 9.0  # a campaign has eight times the keys that chance brings
USUAL_PRIOR, USUAL_WEIGHT = 0.25, 8.0  # other keys of a new network, and its weight in networks
USUAL_NETWORKS_MAX = 1000.0
NETWORKS_MAX, NETWORK_KEYS_MAX = 1024, 256
_FOREIGN = (
    *("new_client", "new_route", "new_area", "foreign_mix"),
    *("enumeration", "sequence", "probing"),
)
_NETWORK_ONLY = ("new_network", "actor_volume", "concurrency", "travel", "additive")


class _Fan(msgspec.Struct):
    window: Window = {}
    spoke: list[str] = []


class Networks(msgspec.Struct):
    """Windows of one day by network, and how many keys a new network usually reaches."""

    fans: dict[str, _Fan] = {}
    over: float = 0.0  # networks whose day is over
    others: float = 0.0  # keys beside the first that they reached

    def observe(self, sight: Sight, log_change_keys: int) -> Finding:
        """Counts a sight; has a notice for a certain campaign, and for a log that changed."""
        self._retire(sight.now_us - DAY_US)
        if sight.throttle or sight.network == "" or sight.share("new_network") < NEWS_NATS:
            return Finding()
        fan = self.fans.get(sight.network) or _Fan()
        expire(fan.window, sight.now_us - DAY_US)
        before = fan.window.get(sight.key)
        is_foreign = sight.share(*_FOREIGN) >= FOREIGN_NATS or (
            before is not None and before.foreign
        )
        put(fan.window, sight.key, sight.mark(0.0, foreign=is_foreign), NETWORK_KEYS_MAX)
        put(self.fans, sight.network, fan, NETWORKS_MAX)
        if len(fan.window) >= SURE_KEYS and _is_party(fan.window):
            return self._judge_party(sight, fan.window, is_full=False)
        if not self._is_log_change(fan, sight.now_us, log_change_keys):
            return Finding()
        return Finding(0.0, _about(sight), partial(_changed, sight.network, fan.window))

    def judge(self, sight: Sight, log_change_keys: int) -> Finding | None:
        """What is known of its network; ``None`` when it is not on many keys."""
        fan = self.fans.get(sight.network)
        if sight.throttle or fan is None or sight.key not in fan.window:
            return None
        expire(fan.window, sight.now_us - DAY_US)
        n = len(fan.window)
        if n < FAN_KEYS and not (n > SPEAKERS and len(fan.spoke) >= SPEAKERS):
            return None
        is_full = len(fan.spoke) >= SPEAKERS and sight.alert_id not in fan.spoke
        if _is_foreign(fan.window):
            return self._judge_party(sight, fan.window, is_full=is_full)
        is_log = self._is_log_change(fan, sight.now_us, log_change_keys)
        explained = sight.explained(*_NETWORK_ONLY) if is_full or is_log else 0.0
        notice = partial(_changed if is_log else _shared, sight.network, fan.window)
        return Finding(-explained, _about(sight), notice)

    def _judge_party(self, sight: Sight, window: Window, *, is_full: bool) -> Finding:
        """Somebody with keys that are not one owner's, once a third owner is among them."""
        n, expected = len(window), round(1.0 + self._usual(), 3)
        if not _is_party(window):
            told = partial(_shared, sight.network, window) if n >= SURE_KEYS else None
            return Finding(0.0, _about(sight), told, is_full)
        notice = partial(_campaign, sight.network, window, expected)
        nats, reason = 0.0, None
        if sight.share("new_network") >= NEWS_NATS:
            text = f"network {sight.network} came new to {owned(window)} within 24 hours"
            nats = self._nats(n)
            reason = Reason("campaign", nats, n, expected, text)
        about = f"campaign/{sight.network}"
        return Finding(nats, about, notice, is_full, reason, n >= SURE_KEYS)

    def speak(self, sight: Sight) -> None:
        """Notes that an episode of this network is over its threshold."""
        fan = self.fans.get(sight.network)
        if fan is None or sight.key not in fan.window or sight.alert_id in fan.spoke:
            return
        if len(fan.spoke) < SPEAKERS:
            fan.spoke.append(sight.alert_id)

    def is_fan(self, network: str) -> bool:
        """True when it came to many keys within a day."""
        fan = self.fans.get(network)
        return fan is not None and len(fan.window) >= FAN_KEYS

    def _nats(self, keys: int) -> float:
        """Log-likelihood ratio (Poisson) of eight times the usual number of other keys."""
        nats = (keys - 1) * log(FAN_RHO) - (FAN_RHO - 1.0) * self._usual()
        return round(min(max(nats, 0.0), FAN_NATS_MAX), 3)

    def _usual(self) -> float:
        return (self.others + USUAL_PRIOR * USUAL_WEIGHT) / (self.over + USUAL_WEIGHT)

    def _retire(self, before_us: int) -> None:
        """Counts networks whose day is over, at most as many keys as a campaign has."""
        while self.fans:
            network = next(iter(self.fans))
            marks = list(self.fans[network].window.values())
            if marks and marks[-1].at_us >= before_us:
                return
            self.over += 1.0
            self.others += float(min(max(len(marks), 1), FAN_KEYS) - 1)
            if self.over > USUAL_NETWORKS_MAX:
                self.over, self.others = self.over / 2, self.others / 2
            del self.fans[network]

    @staticmethod
    def _is_log_change(fan: _Fan, now_us: int, log_change_keys: int) -> bool:
        if len(fan.window) < log_change_keys or _is_foreign(fan.window):
            return False
        return recent(fan.window, now_us - HOUR_US) >= log_change_keys


def _about(sight: Sight) -> str:
    return f"network/{sight.network}"


def _is_party(window: Window) -> bool:
    return owners(window) >= FAN_OWNERS and _is_foreign(window)


def _is_foreign(window: Window) -> bool:
    return sum(m.foreign for m in window.values()) >= FOREIGN_SHARE * len(window)


def _campaign(network: str, window: Window, expected: float) -> Notice:
    text = (
        f"campaign: network {network} on {owned(window)} within 24 hours, with clients, routes"
        " or identifiers foreign to them: one party with many stolen keys. Block the network,"
        f" then rotate the keys: {some_keys(window)}"
    )
    return Notice("campaign", "high", text, len(window), expected, network)


def _shared(network: str, window: Window) -> Notice:
    text = (
        f"network {network} is new on {owned(window)} within 24 hours: a shared proxy, office"
        f" or egress that moved, or one party with all these keys. Keys: {some_keys(window)}"
    )
    return Notice("common_cause", "medium", text, len(window), 1.0, network)


def _changed(network: str, window: Window) -> Notice:
    text = (
        f"data_quality: the log changed: {owned(window)} show the network {network} for the"
        " first time within an hour and nothing else is new. Look for a proxy in front of the"
        " API, or a log that lost the client's address (X-Forwarded-For)"
    )
    return Notice("common_cause", "medium", text, len(window), 1.0, network)
