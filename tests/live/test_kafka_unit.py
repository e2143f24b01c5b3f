"""The Kafka source without a broker: its options, and what it makes of the client's answers."""

from __future__ import annotations

from collections import namedtuple

import pytest
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.fetcher import ConsumerRecord
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from kafka.structs import MemberState, OffsetAndMetadata

from detector.config import KafkaSection
from detector.core.errors import ConfigError, TemporaryError
from detector.sources import kafka as module
from detector.sources.kafka import KafkaSource
from detector.sources.kafka_options import consumer_options

Group = namedtuple("Group", "state")


def section(**changes) -> KafkaSection:
    return KafkaSection(bootstrap_servers=["localhost:9092"], topic="logs").model_copy(
        update=changes
    )


def record(offset: int, value: bytes | None = b"{}", partition: int = 0) -> ConsumerRecord:
    return ConsumerRecord(
        "logs", partition, 0, offset, 1000 + offset, 0, None, value, [], None, -1, -1, -1
    )


class FakeConsumer:
    """What the source uses of ``KafkaConsumer``, scripted: answers in ``polls``, in order."""

    first, end = 0, 100

    def __init__(self, **options: object) -> None:
        self.options = options
        self.polls: list = []
        self.calls: list = []
        self.state = MemberState.STABLE
        self.assigned: set[TopicPartition] = set()

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0, 1} if topic == "logs" else set()

    def subscribe(self, topics: list[str], listener: object) -> None:
        self.listener = listener

    def give(self, *partitions: int) -> None:
        self.assigned = {TopicPartition("logs", p) for p in partitions}
        self.listener.on_partitions_assigned(set(self.assigned))  # type: ignore[attr-defined]

    def poll(self, timeout_ms: int) -> dict:
        self.calls.append(("poll", timeout_ms))
        answer = self.polls.pop(0) if self.polls else {}
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer

    def group_metadata(self) -> Group:
        return Group(self.state)

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def highwater(self, tp: TopicPartition) -> int | None:
        return self.end if tp.partition == 0 else None

    def beginning_offsets(self, tps: list, timeout_ms: int) -> dict:
        assert timeout_ms > 0
        return dict.fromkeys(tps, self.first)

    def end_offsets(self, tps: list, timeout_ms: int) -> dict:
        assert timeout_ms > 0
        return dict.fromkeys(tps, self.end)

    def __getattr__(self, name: str):
        if name not in ("pause", "resume", "seek", "commit", "commit_async", "close"):
            raise AttributeError(name)
        return lambda *args, **_: self.calls.append((name, *args))


@pytest.fixture
def made(monkeypatch):
    """Makes a source over a fake consumer, joined with partition 0 started where asked."""
    monkeypatch.setattr(module, "KafkaConsumer", FakeConsumer)

    def make(start: int | None = 0, **changes) -> tuple[KafkaSource, FakeConsumer]:
        source = KafkaSource(section(**changes))
        consumer = source._consumer
        consumer.give(0)
        assert source.poll(0.5).assigned == frozenset({0})
        source.start({0: start})
        return source, consumer

    return make


TP0 = TopicPartition("logs", 0)


def test_our_options_are_explicit():
    """No commit by the client, no silent reset, eager sticky, no topic made by reading."""
    options = consumer_options(section(group_instance_id="one"))
    assert options["enable_auto_commit"] is False
    assert options["auto_offset_reset"] == "none"
    assert options["allow_auto_create_topics"] is False
    assert options["group_instance_id"] == "one"
    assert options["security_protocol"] == "PLAINTEXT"
    (assignor,) = options["partition_assignment_strategy"]
    assert isinstance(assignor, StickyPartitionAssignor)


def test_tls_and_sasl_options_pass_through(monkeypatch):
    """What the operator sets reaches the client as it is; passwords come by reference."""
    monkeypatch.setenv("KAFKA_PASSWORD", "hunter2\n")
    theirs = {
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "keywatch",
        "sasl_plain_password": "env:KAFKA_PASSWORD",
        "ssl_cafile": "/etc/ca.pem",
        "ssl_check_hostname": True,
        "fetch_min_bytes": 1024,
    }
    options = consumer_options(
        section(bootstrap_servers=["k1.example:9093"], security_protocol="SASL_SSL", options=theirs)
    )
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_plain_password"] == "hunter2"
    assert {k: options[k] for k in theirs if not k.endswith("password")} == {
        k: v for k, v in theirs.items() if not k.endswith("password")
    }


def test_options_are_accepted_by_the_client():
    """Every option we set is known to the installed client."""
    from kafka import KafkaConsumer

    assert set(consumer_options(section())) <= set(KafkaConsumer.DEFAULT_CONFIG)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bootstrap_servers": ["kafka.example:9092"]}, "security_protocol is not set"),
        ({"bootstrap_servers": ["localhost:9092", "10.0.0.1:9092"]}, "broker 10.0.0.1:9092"),
        ({"options": {"enable_auto_commit": True}}, "is set by keywatch itself"),
        ({"options": {"sasl_plain_password": "hunter2"}}, "never the secret itself"),
        ({"options": {"ssl_password": "env:NO_SUCH_VARIABLE"}}, "missing or empty"),
    ],
)
def test_refused_options(changes, sentence):
    """Plaintext to another machine, our own options and secrets as text are refused."""
    with pytest.raises(ConfigError, match=sentence) as e:
        consumer_options(section(**changes))
    assert "hunter2" not in str(e.value)


def test_plaintext_to_another_machine_when_asked_for():
    """An explicit PLAINTEXT is the operator's word."""
    changes = {"bootstrap_servers": ["kafka.example:9092"], "security_protocol": "PLAINTEXT"}
    assert consumer_options(section(**changes))["security_protocol"] == "PLAINTEXT"


def test_without_the_crc32c_package_it_refuses(monkeypatch):
    """The slow checksum of pure Python is a mistake of the installation, said at once."""
    from detector.sources import kafka_options

    monkeypatch.setattr(kafka_options, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="crc32c"):
        consumer_options(section())


def test_unknown_client_option_is_one_sentence():
    """A misspelt option is a configuration error, not a traceback."""
    with pytest.raises(ConfigError, match="no_such_option"):
        KafkaSource(section(options={"no_such_option": 1}))


def test_the_listener_only_pauses_and_notes(made):
    """On the IO thread nothing blocks: no seek, no commit, no offset is asked for."""
    source, consumer = made()
    consumer.calls.clear()
    consumer.give(0, 1)
    consumer.listener.on_partitions_revoked({TP0})
    consumer.listener.on_partitions_lost({TP0})
    assert {c[0] for c in consumer.calls} == {"pause"}
    assert source.poll(0.5).assigned == frozenset({0, 1})


def test_a_kept_partition_is_sought_again(made):
    """After a rebalance the position in memory is never trusted."""
    source, consumer = made(7)
    consumer.give(0)
    source.poll(0.5)
    consumer.calls.clear()
    source.start({0: 7})
    assert consumer.calls == [("seek", TP0, 7), ("resume", TP0)]


def test_records_become_columns(made):
    """Offsets and broker times as columns; a tombstone is an empty value, never dropped."""
    source, consumer = made(5)
    consumer.polls = [{TP0: [record(5), record(7, None)]}]
    (batch,) = source.poll(0.5).batches
    assert (batch.source, batch.partition, list(batch.values)) == ("logs", 0, [b"{}", b""])
    assert (batch.offsets.tolist(), batch.timestamp_ms.tolist()) == ([5, 7], [1005, 1007])
    assert source.lag() == {0: 92}


def test_stale_records_are_dropped(made):
    """Records before the expected offset, or of a partition not started, never come through."""
    source, consumer = made(5)
    other = TopicPartition("logs", 1)
    consumer.polls = [{TP0: [record(3), record(4), record(5)], other: [record(0, partition=1)]}]
    (batch,) = source.poll(0.5).batches
    assert batch.offsets.tolist() == [5]


def test_while_the_group_forms_polls_are_long(made):
    """A short poll would throw a finished join away; the caller is told to do nothing else."""
    source, consumer = made()
    consumer.state = MemberState.REBALANCING
    consumer.calls.clear()
    assert source.poll(0.01).settled is False
    assert consumer.calls == [("poll", 500)]


@pytest.mark.parametrize(
    ("policy", "first", "wanted", "expected"),
    [
        ("earliest", 0, None, 0),
        ("earliest", 20, None, 20),
        ("latest", 20, None, 100),
        ("earliest", 20, 30, 30),
        ("earliest", 20, 5, 20),
        ("latest", 20, 5, 100),
    ],
)
def test_where_a_partition_starts(made, policy, first, wanted, expected, capsys):
    """The snapshot's offset where the log still has it, else the explicit policy."""
    source, consumer = made(offset_reset=policy)
    consumer.first = first
    assert source.start({0: wanted}) == {0: expected}
    assert ("seek", TP0, expected) in consumer.calls
    assert ("offsets_gone=15" in capsys.readouterr().out) == (wanted == 5)


@pytest.mark.parametrize(("wanted", "sentence"), [(None, "no snapshot"), (5, "15 offsets of")])
def test_policy_error_refuses_to_jump(made, wanted, sentence):
    """With ``error`` a gap, or no snapshot at all, ends the start with one sentence."""
    source, consumer = made(3, offset_reset="error")
    consumer.first = 20
    with pytest.raises(ConfigError, match=sentence):
        source.start({0: wanted})


def test_offsets_deleted_while_running(made, capsys):
    """Retention overtakes us: the log says how many offsets are gone, the caller the new one."""
    source, consumer = made(5)
    consumer.first = 20
    consumer.polls = [kafka_errors.OffsetOutOfRangeError({TP0: 5})]
    assert source.poll(0.5).moved == {0: 20}
    said = capsys.readouterr().out
    assert "offsets_gone=15" in said
    assert "critical" in said
    assert ("seek", TP0, 20) in consumer.calls


def test_a_topic_made_anew(made, capsys):
    """Our offset is past the log's end: said loudly, then read from the policy's place."""
    source, consumer = made(500)
    consumer.polls = [kafka_errors.LogTruncationError({TP0: OffsetAndMetadata(90, "", 1)})]
    assert source.poll(0.5).moved == {0: 0}
    assert "log is shorter" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (kafka_errors.NoOffsetForPartitionError({TP0}), None),
        (kafka_errors.NodeNotReadyError("x"), None),
        (kafka_errors.TopicAuthorizationFailedError({"logs"}), ConfigError),
        (kafka_errors.CorruptRecordError("bad crc"), TemporaryError),
    ],
)
def test_what_a_poll_may_raise(made, error, raised):
    """Passing trouble passes; what needs the operator is one sentence of the right kind."""
    source, consumer = made()
    consumer.polls = [error]
    if raised is None:
        assert not source.poll(0.5).batches
        return
    with pytest.raises(raised):
        source.poll(0.5)


def test_hold_keeps_polling(made):
    """Back-pressure pauses the partitions; what starts meanwhile stays paused too."""
    source, consumer = made()
    source.hold()
    consumer.give(0)
    source.poll(0.5)
    consumer.calls.clear()
    source.start({0: 3})
    assert consumer.calls == [("seek", TP0, 3)]
    source.release()
    assert ("resume", TP0) in consumer.calls


def test_a_missing_topic_is_a_configuration_error(monkeypatch):
    """The sentence names the topic and the broker."""
    monkeypatch.setattr(module, "KafkaConsumer", FakeConsumer)
    with pytest.raises(ConfigError, match="'nope' does not exist on localhost:9092"):
        KafkaSource(section(topic="nope"))
