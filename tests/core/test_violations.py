"""Hard facts: the table answers as the registry does, whatever it has seen before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core import violations
from detector.core.events import AUTH_FAILED, AUTH_OK, AUTH_UNKNOWN, EventBatch
from detector.core.registry import (
    DECOY,
    NO_VIOLATION,
    OUT_OF_GRANT,
    REVOKED,
    ROTATED,
    KeyRegistry,
    RegistryEntry,
)
from detector.core.violations import ViolationTable, sentence
from tests.core.logs import START_US, batch_of

HOUR_US, MINUTE_US = 3_600_000_000, 60_000_000
TRAP = "GET /v1/internal/backup"


def code_of(registry, key="k", route="GET /v1/a", ts_us=START_US, status=200, auth=AUTH_UNKNOWN):
    batch = batch_of([(ts_us, key, "10.0.0", "c/1", route, status)])
    batch.auth[:] = auth
    (code,) = ViolationTable(registry).codes(batch).tolist()
    return code


def test_without_facts_nothing_is_a_violation():
    """No registry, an empty one, and one that only names owners."""
    for registry in (None, KeyRegistry([]), KeyRegistry([RegistryEntry("k", owner="acme")])):
        assert code_of(registry) == NO_VIOLATION


@pytest.mark.parametrize(
    ("status", "auth", "granted", "decoy"),
    [
        (200, AUTH_OK, OUT_OF_GRANT, DECOY),
        (299, AUTH_UNKNOWN, OUT_OF_GRANT, DECOY),
        (199, AUTH_OK, NO_VIOLATION, DECOY),
        (300, AUTH_OK, NO_VIOLATION, DECOY),
        (403, AUTH_OK, NO_VIOLATION, DECOY),
        (0, AUTH_UNKNOWN, NO_VIOLATION, DECOY),
        (200, AUTH_FAILED, NO_VIOLATION, NO_VIOLATION),
        (401, AUTH_FAILED, NO_VIOLATION, NO_VIOLATION),
    ],
)
def test_what_counts_as_success(status, auth, granted, decoy):
    """2xx with an accepted key breaks a grant; a decoy is any answer, but not a refused key."""
    grants = KeyRegistry([RegistryEntry("k", grants=())])
    assert code_of(grants, status=status, auth=auth) == granted
    trap = KeyRegistry([], [TRAP])
    assert code_of(trap, route=TRAP, status=status, auth=auth) == decoy


def test_decoys_concern_every_key_and_only_their_routes():
    """Registered or not; patterns as in grants; requests without a key are nobody's."""
    registry = KeyRegistry([RegistryEntry("k")], [TRAP, "* /v1/old/**"])
    assert code_of(registry, "stranger", TRAP, status=404) == DECOY
    assert code_of(registry, "k", "DELETE /v1/old/x/y") == DECOY
    assert code_of(registry, "k", "POST /v1/internal/backup") == NO_VIOLATION
    assert code_of(registry, "", TRAP) == NO_VIOLATION


@pytest.mark.parametrize("field", ["revoked_us", "expires_us"])
def test_revoked_and_expired(field):
    """From a minute after the time on: gateways remember a key for a moment."""
    registry = KeyRegistry([RegistryEntry("k", **{field: START_US})])
    for offset_us, expected in ((-1, 0), (MINUTE_US - 1, 0), (MINUTE_US, REVOKED)):
        assert code_of(registry, ts_us=START_US + offset_us) == expected
    late_us = START_US + HOUR_US
    assert code_of(registry, ts_us=late_us, status=403) == NO_VIOLATION
    assert code_of(registry, "another", ts_us=late_us) == NO_VIOLATION


def test_the_earlier_of_two_ends_counts():
    """Revoked after it had expired, or before."""
    for ends in ((0, 9 * HOUR_US), (9 * HOUR_US, 0)):
        entry = RegistryEntry("k", expires_us=START_US + ends[0], revoked_us=START_US + ends[1])
        assert code_of(KeyRegistry([entry]), ts_us=START_US + HOUR_US) == REVOKED


def test_rotated():
    """The old key, a day after the first of its successors was made; the new one may go on."""
    registry = KeyRegistry(
        [
            RegistryEntry("old"),
            RegistryEntry("newer", rotated_from="old", created_us=START_US + 9 * HOUR_US),
            RegistryEntry("new", rotated_from="old", created_us=START_US),
            RegistryEntry("undated", rotated_from="other"),
        ]
    )
    day_us = START_US + 24 * HOUR_US
    assert code_of(registry, "old", ts_us=day_us - 1) == NO_VIOLATION
    assert code_of(registry, "old", ts_us=day_us) == ROTATED
    assert code_of(registry, "old", ts_us=day_us, status=500) == NO_VIOLATION
    for key in ("new", "newer", "other"):
        assert code_of(registry, key, ts_us=day_us * 2) == NO_VIOLATION


def test_of_several_violations_the_gravest_is_told():
    """Decoy before revoked before rotated before out of grant."""
    late_us = START_US + 48 * HOUR_US
    ended = RegistryEntry("k", grants=(), revoked_us=START_US)
    successor = RegistryEntry("new", rotated_from="k", created_us=START_US)
    assert code_of(KeyRegistry([ended, successor], [TRAP]), "k", TRAP, late_us) == DECOY
    assert code_of(KeyRegistry([ended, successor]), ts_us=late_us) == REVOKED
    assert code_of(KeyRegistry([RegistryEntry("k", grants=()), successor]), ts_us=late_us) == (
        ROTATED
    )


def test_a_request_without_a_route():
    """It cannot be compared with grants or decoys, but a revoked key is a revoked key."""
    batch = batch_of([(START_US + HOUR_US, "k", "10.0.0", "c/1", "GET /v1/a", 200)])
    batch.route[:] = 0
    grants = KeyRegistry([RegistryEntry("k", grants=())], ["* /**"])
    assert ViolationTable(grants).codes(batch).tolist() == [NO_VIOLATION]
    revoked = KeyRegistry([RegistryEntry("k", revoked_us=START_US)])
    assert ViolationTable(revoked).codes(batch).tolist() == [REVOKED]


def test_sentences():
    """Each code has one; none has two."""
    told = [sentence(code, "GET /x") for code in (OUT_OF_GRANT, DECOY, REVOKED, ROTATED)]
    assert len(set(told)) == 4
    assert all("GET /x" in text for text in told)
    assert violations.NAMES[OUT_OF_GRANT] == "out_of_grant"
    assert len(violations.NAMES) == 5


KEYS = st.sampled_from(["", "a", "b", "c", "free", "stranger"])
ROUTES = st.sampled_from(["GET /v1/a", "GET /v1/b", "POST /v1/a", TRAP])
ROWS = st.tuples(
    st.integers(START_US, START_US + 72 * HOUR_US),
    KEYS,
    st.just("10.0.0"),
    st.just("c/1"),
    ROUTES,
    st.sampled_from([200, 204, 301, 401, 404]),
)
TIMES = st.none() | st.integers(START_US, START_US + 48 * HOUR_US)
GRANTS = st.none() | st.lists(st.sampled_from(["GET /v1/**", "* /v1/a"]), max_size=2).map(tuple)
ENTRIES = st.lists(
    st.builds(
        RegistryEntry,
        st.sampled_from(["a", "b", "c"]),
        grants=GRANTS,
        created_us=TIMES,
        expires_us=TIMES,
        revoked_us=TIMES,
        rotated_from=st.none() | st.sampled_from(["a", "b", "c"]),
    ),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(ROWS, min_size=1, max_size=30),
    ENTRIES,
    st.sampled_from([[], [TRAP], ["POST /v1/*"]]),
    st.integers(1, 30),
    st.sampled_from([0, 3, 1 << 19]),
)
def test_the_table_is_the_registry(rows, entries, decoys, cut, pairs_max):
    """For any registry, log, cut into batches and limit: the codes of ``violation``."""
    batch, registry = batch_of(rows), KeyRegistry(entries, decoys)
    batch.auth[batch.status == 401] = AUTH_FAILED
    expected = [
        registry.violation(key, route, ts_us, succeeded=200 <= status < 300)
        if key and status != 401
        else NO_VIOLATION
        for ts_us, key, _, _, route, status in rows
    ]
    table = ViolationTable(registry)
    limit, violations.PAIRS_MAX = violations.PAIRS_MAX, pairs_max
    try:
        parts = [table.codes(batch.take(slice(a, a + cut))) for a in range(0, len(rows), cut)]
        again = table.codes(batch)
    finally:
        violations.PAIRS_MAX = limit
    assert np.concatenate(parts).tolist() == again.tolist() == expected


def many_pairs(n: int) -> EventBatch:
    rng = np.random.default_rng(7)
    routes = [f"GET /v1/r{i}" for i in range(50)]
    picks = rng.integers(0, [n // 10, 50], (n, 2)).tolist()
    rows = [
        (START_US + i, f"g{k}", "10.0.0", "c/1", routes[r], 200) for i, (k, r) in enumerate(picks)
    ]
    return batch_of(rows)


def test_growing_and_forgetting(monkeypatch):
    """Thousands of pairs: right after every growth, asked once each, and bounded."""
    batch = many_pairs(40_000)
    registry = KeyRegistry(
        RegistryEntry(f"g{k}", grants=(f"GET /v1/r{k % 50}",)) for k in range(4000)
    )
    asked = []
    facts = KeyRegistry.facts
    monkeypatch.setattr(
        KeyRegistry, "facts", lambda self, *pair: asked.append(pair) or facts(self, *pair)
    )
    table = ViolationTable(registry)
    codes = table.codes(batch)
    assert len(asked) == len(set(asked)) > 30_000
    for row in range(0, 40_000, 397):
        key = batch.names.keys[int(batch.key_hi[row]) << 64 | int(batch.key_lo[row])].text
        route = batch.names.routes[int(batch.route[row])]
        assert codes[row] == registry.violation(key, route, int(batch.ts_us[row]))
    asked.clear()
    assert table.codes(batch).tolist() == codes.tolist()
    assert not asked
    monkeypatch.setattr(violations, "PAIRS_MAX", 1000)
    assert table.codes(batch).tolist() == codes.tolist()
    assert len(table._pairs) <= 1 << 17
