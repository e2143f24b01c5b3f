"""The small parts around the loop: metrics, status, logs, watchdog, checkpoints, doubles."""

from __future__ import annotations

import io
import json
import logging
import urllib.error
import urllib.request

import pytest
import structlog

from detector.checkpointer import Barrier, Checkpointer, load_newest_set
from detector.core.errors import ConfigError, DeliveryError
from detector.core.events import Rejected
from detector.http_status import StatusServer
from detector.logs import configure_logs
from detector.stores.memory import MemoryStore
from detector.telemetry import Assigned, BatchFolded, Metrics, Pulse
from detector.testing import FlakySink, ManualClock
from detector.watchdog import Deadline, Watchdog


def rejected(reason: str) -> Rejected:
    return Rejected("t", 0, 1, 0, reason, "why", 10)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels or None)


def test_received_is_accepted_no_key_and_rejected():
    """The counters add up after every batch, by reason too."""
    metrics = Metrics()
    bad = [rejected("not_json"), rejected("bad_ts"), rejected("not_json")]
    BatchFolded(7, 2, bad, 1, 7000).emit(metrics)
    BatchFolded(0, 0, [rejected("not_utf8")], 0, 0).emit(metrics)
    assert value(metrics, "keywatch_events_received_total") == 11
    assert value(metrics, "keywatch_events_accepted_total") == 5
    assert value(metrics, "keywatch_events_no_key_total") == 2
    assert value(metrics, "keywatch_events_rejected_total", reason="not_json") == 2
    assert value(metrics, "keywatch_fold_ns_per_event_count") == 1


def test_a_lost_partition_has_no_lag():
    """After a rebalance only partitions of this process are shown."""
    metrics = Metrics()
    Pulse({0: 5, 1: 6}, 0, 0, 0, 0, {}, {}, 0.0, False, 0, {}).emit(metrics)
    Assigned(frozenset({1})).emit(metrics)
    outbox = {"slack": {"queued": 3}}
    Pulse({1: 7}, 0, 0, 0, 0, {"keys": 2}, {}, 0.0, False, 0, outbox).emit(metrics)
    assert value(metrics, "keywatch_lag_records", partition="0") is None
    assert value(metrics, "keywatch_lag_records", partition="1") == 7
    assert value(metrics, "keywatch_outbox", sink="slack", outcome="queued") == 3
    assert value(metrics, "keywatch_over_cap", limit="keys") == 2


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def test_status_pages():
    """Health and readiness say why not; anything else is not found; nothing but GET works."""
    why = {"health": "", "ready": "starting"}
    server = StatusServer(
        "127.0.0.1", 0, Metrics().registry, lambda: why["health"], lambda: why["ready"]
    )
    assert get(server.port, "/healthz") == (200, "ok\n")
    assert get(server.port, "/readyz?x=1") == (503, "starting\n")
    why.update(health="no progress for 99 s", ready="")
    assert get(server.port, "/healthz") == (503, "no progress for 99 s\n")
    assert get(server.port, "/readyz") == (200, "ok\n")
    assert get(server.port, "/etc/passwd") == (404, "not found\n")
    assert "keywatch_events_received_total" in get(server.port, "/metrics")[1]
    post = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics", data=b"x")
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(post, timeout=5)
    with pytest.raises(ConfigError, match="in use"):
        StatusServer("127.0.0.1", server.port, Metrics().registry, lambda: "", lambda: "")
    server.close()


@pytest.fixture
def restored_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


HOSTILE = 'key\n{"event": "forged"}\x1b[31m\u202e\u200b'


@pytest.mark.parametrize("form", ["json", "console"])
def test_hostile_text_in_logs(restored_logging, form):
    """One event is one line without control or bidi characters, from us and from the client."""
    out = io.StringIO()
    configure_logs(form, "info", out)
    structlog.get_logger("keywatch.test").warning("seen", key=HOSTILE, many=[HOSTILE])
    logging.getLogger("kafka.net").error("bad %s", HOSTILE)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert not any(c in out.getvalue() for c in "\x1b\u202e\u200b")
    if form == "json":
        ours, theirs = map(json.loads, lines)
        assert (ours["event"], ours["level"], ours["logger"]) == (
            "seen",
            "warning",
            "keywatch.test",
        )
        assert theirs["logger"] == "kafka.net"


def test_log_levels(restored_logging):
    """Ours from the configured level up; the client's debug messages never."""
    out = io.StringIO()
    configure_logs("json", "debug", out)
    structlog.get_logger("keywatch.test").debug("ours")
    logging.getLogger("kafka.sasl").debug("password is hunter2")
    assert "ours" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_watchdog_fires_on_silence_only():
    """Beats keep it quiet; silence beyond the limit ends the process, once."""
    clock, ended = ManualClock(), []
    dog = Watchdog(10, clock, ended.append)
    dog.start()
    for _ in range(3):
        clock.advance(9)
        dog.beat()
    assert not ended
    clock.advance(11)
    dog._thread.join(5)
    assert ended == [11]


def test_watchdog_gives_a_start_more_time_and_an_end_less():
    """The first beat may come late; once an end is expected beats do not help."""
    clock, ended = ManualClock(), []
    dog = Watchdog(10, clock, ended.append)
    dog.start_after(100)
    clock.advance(105)
    assert dog.silence_s() == 5
    dog.expect_end(7)
    clock.advance(8)
    dog.beat()
    dog._thread.join(5)
    assert ended == [0]


def test_a_deadline_is_shared_and_never_negative():
    """What one step uses is missing for the next."""
    clock = ManualClock()
    deadline = Deadline(5, clock)
    clock.advance(3)
    assert deadline.remaining_s() == 2
    clock.advance(3)
    assert deadline.remaining_s() == 0


def test_a_store_belongs_to_one_topic():
    """Claiming again is fine; another topic or partition count is refused by name."""
    store = MemoryStore()
    for _ in range(2):
        Checkpointer(store, 3).claim("logs", 4)
    with pytest.raises(ConfigError, match="'logs' with 4 partitions, not to 'logs' with 8"):
        Checkpointer(store, 3).claim("logs", 8)


def test_orphans_are_removed_and_never_push_out_a_good_set():
    """Partition snapshots that no fleet object completed are deleted by the next restore."""
    store = MemoryStore()
    one = Checkpointer(store, 3)
    one.restore()
    one.write(Barrier({0: (100, b"good")}, b"fleet", 7))
    good = load_newest_set(store)
    for offset in (200, 300, 400, 500):
        one._snapshots.save("p00000", offset, b"orphan")
        two = Checkpointer(store, 3)
        two.restore()
        assert two.load(0) == (100, b"good")
        one = two
    assert load_newest_set(store) == good


def test_a_set_keeps_partitions_that_did_not_change():
    """An unchanged partition is not written again, and comes back from its older object."""
    store = MemoryStore()
    one = Checkpointer(store, 3)
    one.restore()
    one.write(Barrier({0: (10, b"a"), 1: (20, b"b")}, b"f1", 1))
    for n in range(5):
        one.write(Barrier({1: (30 + n, b"c%d" % n)}, b"f%d" % n, 2))
    assert load_newest_set(store).states == {0: (10, b"a"), 1: (34, b"c4")}
    assert len(store.list("snapshot/p00000/")) == 1
    assert len(store.list("snapshot/p00001/")) == 3


def test_flaky_sink_is_reproducible_and_fails_both_ways():
    """The same seed fails at the same attempts; some failures happen after the delivery."""

    def play(seed: int) -> tuple[int, int]:
        sink = FlakySink(seed)
        for n in range(100):
            try:
                sink.deliver({"alert_id": n})
            except DeliveryError:
                continue
        return sink.failures, len(sink.alerts)

    assert play(1) == play(1) != play(2)
    failures, arrived = play(1)
    assert 20 < failures < 80
    assert 100 - failures < arrived < 100


def test_manual_clock_only_goes_forward():
    """Sleeping is advancing; going back is a mistake of the test."""
    clock = ManualClock(5)
    clock.sleep(2)
    assert clock() == 7
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


def test_the_hash_seed_belongs_to_the_state():
    """Made once and kept without a pepper; with one it follows it, and another is refused."""
    from detector.assembly import hash_seed

    store = MemoryStore()
    seed = hash_seed(store, None)
    assert len(seed) == 32
    assert hash_seed(store, None) == seed != hash_seed(MemoryStore(), None)
    peppered = MemoryStore()
    assert hash_seed(peppered, b"one") == hash_seed(MemoryStore(), b"one")
    for other in (b"two", None):
        with pytest.raises(ConfigError, match=r"another decode\.pepper"):
            hash_seed(peppered, other)
    assert b"one" not in b"".join(peppered.get(k) or b"" for k in peppered.list(""))
