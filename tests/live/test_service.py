"""``keywatch run`` as a process, over the embedded broker: start, stop, restart, kill -9."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaProducer

from detector.broker import EmbeddedBroker, free_port
from detector.cli.state import ReadOnlyStore, list_alerts
from detector.stores.local import LocalStore
from tests.forked import keywatch
from tests.live.service import Service, needs_broker, wait_for, write_config

pytestmark = [needs_broker, pytest.mark.timeout(150)]

START_S = 1_790_035_200  # a Tuesday, 00:00 UTC
SEED = bytes(range(32))


def access_log(
    seed: int, hours: int = 60, keys: int = 16, incident_h: int = 57
) -> list[tuple[str, bytes]]:
    """(key, canonical event) in time order: a working fleet, then a thief and a prober."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[float, str, str, str, str, int]] = []
    for k in range(keys):
        routes = [f"/v1/thing{k % 4}/{int(r)}" for r in rng.integers(1, 9999, 40)]
        for minute in np.flatnonzero(rng.random(hours * 60) < 0.2 + 0.5 * rng.random()):
            at, route = minute * 60 + rng.random() * 60, routes[int(rng.integers(40))]
            address = f"10.{k}.0.{int(rng.integers(1, 9))}"
            rows.append((at, f"key{k}", address, "sdk/2.1", route, 200))
    for j in range(240):
        at = incident_h * 3600 + j * 20.0
        rows.append((at, "key0", "198.51.100.7", "curl/8.1", f"/v2/dump{j % 9}/{j}", 200))
        probed = f"/admin/{'abcdefgh'[j % 8]}{'klmnopqr'[j // 8 % 8]}/x"
        rows.append((at + 1, "key1", "10.1.0.3", "sdk/2.1", probed, 403))
    return [(row[1], _event(*row)) for row in sorted(rows)]


def _event(at: float, key: str, ip: str, ua: str, path: str, status: int) -> bytes:
    return json.dumps(
        {
            "ts": START_S + round(at, 3),
            "key_id": key,
            "method": "GET",
            "path": path,
            "status": status,
            "source_ip": ip,
            "user_agent": ua,
            "bytes": 900,
        }
    ).encode()


def partition_of(key: str, partitions: int) -> int:
    return int(key.removeprefix("key")) % partitions


class Load(threading.Thread):
    """Produces a log at a given rate, then the rest at once when ``hurry`` is set."""

    def __init__(self, broker: EmbeddedBroker, topic: str, partitions: int, log, per_s: float):
        super().__init__(daemon=True)
        self.hurry = threading.Event()
        self.sent = [0] * partitions
        self._producer = KafkaProducer(bootstrap_servers=[broker.address], linger_ms=5)
        self._topic, self._log, self._per_s = topic, log, per_s

    def run(self) -> None:
        began_s = time.monotonic()
        for i, (key, value) in enumerate(self._log):
            p = partition_of(key, len(self.sent))
            self._producer.send(self._topic, value, key=key.encode(), partition=p)
            self.sent[p] += 1
            early_s = began_s + i / self._per_s - time.monotonic()
            if early_s > 0.05 and not self.hurry.is_set():
                time.sleep(early_s)
        self._producer.flush(30)
        self._producer.close()


def produce(broker: EmbeddedBroker, topic: str, partitions: int, log) -> list[int]:
    """The whole log at once; how many records each partition got."""
    load = Load(broker, topic, partitions, log, per_s=1e9)
    load.start()
    load.join(60)
    return load.sent


def caught_up(service: Service, total: int) -> bool:
    """True when the service has a snapshot-worthy state of everything."""
    return service.metric("keywatch_events_received_total") >= total


def left_behind(directory: Path) -> tuple[list[dict], list[str], dict]:
    """Alerts, ids of closed episodes, and the final snapshot as ``checkpoint verify`` reads it."""
    verify = ("checkpoint", "verify", "-c", "keywatch.toml", "--output", "json")
    said = keywatch(*verify, cwd=directory)
    assert said.returncode == 0, said.stderr
    store = ReadOnlyStore(directory / "state")
    return list_alerts(store), store.list("episode/"), json.loads(said.stdout)["partitions"]


def seeded(directory: Path) -> None:
    """Gives a state directory a known hash seed, so that two of them can be compared."""
    with LocalStore(directory / "state") as store:
        store.put_if_absent("hash-seed", SEED)


def test_life_of_a_service(broker, start, tmp_path):
    """Starts, reads, alerts, serves its status, rejects bad records, stops within 10 s, resumes."""
    log = access_log(1)
    broker.create_topic("life", 2)
    sent = produce(broker, "life", 2, log)
    bad = KafkaProducer(bootstrap_servers=[broker.address])
    for value in (b"\xff\xfe", b"[1", None, b'{"ts": "never", "api": 1}'):
        bad.send("life", value, key=b"a", partition=0)
    bad.flush(10)
    bad.close()
    (tmp_path / "pepper").write_text("pepper")  # the hash seed follows it, in a replay too
    pepper = 'pepper = { file = "pepper" }\n'
    config = write_config(tmp_path, broker.address, "life", decode=pepper)

    service = start(config)
    total = len(log) + 4
    wait_for(lambda: caught_up(service, total), 60, every_s=0.2)
    assert service.get("/healthz")[0] == 200
    assert service.get("/readyz") == (200, "ok\n")
    assert service.metric("keywatch_events_accepted_total") == len(log)
    assert service.metric("keywatch_events_rejected_total") == 4
    assert service.metric("keywatch_partitions") == 2
    assert "key0" not in service.get("/metrics")[1]
    assert service.get("/no/such")[0] == 404
    began_s = time.monotonic()
    assert service.stop() == 0, service.log
    assert time.monotonic() - began_s < 10

    alerts, _, partitions = left_behind(tmp_path)
    assert {a["key"] for a in alerts} >= {"key0", "key1"}
    assert partitions["0"]["next_offset"] == sent[0] + 4
    assert partitions["1"]["next_offset"] == sent[1]
    delivered = [json.loads(x) for x in (tmp_path / "alerts.ndjson").read_text().splitlines()]
    assert {a["alert_id"] for a in delivered} == {a["alert_id"] for a in alerts}
    dead = [json.loads(x) for x in (tmp_path / "dead.ndjson").read_text().splitlines()]
    assert [d["offset"] for d in dead] == list(range(sent[0], sent[0] + 4))
    assert {e["level"] for e in service.events()} <= {"info", "warning"}, service.log

    (tmp_path / "log.ndjson").write_bytes(b"".join(value + b"\n" for _, value in log))
    replayed = keywatch("replay", "log.ndjson", "-o", "out", "-c", "keywatch.toml", cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stderr
    again = (tmp_path / "out/alerts.ndjson").read_text().splitlines()
    limits = (tmp_path / "out/throttles.ndjson").read_text().splitlines()
    by_id = {a["alert_id"]: a for a in map(json.loads, [*again, *limits])}
    assert {a["alert_id"]: a for a in delivered} == by_id, "live and replay give the same alerts"

    more = access_log(2, hours=2, incident_h=1)
    extra = produce(broker, "life", 2, more)
    again = start(config)
    wait_for(lambda: again.metric("keywatch_events_received_total") >= len(more), 60, 0.2)
    assert again.metric("keywatch_events_received_total") == len(more), "read from its snapshot"
    assert again.stop() == 0
    assert left_behind(tmp_path)[2]["1"]["next_offset"] == sent[1] + extra[1]

    listed = keywatch("alerts", "list", "-c", "keywatch.toml", "--output", "json", cwd=tmp_path)
    assert {a["alert_id"] for a in json.loads(listed.stdout)} == {a["alert_id"] for a in alerts}
    explained = keywatch("explain", alerts[0]["alert_id"], "-c", "keywatch.toml", cwd=tmp_path)
    assert alerts[0]["key"] in explained.stdout
    assert alerts[0]["reasons"][0]["text"] in " ".join(explained.stdout.split())


def test_six_kills_under_continuous_load(broker, start, tmp_path):
    """Six kill -9 while records keep coming leave the same as one uninterrupted run.

    Compared are alerts, closed episodes, next offsets and state digests.
    """
    partitions, log, dice = 3, access_log(3, hours=80, keys=18, incident_h=45), random.Random(5)
    broker.create_topic("kills", partitions)
    places = {}
    for name in ("killed", "reference"):
        places[name] = tmp_path / name
        places[name].mkdir()
        seeded(places[name])
    static = 'group_instance_id = "one"\n'  # a dead dynamic member delays the next one's join
    config = write_config(places["killed"], broker.address, "kills", kafka=static)
    load = Load(broker, "kills", partitions, log, per_s=len(log) / 140)
    load.start()
    for _ in range(6):
        service = start(config)
        wait_for(lambda s=service: s.metric("keywatch_events_received_total") > 0, 60, 0.1)
        assert load.is_alive(), "the load must last longer than the kills"
        time.sleep(dice.uniform(0.3, 2.2))
        service.kill()
    load.hurry.set()
    load.join(60)

    last = start(config)
    wait_for(lambda: last.metric("keywatch_partitions") == partitions, 60, 0.1)
    wait_for(lambda: settled(last), 60, 0.2)
    assert last.stop() == 0, last.log
    config = write_config(places["reference"], broker.address, "kills")
    config.write_text(config.read_text().replace("g-kills", "g-reference"))
    reference = start(config)
    wait_for(lambda: caught_up(reference, len(log)), 60, 0.2)
    assert reference.stop() == 0, reference.log

    expected, got = left_behind(places["reference"]), left_behind(places["killed"])
    assert {p: s["next_offset"] for p, s in got[2].items()} == {
        str(p): n for p, n in enumerate(load.sent)
    }
    assert len(expected[0]) >= 2
    assert expected[1], "some episodes have closed"
    assert got == expected


def settled(service: Service) -> bool:
    """All is read: the lag is 0 and stays so over a second of pulses."""
    if service.metric("keywatch_lag_records") or not service.metric("keywatch_keys"):
        return False
    before = service.metric("keywatch_events_received_total")
    time.sleep(1.5)
    return (
        service.metric("keywatch_events_received_total") == before
        and service.metric("keywatch_lag_records") == 0
    )


def test_a_second_process_cannot_use_the_same_state(broker, start, tmp_path):
    """One sentence, exit code 75, and the first goes on undisturbed."""
    broker.create_topic("twice", 1)
    config = write_config(tmp_path, broker.address, "twice")
    first = start(config)
    first.port()
    second = keywatch("run", "-c", "keywatch.toml", cwd=tmp_path)
    assert second.returncode == 75
    assert "in use by another keywatch process" in second.stderr
    assert first.process.poll() is None
    assert first.stop() == 0


def test_a_second_signal_ends_at_once(broker, start, tmp_path):
    """Ctrl-C twice does not wait for anything."""
    broker.create_topic("hasty", 1)
    service = start(write_config(tmp_path, broker.address, "hasty"))
    wait_for(lambda: service.get("/readyz")[0] == 200, 60, 0.1)
    service.process.send_signal(2)
    service.process.send_signal(2)
    assert service.process.wait(3) in (0, 75)


def one_sentence(said, code: int, *words: str) -> None:
    assert said.returncode == code, said.stderr
    assert "Traceback" not in said.stderr + said.stdout
    last = said.stderr.strip().splitlines()[-1]
    assert last.startswith("keywatch: "), said.stderr
    for word in words:
        assert word in last


def test_unreachable_broker(tmp_path):
    """75 and one sentence within the time limit of the connection."""
    address = f"127.0.0.1:{free_port()}"
    write_config(tmp_path, address, "any")
    began_s = time.monotonic()
    one_sentence(keywatch("run", "-c", "keywatch.toml", cwd=tmp_path), 75, address, "3 s")
    assert time.monotonic() - began_s < 15


def test_missing_topic(broker, tmp_path):
    """78 and the topic's name; nothing is created on the broker."""
    write_config(tmp_path, broker.address, "no-such-topic")
    for _ in range(2):
        said = keywatch("run", "-c", "keywatch.toml", cwd=tmp_path)
        one_sentence(said, 78, "'no-such-topic' does not exist")


def test_state_of_another_topic(broker, tmp_path):
    """A state directory is tied to its topic and partition count: 78, never a silent mix."""
    broker.create_topic("mine", 1)
    with LocalStore(tmp_path / "state") as store:
        store.put_if_absent("manifest", b'{"partitions": 4, "topic": "theirs"}')
    write_config(tmp_path, broker.address, "mine")
    said = keywatch("run", "-c", "keywatch.toml", cwd=tmp_path)
    one_sentence(said, 78, "belongs to topic 'theirs' with 4 partitions")


def test_port_in_use(broker, tmp_path):
    """78 and the address."""
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        config = write_config(tmp_path, broker.address, "any")
        config.write_text(config.read_text().replace("http_port = 0", f"http_port = {port}"))
        said = keywatch("run", "-c", "keywatch.toml", cwd=tmp_path)
    one_sentence(said, 78, f"127.0.0.1:{port}", "in use")


def test_unwritable_state_directory(broker, tmp_path):
    """78 and the directory's name (a file in its place: permissions do not stop root)."""
    (tmp_path / "state").write_text("not a directory")
    write_config(tmp_path, broker.address, "any")
    one_sentence(keywatch("run", "-c", "keywatch.toml", cwd=tmp_path), 78, "state directory")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[kafka]\ntopic = 3\n", ("kafka.bootstrap_servers",)),
        ("[kafka\n", ("not valid TOML",)),
        ("", ("needs a [kafka] section",)),
        ("[detection]\nfalse_alarms = 3\n", ("detection.false_alarms", "unknown key")),
    ],
)
def test_bad_configuration(tmp_path, text, words):
    """78, the file and the entry; no traceback."""
    (tmp_path / "keywatch.toml").write_text(text)
    one_sentence(keywatch("run", "-c", "keywatch.toml", cwd=tmp_path), 78, *words)
