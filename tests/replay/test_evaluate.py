"""Labels and the judgement of episodes and alerts against them."""

import numpy as np
import pytest

from detector.core.errors import UsageError
from replay.evaluate import judge_alerts, rank_keys
from replay.labels import Label, parse_labels, read_labels, write_labels

KEYSWAP = b"""[{"set": "x.sd", "split": "dev", "kind": "same", "key_id": "sd:A", "rows": 64,
 "start": "2012-11-30T16:42:08Z", "end": "2012-11-30T16:44:53Z", "donor": "sd:B",
 "owner_rows_before": 62}]"""


def episode(key, score, channel="stolen"):
    return {"key": key, "score": score, "channel": channel}


def test_both_forms_are_read():
    """The key-swap array and the simulator's lines give the same kind of label."""
    (label,) = parse_labels(KEYSWAP)
    assert (label.key, label.kind, label.requests, label.donor) == ("sd:A", "same", 64, "sd:B")
    line = b'{"key":"a","kind":"x","start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:00:01Z"}\n'
    assert [x.end_us - x.start_us for x in parse_labels(line * 2)] == [1_000_000] * 2
    assert parse_labels(b"") == []


def test_written_labels_come_back(tmp_path):
    """What is written is read as it was, without the request times."""
    labels = [Label("a", "flood", 1_000_000, 2_500_000, 3), Label("b", "scraper", 0, 0, 1)]
    write_labels(tmp_path / "labels.ndjson", labels)
    again = read_labels(tmp_path / "labels.ndjson")
    assert [x.to_record() for x in again] == [x.to_record() for x in labels]
    assert again[0].end_us == 2_500_000


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[1]",
        b'{"key":1,"kind":"x"}',
        b'{"key":"a","kind":"x","start":"yesterday","end":"today"}',
        b'{"key":"a","kind":"x","start":"2026-01-02","end":"2026-01-01"}',
        b'{"key":"a","kind":"x","start":"2026-01-01","end":"2026-01-02","requests":"many"}',
    ],
)
def test_bad_labels_are_refused_in_one_sentence(data):
    """A wrong label file names itself and the entry."""
    with pytest.raises(UsageError, match=r"^mine") as refused:
        parse_labels(data, "mine")
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_a_usage_error(tmp_path):
    """No traceback for a mistyped path."""
    with pytest.raises(UsageError, match="cannot be read"):
        read_labels(tmp_path / "none")


def test_ties_and_scoreless_victims_do_not_count():
    """A victim level with too many clean keys, or without any episode, is not found."""
    requests = {f"c{i}": 60 for i in range(40)}
    labels = [Label(k, "cross", 0, 1, 1) for k in ("level", "silent", "top")]
    episodes = [episode(f"c{i}", 5.0) for i in range(3)]
    episodes += [episode("level", 5.0), episode("top", 5.001)]
    ranking = rank_keys(episodes, requests, labels)
    assert (ranking.found, ranking.clean_above_max) == ({"cross": 1}, 2)
    assert ranking.ranks["level", "cross"] == 3


def test_the_strict_ranking_lets_two_percent_of_the_clean_keys_above():
    """Of 100 clean keys two may rank above a victim; with three it counts at 5 % alone."""
    requests = {f"c{i}": 60 for i in range(100)}
    labels = [Label(k, "cross", 0, 1, 1) for k in ("second", "third")]
    episodes = [episode("c0", 9.0), episode("c1", 9.0), episode("second", 8.0)]
    episodes += [episode("c2", 7.0), episode("third", 6.0)]
    ranking = rank_keys(episodes, requests, labels)
    assert (ranking.found, ranking.found_strict) == ({"cross": 2}, {"cross": 1})


def test_small_keys_victims_and_silent_donors_are_not_clean():
    """Only busy keys without a label compare; donors of same and quiet are judged neither way."""
    requests = {"v": 100, "donor": 100, "swap": 100, "clean": 100, "few": 59}
    labels = [Label("v", "same", 0, 1, 1, "donor"), Label("v2", "cross", 0, 1, 1, "swap")]
    assert rank_keys([], requests, labels).clean_keys == 2


def test_one_channel_can_be_ranked_alone():
    """With a channel given, episodes of the other say nothing."""
    episodes = [episode("v", 9, "abused")]
    labels = [Label("v", "cross", 0, 1, 1)]
    assert rank_keys(episodes, {"c": 99}, labels, channel="stolen").found == {"cross": 0}
    assert rank_keys(episodes, {"c": 99}, labels).found == {"cross": 1}


def alert(key, second, leaked=0):
    at = f"1970-01-01T00:{second // 60:02d}:{second % 60:02d}Z"
    return {"key": key, "alerted_at": at, "requests_leaked": leaked}


def test_alerts_are_credited_in_time_only():
    """Before the attack or too long after it, an alert on the victim is a false one."""
    label = Label("a", "x", 100_000_000, 200_000_000, 10)
    result = judge_alerts([alert("a", 50), alert("a", 400)], [label], grace_s=60)
    assert (result.caught, len(result.false_alerts), result.attacks[0].leaked) == (0, 2, 10)
    result = judge_alerts([alert("a", 50), alert("a", 150, 4), alert("a", 220)], [label], 60)
    assert (result.caught, len(result.false_alerts), result.attacks[0].leaked) == (1, 1, 4)


def test_leak_is_counted_from_the_attack_itself_where_known():
    """The alerting request counts as leaked; the alert's own figure does not matter then."""
    times = np.array([10, 20, 30]) * 1_000_000
    label = Label("a", "x", int(times[0]), int(times[-1]), 3, times_us=times)
    assert judge_alerts([alert("a", 20, 99)], [label]).attacks[0].leaked == 2
