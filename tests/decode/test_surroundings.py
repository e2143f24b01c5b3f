"""Blocks and places: without a database by the bits, with one looked up once per network."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.errors import EXIT_CONFIG, ConfigError
from detector.core.network import (
    distance_km,
    network_text,
    pack_asn,
    pack_block,
    pack_blocks,
    pack_other,
    pack_place,
    pack_v4,
    pack_v6,
    unpack_place,
)
from detector.decode import intern, make_decoder, surroundings
from detector.decode.databases import Databases
from models._jit import njit
from tests.decode.helpers import decode, event, records, settings
from tests.decode.mmdb import write_mmdb

MUNICH, NEW_YORK = (48.1, 11.6), (40.7, -74.0)
SYSTEM = {"autonomous_system_number": 64500, "autonomous_system_organization": "Example Ltd"}


def at(latitude: float, longitude: float) -> dict:
    return {"location": {"latitude": float(latitude), "longitude": float(longitude)}}


def blocks(decoded) -> list[str]:
    names = decoded.batch.names.blocks
    return [network_text(b, names) for b in decoded.batch.block.tolist()]


def from_(*addresses, **changes):
    return decode(*(event(source_ip=a) if a else event() for a in addresses), **changes)


def test_blocks_without_a_database():
    """/16 of IPv4, /32 of IPv6, a name is its own block, no address none; no place is known."""
    decoded = from_("203.0.113.7", "2001:db8:1:2::3", "proxy-7", "", "[2001:db8::1]:443")
    assert blocks(decoded) == [
        "203.0.0.0/16",
        "2001:db8::/32",
        "proxy-7",
        "unknown",
        "2001:db8::/32",
    ]
    assert decoded.batch.block[2] == decoded.batch.network[2]
    assert not decoded.batch.place.any()


V4, V6 = st.integers(0, 2**32 - 1), st.integers(0, 2**128 - 1)


@given(st.lists(st.one_of(V4.map(pack_v4), V6.map(pack_v6), V4.map(pack_other), st.just(0))))
def test_pack_blocks_is_pack_block(networks):
    """Vectors and single values agree, on whatever a network may be."""
    packed = pack_blocks(np.array(networks, np.uint64)).tolist()
    assert packed == [pack_block(n) for n in networks]


@given(V4, V4, V6, V6)
def test_blocks_gather_networks_and_nothing_else(a, b, c, d):
    """Same leading 16 (32) bits = same block; kinds never meet, nor a block and a network."""
    assert (pack_block(pack_v4(a)) == pack_block(pack_v4(b))) == (a >> 16 == b >> 16)
    assert (pack_block(pack_v6(c)) == pack_block(pack_v6(d))) == (c >> 96 == d >> 96)
    kinds = {pack_v4(a), pack_v6(c), pack_other(a), pack_asn(a)}
    assert len(kinds | {pack_block(k) for k in kinds}) == 6


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_places_keep_a_tenth_of_a_degree(latitude, longitude):
    """A packed place is no further than half a step from where it was, and fits in 32 bits."""
    place = pack_place(latitude, longitude)
    assert 0 < place < 1 << 32
    back = unpack_place(place)
    assert back == pytest.approx((latitude, longitude), abs=0.05 + 1e-9)


@pytest.mark.parametrize(
    ("one", "other", "km"),
    [
        (MUNICH, NEW_YORK, 6492),
        (MUNICH, MUNICH, 0),
        ((0, 179.9), (0, -179.9), 22.2),
        ((90, 0), (-90, 0), 20015),
        ((0, 0), (0, 180), 20015),
        ((51.5, -0.1), (35.7, 139.7), 9560),
    ],
)
def test_distances(one, other, km):
    """Known great circles, over the date line and the poles too, in both directions."""
    there, back = pack_place(*one), pack_place(*other)
    assert distance_km(there, back) == pytest.approx(km, rel=2e-3)
    assert distance_km(back, there) == distance_km(there, back)
    assert distance_km(0, back) == distance_km(there, 0) == -1


def test_distance_in_a_kernel():
    """Called from compiled code on the column as it is: the same number."""
    places = np.array([pack_place(*MUNICH), pack_place(*NEW_YORK)], np.uint32)
    compiled = njit(_first_two)
    assert compiled(places) == distance_km(pack_place(*MUNICH), pack_place(*NEW_YORK))


def _first_two(places):
    return distance_km(places[0], places[1])


@pytest.fixture
def asn(tmp_path):
    return write_mmdb(
        tmp_path / "asn.mmdb",
        "GeoLite2-ASN",
        {
            "203.0.0.0/16": SYSTEM,
            "198.51.100.0/24": {"autonomous_system_number": 64501},
            "192.0.2.0/24": {"autonomous_system_number": "64502"},
            "2001:db8::/32": SYSTEM,
            "100.64.0.0/16": {
                "autonomous_system_number": 64503,
                "autonomous_system_organization": "\x1b[31mred\u202e" + "x" * 200,
            },
        },
    )


def test_blocks_of_autonomous_systems(asn):
    """One block for all of a system's networks, named; a network in none keeps its /16."""
    decoded = from_("203.0.113.7", "2001:db8:9::1", "198.51.100.1", "10.1.2.3", asn_database=asn)
    known = "AS64500 Example Ltd"
    assert blocks(decoded) == [known, known, "AS64501", "10.1.0.0/16"]
    assert decoded.batch.block[0] == decoded.batch.block[1] == pack_asn(64500)


def test_hostile_and_foreign_records(asn):
    """A name cannot steer a terminal and is bounded; a number that is none is no system."""
    decoded = from_("100.64.0.1", "192.0.2.1", "proxy-7", "", asn_database=asn)
    shown = blocks(decoded)
    assert shown[0] == "AS64503 " + ("[31mred" + "x" * 200)[:80]
    assert shown[1:] == ["192.0.0.0/16", "proxy-7", "unknown"]


def test_places_from_a_city_database(tmp_path):
    """Latitude and longitude of the network; what is no position on Earth is none."""
    city = write_mmdb(
        tmp_path / "city.mmdb",
        "GeoLite2-City",
        {
            "203.0.113.0/24": at(*MUNICH),
            "2001:db8::/48": at(*NEW_YORK),
            "198.51.100.0/24": at(91, 0),
            "198.51.101.0/24": at(nan, 0),
            "198.51.102.0/24": {"location": "Munich"},
            "198.51.103.0/24": {"city": {"geoname_id": 1}},
        },
    )
    known = from_("203.0.113.7", "2001:db8::1", city_database=city).batch
    assert [unpack_place(p) for p in known.place.tolist()] == [MUNICH, NEW_YORK]
    unknown = from_(*(f"198.51.{i}.1" for i in range(100, 105)), "", "x", city_database=city)
    assert unknown.batch.place.tolist() == [0] * 7
    assert unknown.batch.place.dtype == np.uint32


def test_an_ipv4_database_says_nothing_about_ipv6(tmp_path):
    """No error, just an unknown place."""
    city = write_mmdb(tmp_path / "c", "X-City", {"203.0.113.0/24": at(*MUNICH)}, ip_version=4)
    batch = from_("203.0.113.7", "2001:db8::1", city_database=city).batch
    assert batch.place.tolist() == [pack_place(*MUNICH), 0]


@pytest.mark.parametrize("values_max", [0, 2, 1000])
def test_looked_up_once_and_forgotten_when_full(asn, monkeypatch, values_max):
    """Any cut into batches and any limit gives the same columns; a known network asks nobody."""
    monkeypatch.setattr(surroundings, "VALUES_MAX", values_max)
    asked = []
    system_of = Databases.system_of
    monkeypatch.setattr(
        Databases, "system_of", lambda self, n: asked.append(n) or system_of(self, n)
    )
    addresses = [f"203.0.{i % 7}.{i}" for i in range(30)] + ["10.0.0.1", ""] * 5
    whole = from_(*addresses, asn_database=asn).batch
    assert len(asked) == 8
    decoder = make_decoder("canonical", settings(asn_database=asn))
    asked.clear()
    parts = [
        decoder.decode(records([event(source_ip=a) if a else event()])).batch for a in addresses
    ]
    assert [int(p.block[0]) for p in parts] == whole.block.tolist()
    assert all(p.names.blocks for p in parts[:30])
    assert (len(asked) == 8) == (values_max == 1000)


def test_the_table_stays_bounded(asn, monkeypatch):
    """A network for every event: what is remembered does not grow with the log."""
    monkeypatch.setattr(surroundings, "VALUES_MAX", 50)
    decoder = make_decoder("canonical", settings(asn_database=asn))
    for a in range(20):
        decoder.decode(records([event(source_ip=f"10.{a}.{b}.1") for b in range(20)]))
    assert decoder.maker._surroundings._interner.count <= 50 + 20
    assert intern.VALUES_MAX == 200_000


def test_a_missing_database_is_one_sentence(tmp_path):
    """Named with its entry in the configuration; exit code 78, before the first record."""
    for entry in ("asn_database", "city_database"):
        path = tmp_path / "none.mmdb"
        with pytest.raises(ConfigError) as caught:
            make_decoder("auto", settings(**{entry: path}))
        assert str(caught.value) == f"cannot read network.{entry} {path}: No such file or directory"
        assert caught.value.exit_code == EXIT_CONFIG


@pytest.mark.parametrize("content", [b"", b"not a database", b"\xab\xcd\xefMaxMind.com" + b"\xff"])
def test_a_file_that_is_no_database_is_one_sentence(tmp_path, content):
    """The same for an empty file, another file and cut-off metadata."""
    path = tmp_path / "x.mmdb"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"asn_database .*x\.mmdb is not a MaxMind DB file, or"):
        make_decoder("canonical", settings(asn_database=path))


def test_a_folder_is_no_database(tmp_path):
    """A sentence as well."""
    with pytest.raises(ConfigError, match=r"city_database"):
        make_decoder("canonical", settings(city_database=tmp_path))


def test_databases_given_the_wrong_way_round(asn):
    """An ASN file as the city database would silently say nothing: refused."""
    with pytest.raises(ConfigError, match=r"city_database .*'GeoLite2-ASN', which does not"):
        make_decoder("canonical", settings(city_database=asn))


def test_damage_inside_is_found_at_the_look_up(tmp_path):
    """One sentence that names the file; the decoder forgets what it half learned."""
    path = write_mmdb(tmp_path / "a", "ASN", {"203.0.113.0/24": SYSTEM}, damaged=True)
    decoder = make_decoder("canonical", settings(asn_database=path))
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"asn_database .* damaged at 203\.0\.113\.0/24"):
            decoder.decode(records([event(source_ip="203.0.113.7")]))
    fine = decoder.decode(records([event(source_ip="10.0.0.1")]))
    assert blocks(fine) == ["10.0.0.0/16"]
