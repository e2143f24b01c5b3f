"""Thefts made of two real logs: a donor's later requests under a victim's key.

``cross``: the donor is of the other log, so the thief uses the API in another way. ``same``: of
the same log. The donor's addresses are new to the victim; the victim has a past by then.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

VICTIM_MIN, DONOR_MIN, BEFORE_MIN = 76, 20, 55  # requests: of either, and of the victim before
LATEST = 0.9  # share of the victim's requests that the theft begins within
THEFTS = 8  # of each kind and log
TRIES = 30

Event = dict[str, Any]
Key = tuple[int, str]


class Log:
    """A log in memory, and its events by key."""

    def __init__(self, path: Path) -> None:
        with gzip.open(path) as file:
            self.events: list[Event] = [json.loads(line) for line in file]
        self.of: dict[str, list[int]] = defaultdict(list)
        for i, event in enumerate(self.events):
            if event["key_id"] != "-":
                self.of[event["key_id"]].append(i)


class Splicer:
    """One set of thefts in a pair of logs, as its seed says."""

    def __init__(self, logs: tuple[Log, Log], seed: int) -> None:
        self.logs, self.rng = logs, random.Random(seed)
        self.victims: set[Key] = set()
        self.donors: set[Key] = set()
        self.moved: tuple[dict[int, str], ...] = ({}, {})
        self.added: tuple[list[Event], ...] = ([], [])
        self.labels: list[dict[str, Any]] = []

    def make(self) -> None:
        """THEFTS of each kind in each log, where there are so many."""
        for own in range(2):
            for kind in ("cross", "same"):
                self._thefts(own, kind)

    def _thefts(self, own: int, kind: str) -> None:
        source = 1 - own if kind == "cross" else own
        victims = [k for k, at in self.logs[own].of.items() if len(at) >= VICTIM_MIN]
        self.rng.shuffle(victims)
        made = 0
        for victim in victims:
            if made >= THEFTS:
                return
            if (own, victim) not in self.victims | self.donors:
                made += self._theft(own, victim, source, kind)

    def _theft(self, own: int, victim: str, source: int, kind: str) -> bool:
        taken = self.victims | self.donors
        donors = [
            k
            for k, at in self.logs[source].of.items()
            if len(at) >= DONOR_MIN and (source, k) not in taken and (source, k) != (own, victim)
        ]
        self.rng.shuffle(donors)
        theirs = [self.logs[own].events[i] for i in self.logs[own].of[victim]]
        known = {event["source_ip"] for event in theirs}
        for donor in donors[:TRIES]:
            end = min(len(theirs), max(BEFORE_MIN + 1, int(len(theirs) * LATEST)))
            start = theirs[self.rng.randrange(BEFORE_MIN, end)]["ts"]
            events = self.logs[source].events
            later = [i for i in self.logs[source].of[donor] if events[i]["ts"] >= start]
            if len(later) < DONOR_MIN or any(events[i]["source_ip"] in known for i in later):
                continue
            self._move(own, victim, source, donor, later, kind)
            return True
        return False

    def _move(
        self, own: int, victim: str, source: int, donor: str, later: list[int], kind: str
    ) -> None:
        events = self.logs[source].events
        if kind == "same":
            self.moved[own].update(dict.fromkeys(later, victim))
        else:
            self.added[own].extend({**events[i], "key_id": victim} for i in later)
        self.donors.add((source, donor))
        self.victims.add((own, victim))
        gone = donor if kind == "same" else None  # what is left of it is no clean key
        self.labels.append({"key_id": victim, "kind": kind, "donor": gone})

    def save(self, folder: Path, name: str) -> None:
        """The two logs with their thefts, and the labels."""
        for own in range(2):
            moved = self.moved[own]
            events = [
                {**e, "key_id": moved[i]} if i in moved else e
                for i, e in enumerate(self.logs[own].events)
            ]
            events = sorted(events + self.added[own], key=lambda e: str(e["ts"]))
            with gzip.open(folder / f"{name}.{own}.ndjson.gz", "wt", compresslevel=1) as file:
                file.writelines(f"{json.dumps(event)}\n" for event in events)
        (folder / f"{name}.labels.json").write_text(json.dumps(self.labels))
