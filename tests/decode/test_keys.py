"""Keys: fingerprints, names, and raw secrets that show up nowhere."""

from __future__ import annotations

import hmac
import json

import pytest

from detector.core.errors import ConfigError
from detector.decode import DeadLetterFile, DecodeSettings, make_decoder
from detector.decode import intern as intern_module
from detector.decode.key_names import key_hash

from .helpers import PEPPER, SEED, TS, decode, event, records, settings, shown

CANARY = "ak_live_CANARY_5f4dcc3b5aa765d6"


def test_a_raw_key_becomes_its_fingerprint():
    """fp_ and 16 hex digits of HMAC-SHA256(pepper, raw key)."""
    digest = hmac.new(PEPPER, CANARY.encode(), "sha256").hexdigest()
    decoded = decode(event(api_key=CANARY))
    assert [e["key"] for e in shown(decoded.batch)] == [f"fp_{digest[:16]}"]
    assert decode(event(api_key=CANARY), pepper=b"other").batch.key_hi[0] != decoded.batch.key_hi[0]


def test_key_id_wins_over_api_key():
    """A non-secret id beside the raw key is the key's name; equal texts are one key."""
    decoded = decode(event(key_id="id-1", api_key=CANARY), event(key_id="id-1"))
    assert [e["key"] for e in shown(decoded.batch)] == ["id-1", "id-1"]
    assert len(set(decoded.batch.key_lo.tolist())) == 1


def test_the_hash_of_a_key_is_128_bits_of_its_text():
    """key_hi and key_lo are the two halves of one keyed hash of what the key is called."""
    batch = decode(event(key_id="id-1")).batch
    assert int(batch.key_hi[0]) << 64 | int(batch.key_lo[0]) == key_hash("id-1", SEED)


def test_a_raw_key_without_a_pepper_is_refused_with_one_sentence():
    """ConfigError (exit 78) that names the setting and not the key; key_ids need no pepper."""
    decoder = make_decoder("canonical", settings(pepper=None))
    assert len(decoder.decode(records([event(key_id="a")])).batch) == 1
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"pepper") as caught:
            decoder.decode(records([event(key_id="b"), event(api_key=CANARY)]))
        assert CANARY not in str(caught.value)
        assert caught.value.exit_code == 78
    assert shown(decoder.decode(records([event(key_id="b")])).batch)[0]["key"] == "b"


@pytest.mark.parametrize("form", ["canonical", "auto"])
def test_the_decoder_tells_whether_raw_keys_came_in(form):
    """Counted where they are fingerprinted; a key_id that looks like a fingerprint is none."""
    decoder = make_decoder(form, settings())
    decoder.decode(records([event(key_id="fp_0123456789abcdef"), event(key_id="a")]))
    decoder.decode(records([event(key_id="b", api_key=CANARY), event(ts="x", api_key=CANARY)]))
    assert decoder.maker.raw_keys == 0
    decoder.decode(records([event(api_key=CANARY), event(api_key=CANARY), event(key_id="a")]))
    assert decoder.maker.raw_keys == 1


def test_owner_and_credential_come_from_the_keys_first_event_of_a_batch():
    """Independent of what an earlier batch, another partition or a cache has seen."""
    decoder = make_decoder("canonical", settings())
    batches = [
        [event(key_id="k", owner="first"), event(key_id="k", owner="second")],
        [event(key_id="k", owner="second"), event(key_id="k")],
        [event(key_id="k"), event(key_id="k", owner="first")],
        [event(key_id="k", owner="first", credential={"id": "c"})],
    ]
    names = []
    for batch in batches:
        (name,) = decoder.decode(records(batch)).batch.names.keys.values()
        names.append((name.owner, name.credential))
    assert names == [("first", ()), ("second", ()), (None, ()), ("first", (("id", "c"),))]


def test_names_hold_exactly_what_a_batch_needs():
    """A later batch names all its values again, also those that are long known."""
    decoder = make_decoder("canonical", settings())
    value = event(key_id="k", path="/a", user_agent="x/1", source_ip="s3.test")
    decoder.decode(records([value]))
    names = decoder.decode(records([value])).batch.names
    sizes = [len(getattr(names, kind)) for kind in names.__slots__]
    assert sizes == [1] * 6


def test_forgetting_known_values_changes_no_result(monkeypatch):
    """With caches of two values everything is forgotten all the time; columns stay equal."""
    values = [
        event(
            key_id=f"k{i % 7}",
            path=f"/p{i % 5}/x",
            user_agent=f"a/{i % 6}",
            source_ip=f"h{i % 4}.test",
            owner=f"o{i % 3}",
        )
        for i in range(60)
    ]
    expected = shown(decode(*values).batch)
    decoder = make_decoder("canonical", settings())
    for part in vars(decoder.maker).values():
        if hasattr(part, "_interner"):
            part._interner = intern_module.Interner(2)
    found = []
    for first in range(0, 60, 6):
        found += shown(decoder.decode(records(values[first : first + 6], first=first)).batch)
    assert found == expected


def test_a_raw_key_is_in_no_output(tmp_path, capsys):
    """Not in columns, names, refusals, dead letters, reprs or terminal output; nor the pepper."""
    values = [
        event(api_key=CANARY, path=f"/v1/{CANARY}?key={CANARY}#{CANARY}", status=200),
        event(api_key=CANARY, ts="x" + CANARY),
        event(api_key=[CANARY]),
        event(api_key=CANARY, status=CANARY),
        event(api_key=CANARY, auth=CANARY),
        b'{"api_key":"' + CANARY.encode(),
        CANARY.encode(),
        f"[{json.dumps(CANARY)}]".encode(),
        b'{"ts":"%s","api_key":"%s","x":NaN}' % (TS.encode(), CANARY.encode()),
    ]
    path = tmp_path / "dead.ndjson"
    for form in ("canonical", "auto", "combined"):
        decoder = make_decoder(form, settings())
        decoded = decoder.decode(records(values))
        with DeadLetterFile(path, 100) as letters:
            letters.append(decoded.rejected)
        seen = [repr(decoded), repr(decoder), repr(vars(decoder)), repr(decoder.maker)]
        columns = [getattr(decoded.batch, name) for name in decoded.batch.COLUMNS]
        seen += [column.tobytes().decode("latin-1") for column in columns]
        for text in (*seen, path.read_text(), *capsys.readouterr()):
            assert CANARY not in text
            assert CANARY[:12] not in text
    shown_settings = repr(settings())
    assert PEPPER.decode() not in shown_settings
    assert SEED.decode() not in shown_settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"hash_seed": b"short"},
        {"hash_seed": b"x" * 65},
        {"pepper": b""},
        {"trusted_proxies": ("10.0.0.1/8",)},
        {"value_bytes_max": 0},
    ],
)
def test_settings_that_cannot_work(wrong):
    """ConfigError at once, not at the first record."""
    with pytest.raises(ConfigError):
        DecodeSettings(**{"hash_seed": SEED} | wrong)
