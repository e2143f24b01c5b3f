"""A log in memory, and the sample of one that is too long."""

from __future__ import annotations

import numpy as np
import pytest

from detector.config import Config
from detector.core.errors import UsageError
from detector.core.events import AUTH_FAILED, EventBatch
from detector.core.registry import KeyRegistry, RegistryEntry
from models.clock import DAY_US
from replay.merge import open_inputs
from replay.tune.log import Log, read_log, sampled
from tests.core.logs import START_US, batch_of, fleet_log
from tests.tune.helpers import log_of, row


def test_a_keys_rows_are_its_events_in_time_order():
    """Every event with a key belongs to exactly one key's rows, in event-time order."""
    events = fleet_log(1)
    log = Log.of(events)
    assert sorted(name.text for name in log.names) == sorted({f"key{k}" for k in range(12)})
    assert len(log.events) == int((events.key_lo != 0).sum()) < len(events)
    for key in range(log.n_keys):
        rows = log.rows_of(key)
        assert len(np.unique(log.events.key_lo[rows])) == 1
        assert (np.diff(log.times_of(key)) >= 0).all()
    assert log.bounds[-1] == len(log.events)


def test_requests_whose_secret_was_refused_are_left_out():
    """They are not the key's: whoever made them did not hold it."""
    events = batch_of([row(i, "a") for i in range(10)])
    events.auth[3:5] = AUTH_FAILED
    assert len(Log.of(events).events) == 8


def test_the_registrys_owner_comes_before_the_logs():
    """A registry may name owners that the log does not."""
    events = batch_of([row(0, "a"), row(1, "b")])
    log = Log.of(events, KeyRegistry([RegistryEntry("a", owner="acme")]))
    assert dict(zip([n.text for n in log.names], log.owners, strict=True)) == {
        "a": "acme",
        "b": None,
    }


def test_key_days_count_days_with_an_event():
    """Two keys, one on two days and one on one: three, and fewer from a later time on."""
    log = log_of([row(1, "a"), row(2, "a"), row(30, "a"), row(3, "b")])
    assert log.key_days(START_US) == 3
    assert log.key_days(START_US + DAY_US) == 1


def test_a_sample_keeps_whole_keys():
    """Of a log that is too long a share of the keys stays, each with all of its events."""
    events = fleet_log(2)
    batches = [events.take(slice(i, i + 500)) for i in range(0, len(events), 500)]
    kept, share = sampled(batches, len(events) // 3)
    assert 0 < len(kept) <= len(events) // 3
    assert share in (0.5, 0.25, 0.125)
    for key in np.unique(kept.key_lo):
        assert (kept.key_lo == key).sum() == (events.key_lo == key).sum()


def test_a_log_that_fits_is_kept_whole():
    """Nothing is sampled without need."""
    events = fleet_log(3)
    kept, share = sampled([events], len(events))
    assert share == 1.0
    assert len(kept) == int((events.key_lo != 0).sum())


def test_lines_that_cannot_be_read_are_skipped_and_told(tmp_path):
    """A bad line costs that line only, and the user hears of it."""
    path, said = tmp_path / "log.ndjson", []
    good = '{"ts":"2026-09-21T14:15:23Z","key_id":"a","method":"GET","path":"/a","status":200}\n'
    path.write_text(good + "not json\n" + good)
    log = read_log(
        open_inputs([path]),
        Config(),
        None,
        input_format="canonical",
        lateness_s=300,
        say=said.append,
    )
    assert len(log.events) == 2
    assert said == ["1 lines could not be read and were skipped"]


def test_an_empty_log_has_no_keys():
    """It is for the caller to refuse it."""
    log = Log.of(EventBatch.empty())
    assert (log.n_keys, log.span_us) == (0, 0)


def test_a_log_out_of_order_is_refused(tmp_path):
    """As a replay refuses it, with the line to look at."""
    path = tmp_path / "log.ndjson"
    line = '{{"ts":"2026-09-21T{}:15:23Z","key_id":"a","method":"GET","path":"/","status":200}}\n'
    path.write_text(line.format("14") + line.format("12"))
    with pytest.raises(UsageError, match="line 2"):
        read_log(
            open_inputs([path]),
            Config(),
            None,
            input_format="canonical",
            lateness_s=300,
            say=lambda _: None,
        )
