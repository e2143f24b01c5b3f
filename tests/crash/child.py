"""A process that forks trials of the real loop and kills them: ``python -m tests.crash.child``.

One interpreter imports everything, compiles the kernels and makes the log once; it has no
thread of its own, so each trial can be a fork of it. A trial is the real source port, shards,
fleet stage, checkpointer, local store and outbox, ended with SIGKILL at the nth passing of a
named point, or after some time, or not at all. Requests and replies are JSON lines.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import numpy as np

from detector.checkpointer import Checkpointer
from detector.controls import ControlLog, Request
from detector.core.events import EventBatch
from detector.core.ports import CheckpointStore
from detector.core.shard import Shard
from detector.journal import Journal
from detector.outbox import Outbox
from detector.partitions import Engine
from detector.runner import Runner, RunSettings
from detector.stores.local import LocalStore
from detector.telemetry import Metrics
from detector.testing import ScriptedSource
from tests.core.logs import MINUTE_US, START_US, batch_of
from tests.live.script import SETTINGS, ColumnDecoder, scripted

BUDGET_PER_WEEK = 100.0  # high, so that every theft of the log alerts
SNAPSHOT_EVERY_EVENTS = 400
ASKED_AFTER = 3600  # events folded: among the thefts


def thefts_log(seed: int = 3, keys: int = 8) -> EventBatch:
    """Two days of ordinary keys, then one theft after the other, then one thief of many keys."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(keys):
        for minute in np.flatnonzero(rng.random(90 * 60) < rng.uniform(0.05, 0.2)):
            ts_us = START_US + int(minute) * MINUTE_US + int(rng.integers(0, MINUTE_US))
            route = f"GET /v1/thing{k % 4}/{int(rng.integers(4))}"
            rows.append((ts_us, f"key{k}", f"10.{k}.{int(rng.integers(2))}", "sdk/2", route, 200))
        theft_us = START_US + (48 * 60 + 40 * k) * MINUTE_US
        for j in range(100):
            route = f"GET /v2/dump{j % 9}/{j % 3}"
            ts_us = theft_us + j * 20_000_000
            rows.append((ts_us, f"key{k}", f"198.51.{k}", "curl/8", route, 200))
        rows += campaign_rows(k)
    return batch_of(sorted(rows))


def campaign_rows(k: int) -> list[tuple[int, str, str, str, str, int]]:
    """Two quiet days of one of eight more keys, to which one thief comes after the others."""
    own = [(START_US + (m * 50 + k) * MINUTE_US, f"GET /v1/thing{m % 3}") for m in range(100)]
    campaign_us = START_US + (86 * 60 + k) * MINUTE_US
    stolen = [(campaign_us + j * 1_000_000, f"GET /v3/all{j}") for j in range(20)]
    rows = [(ts_us, f"crowd{k}", f"10.9.{k}", "sdk/2", route, 200) for ts_us, route in own]
    return rows + [(ts_us, f"crowd{k}", "203.0.7", "go/1", route, 200) for ts_us, route in stolen]


class KillAt:
    """A step hook: SIGKILLs its own process at the nth passing of a point; counts all."""

    def __init__(self, point: str | None, nth: int) -> None:
        self.seen: Counter[str] = Counter()
        self._at = (point, nth)
        self._lock = Lock()

    def __call__(self, name: str) -> None:
        with self._lock:
            self.seen[name] += 1
            if (name, self.seen[name]) == self._at:
                os.kill(os.getpid(), signal.SIGKILL)


class FileSink:
    """Appends each delivered id to a file, slowly if asked; it outlives the process."""

    name = "file"

    def __init__(self, path: Path, delay_s: float) -> None:
        self._delay_s = delay_s
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def deliver(self, alert: dict[str, Any]) -> None:
        time.sleep(self._delay_s)
        os.write(self._fd, alert["alert_id"].encode() + b"\n")


@dataclass(frozen=True)
class World:
    """What every trial shares: the log and the script of its source."""

    log: EventBatch
    source: ScriptedSource

    @classmethod
    def make(cls) -> World:
        log = thefts_log()
        shard = Shard(SETTINGS)  # compiles or loads all kernels, without a thread, for every fork
        shard.fold(log)
        shard.silences(START_US, int(log.ts_us[-1]))
        shard.take_closed(int(log.ts_us[-1]))
        return cls(log, scripted(log))


def make_runner(
    world: World, directory: Path, store: LocalStore, hook: KillAt, delay_s: float
) -> Runner:
    sinks = [FileSink(directory / "delivered", delay_s)]
    outbox = Outbox(store, sinks, time.time, time.sleep, step_hook=hook)
    settings = RunSettings(
        snapshot_every_s=1e9, snapshot_every_events=SNAPSHOT_EVERY_EVENTS, requests_every_s=0.0
    )
    return Runner(
        world.source,
        Engine(lambda: ColumnDecoder(world.log), SETTINGS, BUDGET_PER_WEEK),
        Checkpointer(store, 3, hook),
        outbox,
        Metrics(),
        settings,
        step_hook=hook,
        controls=ControlLog(store),
    )


def ask(one: Runner, store: LocalStore) -> Callable[[], None]:
    """Asks for two resets once half of the log is folded, unless somebody has asked already."""

    def asks() -> None:
        if sum(one.partitions.next_offsets.values()) < ASKED_AFTER:
            return
        journalled = [json.loads(store.get(name) or b"{}") for name in store.list("control/")]
        known = store.list("request/") + [record["request"] for record in journalled]
        for key in ("key1", "key2"):  # a kill may have come between the two
            if f"request/{key}" not in known:
                text = msgspec.json.encode(Request("reset", key=key))
                store.put_if_absent(f"request/{key}", text)

    return asks


def trial(world: World, request: dict[str, Any]) -> None:
    """One life of the process, to its end."""
    directory = Path(request["directory"])
    hook = KillAt(request.get("point"), request.get("nth", 0))
    plant(request.get("mutant"))
    with LocalStore(directory / "state", hook) as store:
        one = make_runner(world, directory, store, hook, request.get("delay_s", 0.0))
        if request.get("asks"):
            one._on_progress = ask(one, store)
        one.run()
    (directory / "seen.json").write_text(json.dumps(hook.seen))


def plant(mutant: str | None) -> None:
    """Breaks this process on purpose, as a mistake in the product would."""
    if mutant is not None:
        MUTANTS[mutant]()


def _offset_apart_from_state() -> None:
    real = Checkpointer.load

    def load(self: Checkpointer, partition: int) -> tuple[int, bytes] | None:
        found = real(self, partition)
        return None if found is None else (max(0, found[0] - 20), found[1])

    Checkpointer.load = load  # type: ignore[method-assign]


def _send_before_journal() -> None:
    real = Outbox.record

    def record(self: Outbox, alert: dict[str, Any]) -> bool:
        self._senders[0]._sink.deliver(alert)
        return real(self, alert)

    Outbox.record = record  # type: ignore[method-assign]


def _no_recovery() -> None:
    Outbox.recover = lambda self: 0  # type: ignore[method-assign]


def _no_mark() -> None:
    Journal.mark = lambda *_, **__: None  # type: ignore[method-assign]


def _fleet_forgotten() -> None:
    real = Checkpointer.restore

    def restore(self: Checkpointer) -> Any:
        restored = real(self)
        return type(restored)(restored.partitions, None, 0, restored.damaged)

    Checkpointer.restore = restore  # type: ignore[method-assign]


def _link_before_content() -> None:
    def put_if_absent(self: LocalStore, key: str, value: bytes) -> bool:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(path, "xb") as file:
                self._step("store.linked")
                file.write(value)
        except FileExistsError:
            return False
        return True

    LocalStore.put_if_absent = put_if_absent  # type: ignore[method-assign]


MUTANTS = {
    "offset_apart_from_state": _offset_apart_from_state,
    "send_before_journal": _send_before_journal,
    "no_recovery": _no_recovery,
    "no_mark": _no_mark,
    "fleet_forgotten": _fleet_forgotten,
    "link_before_content": _link_before_content,
}


def run_forked(world: World, request: dict[str, Any]) -> dict[str, Any]:
    """Forks a trial, kills it after ``after_s`` if asked to, and tells how it ended."""
    began_s = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            trial(world, request)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    if "after_s" in request:
        time.sleep(request["after_s"])
        os.kill(pid, signal.SIGKILL)  # a zombie until waited for: the pid is still its own
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    ended = "killed" if killed else "done" if status == 0 else "failed"
    return {"ended": ended, "seconds": time.monotonic() - began_s}


def serve() -> None:
    """Answers requests until the input ends. Logs of the trials go nowhere."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    world = World.make()
    for line in sys.stdin:
        reply = run_forked(world, json.loads(line))
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def read_delivered(directory: Path) -> list[str]:
    """Ids in order of delivery, repeated ones too."""
    path = directory / "delivered"
    return path.read_text().split() if path.exists() else []


def undelivered(store: CheckpointStore) -> set[str]:
    """Journalled alerts without a mark."""
    ids = {k.removeprefix("alert/") for k in store.list("alert/")}
    return ids - {k.split("/")[1] for k in store.list("sent/")}


if __name__ == "__main__":
    serve()
