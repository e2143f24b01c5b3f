"""Builds the live service from its configuration, runs it, and takes it down again."""

from __future__ import annotations

import os
import secrets
import signal
import time
from contextlib import ExitStack
from hashlib import blake2b
from types import FrameType

import numpy as np
import structlog

from detector.checkpointer import Checkpointer
from detector.config import Config
from detector.controls import ControlLog
from detector.core import kernel_episodes, tables
from detector.core.errors import EXIT_OK, EXIT_TEMPORARY, ConfigError
from detector.core.events import EventBatch, RecordBatch
from detector.core.ports import CheckpointStore, Source
from detector.core.registry import KeyRegistry
from detector.core.shard import Shard
from detector.core.violations import ViolationTable
from detector.decode import DeadLetterFile, DecodeSettings, make_decoder
from detector.detection_settings import shard_settings
from detector.http_status import StatusServer
from detector.logs import configure_logs
from detector.outbox import Outbox
from detector.partitions import Engine
from detector.runner import Runner, RunSettings
from detector.sinks.factory import make_sinks
from detector.stores.local import LocalStore
from detector.telemetry import Metrics
from detector.watchdog import Watchdog

_EXIT_GRACE_S = 5.0  # beyond stop_timeout_s, before the watchdog ends a stop that hangs
_CONNECT_GRACE_S = 60.0
_SEED, _SEED_MARK, _SEED_BYTES = "hash-seed", "hash-seed-mark", 32
_WARM_JSON = b'{"ts": 1790000000, "key_id": "k", "method": "GET", "path": "/v1/a", "status": 200}'
_WARM_LINE = (
    b'192.0.2.1 - k [21/Sep/2026:14:13:20 +0000] "GET /v1/a HTTP/1.1" 200 5 "-" "warm-up/1.0"'
)

_log = structlog.get_logger("keywatch")


def run_service(config: Config) -> None:
    """Runs until a signal asks for the end, then stops gracefully.

    1. everything that can be wrong on this machine: registry, state directory, sinks, port
    2. the broker and the topic
    3. the kernels, compiled before the group is joined: compiling starves the client's thread
    4. the loop

    Raises ``ConfigError`` and ``TemporaryError``, one sentence each.
    """
    if config.kafka is None:
        raise ConfigError("run needs a [kafka] section with bootstrap_servers and topic")
    configure_logs(config.service.log_format, config.service.log_level)
    with ExitStack() as stack:
        watchdog = Watchdog(config.service.stall_exit_s)
        stopper = Stopper(watchdog, config.service.stop_timeout_s)
        store = LocalStore(config.state.dir)
        stack.callback(store.close)
        pepper = read_pepper(config)
        engine = make_engine(config, pepper, hash_seed(store, pepper))
        dead_letters = _dead_letters(config, stack)
        outbox = _outbox(config, store, engine.registry)
        metrics = Metrics()
        checkpointer = Checkpointer(store, config.state.snapshots_kept)
        stack.callback(checkpointer.close)
        status = _Status(watchdog, config.service.stall_exit_s)
        server = StatusServer(
            config.service.http_host,
            config.service.http_port,
            metrics.registry,
            status.unhealthy,
            status.not_ready,
        )
        stack.callback(server.close)
        watchdog.start_after(config.kafka.connect_timeout_s + _CONNECT_GRACE_S)
        stack.callback(watchdog.stop)
        source = _kafka_source(config, checkpointer)
        warm_kernels(engine)
        runner = Runner(
            source,
            engine,
            checkpointer,
            outbox,
            metrics,
            run_settings(config),
            dead_letters,
            on_progress=watchdog.beat,
            controls=ControlLog(store),
        )
        status.runner = runner
        stopper.runner = runner
        _log.info("running", topic=config.kafka.topic, status_port=server.port)
        try:
            runner.run()
        except BaseException:
            source.close(1.0)  # leave the group at once: another member may take over
            raise


class Stopper:
    """SIGTERM and SIGINT: the first asks for a graceful stop, the second ends the process."""

    def __init__(self, watchdog: Watchdog, stop_timeout_s: float) -> None:
        self.runner: Runner | None = None
        self._watchdog = watchdog
        self._stop_timeout_s = stop_timeout_s
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._asked:
            os._exit(EXIT_TEMPORARY)
        self._asked = True
        if self.runner is None:  # still starting: there is nothing to save yet
            raise SystemExit(EXIT_OK)
        self.runner.stop.set()
        self._watchdog.expect_end(self._stop_timeout_s + _EXIT_GRACE_S)


class _Status:
    """What ``/healthz`` and ``/readyz`` say."""

    def __init__(self, watchdog: Watchdog, stall_exit_s: float) -> None:
        self.runner: Runner | None = None
        self._watchdog = watchdog
        self._limit_s = stall_exit_s / 2

    def unhealthy(self) -> str:
        silence_s = self._watchdog.silence_s()
        stalled = self.runner is not None and silence_s > self._limit_s
        return f"no progress for {silence_s:.0f} s" if stalled else ""

    def not_ready(self) -> str:
        return "starting" if self.runner is None else self.runner.not_ready()


def read_pepper(config: Config) -> bytes | None:
    """The configured pepper. Raises ``ConfigError`` when its place is empty."""
    pepper = config.decode.pepper
    return None if pepper is None else pepper.read("decode.pepper").encode()


def hash_seed(store: CheckpointStore, pepper: bytes | None) -> bytes:
    """The secret that keys this deployment's hashes: from the pepper, else made once and kept.

    State and alert ids are comparable only under one seed. With a pepper a replay under the
    same configuration gives the same ids. Raises ``ConfigError`` when the pepper is not the
    one that the state was made with.
    """
    if pepper is None:
        store.put_if_absent(_SEED, secrets.token_bytes(_SEED_BYTES))
        seed = store.get(_SEED) or b""
    else:
        from detector.decode.seed import seed_of

        seed = seed_of(pepper)
    mark = blake2b(seed, digest_size=16, person=b"keywatch seed").digest()
    store.put_if_absent(_SEED_MARK, mark)
    if store.get(_SEED_MARK) != mark:
        raise ConfigError(
            "the state directory was made with another decode.pepper: give that one back, or "
            "use another state.dir"
        )
    return seed


def make_engine(config: Config, pepper: bytes | None, seed: bytes) -> Engine:
    """Decoder, weights and registry as configured. Raises ``ConfigError``.

    A decoder is made once to find a database that cannot be used before anything starts.
    """
    from detector.registry import configured_registry

    section = config.decode
    decode = DecodeSettings(
        hash_seed=seed,
        pepper=pepper,
        trusted_proxies=tuple(section.trusted_proxies),
        value_bytes_max=section.value_bytes_max,
        trust_event_time=section.trust_event_time,
        late_limit_s=section.late_limit_s,
        future_limit_s=section.future_limit_s,
        asn_database=config.network.asn_database,
        city_database=config.network.city_database,
    )
    make_decoder(section.format, decode)
    return Engine(
        make_decoder=lambda: make_decoder(section.format, decode),
        settings=shard_settings(config),
        false_alerts_per_week=config.detection.false_alerts_per_week,
        registry=configured_registry(config),
        simulated=config.sinks.revocation is None or config.sinks.revocation.mode != "live",
    )


def run_settings(config: Config) -> RunSettings:
    """The loop's limits as configured."""
    kafka = config.kafka
    return RunSettings(
        poll_timeout_s=kafka.poll_timeout_ms / 1000 if kafka else RunSettings().poll_timeout_s,
        snapshot_every_s=config.state.snapshot_every_s,
        snapshot_every_events=config.state.snapshot_every_events,
        stop_timeout_s=config.service.stop_timeout_s,
        throttles_per_week=config.detection.throttles_per_week,
    )


def warm_kernels(engine: Engine) -> None:
    """Compiles, or loads from the cache, what decoding, folding, restoring and sweeping need.

    On throwaway state: first events of each format, and one more on the restored shard.
    """
    began_s = time.monotonic()
    for value in (_WARM_JSON, _WARM_LINE):
        one = RecordBatch("warm-up", 0, [value], np.zeros(1, np.int64), np.full(1, -1, np.int64))
        decoded = engine.make_decoder().decode(one)
        shard = Shard(engine.settings)
        shard.fold(decoded.batch)
        Shard.from_state(shard.to_state(), engine.settings).fold(decoded.batch)
    _warm_rare_kernels(decoded.batch)
    _log.info("kernels ready", seconds=round(time.monotonic() - began_s, 2))


def _warm_rare_kernels(batch: EventBatch) -> None:
    """What a fold calls outside its loop, hours later: closing an episode, larger tables.

    And the table of hard facts, which a fold needs only with a registry or decoys.
    """
    ViolationTable(KeyRegistry([], ["GET /warm"])).codes(batch)
    blank = tables.blank(keys=1, pairs=1, actors=1)
    episode = blank.episodes[0, 0]
    kernel_episodes.expired(episode, 0)
    kernel_episodes.clear(episode)
    for table in (blank.pairs, blank.actors):
        tables.refill_table(table, table[:0])
    tables.refill_values(blank.values, blank.values[:0])


def _kafka_source(config: Config, checkpointer: Checkpointer) -> Source:
    from detector.sources.kafka import KafkaSource

    assert config.kafka is not None
    source = KafkaSource(config.kafka)
    try:
        checkpointer.claim(config.kafka.topic, source.partition_count)
    except BaseException:
        source.close(1.0)
        raise
    return source


def _outbox(config: Config, store: CheckpointStore, registry: KeyRegistry | None) -> Outbox:
    sinks = make_sinks(config.sinks, store, time.time, time.sleep, lambda: registry)
    return Outbox(store, sinks, time.time, time.sleep, config.sinks.queue_max)


def _dead_letters(config: Config, stack: ExitStack) -> DeadLetterFile | None:
    if config.decode.dead_letter is None:
        return None
    letters = DeadLetterFile(config.decode.dead_letter, config.decode.dead_letter_records_max)
    stack.callback(letters.close)
    return letters
