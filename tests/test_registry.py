"""The key registry: grants, and a file that is checked line by line."""

from __future__ import annotations

import pytest

from detector.config import Config, load
from detector.core.errors import ConfigError
from detector.core.registry import DECOY, REVOKED, KeyRegistry, RegistryEntry, grant_fault
from detector.registry import configured_registry, load_registry


def allows(route: str, *grants: str) -> bool:
    return KeyRegistry([RegistryEntry("k", grants=grants)]).allows("k", route)


@pytest.mark.parametrize(
    ("grant", "route", "allowed"),
    [
        ("GET /v1/orders", "GET /v1/orders", True),
        ("GET /v1/orders", "POST /v1/orders", False),
        ("get /v1/orders", "GET /v1/orders", True),
        ("GET /v1/orders/", "GET /v1/orders", True),
        ("GET /v1/orders", "GET /v1/orders/{id}", False),
        ("GET /v1/orders/*", "GET /v1/orders/{id}", True),
        ("GET /v1/orders/*", "GET /v1/orders/search", True),
        ("GET /v1/orders/*", "GET /v1/orders", False),
        ("GET /v1/orders/*", "GET /v1/orders/{id}/lines", False),
        ("GET /v1/*/lines", "GET /v1/{id}/lines", True),
        ("* /v1/reports/**", "DELETE /v1/reports/{id}/pages/{id}", True),
        ("* /v1/reports/**", "GET /v1/reports", True),
        ("* /v1/reports/**", "GET /v1/report", False),
        ("* /**", "GET /", True),
        ("GET /", "GET /", True),
        ("GET /", "GET /x", False),
        ("GET /a/*", "GET /a/...", False),
        ("GET /a/**", "GET /a/b/...", True),
        ("GET /v1/orders", "- /v1/orders", True),
        ("GET /v1/orders", "- /v1/users", False),
        ("GET orders-get", "GET orders-get", True),
    ],
)
def test_grants(grant, route, allowed):
    """Method, * and ** as documented; the answer is the same when asked again."""
    registry = KeyRegistry([RegistryEntry("k", grants=("HEAD /none", grant))])
    assert registry.allows("k", route) is allowed
    assert registry.allows("k", route) is allowed


def test_no_grants_listed_allows_everything_an_empty_list_nothing():
    """None and an unknown key: everything. An empty list: nothing."""
    registry = KeyRegistry([RegistryEntry("free"), RegistryEntry("none", grants=())])
    assert registry.allows("free", "GET /x")
    assert registry.allows("stranger", "GET /x")
    assert not registry.allows("none", "GET /x")
    assert registry.has_grants
    assert not KeyRegistry([RegistryEntry("free")]).has_grants


def test_digest_depends_on_the_entries_alone():
    """Order does not matter, any field does."""
    a, b = RegistryEntry("a"), RegistryEntry("b", owner="o")
    assert KeyRegistry([a, b]).digest == KeyRegistry([b, a]).digest
    assert KeyRegistry([a, b]).digest != KeyRegistry([a, RegistryEntry("b", owner="p")]).digest
    assert KeyRegistry([a], ["* /x", "* /y"]).digest == KeyRegistry([a], ["* /y", "* /x"]).digest
    assert KeyRegistry([a], ["* /x"]).digest != KeyRegistry([a]).digest
    assert len(KeyRegistry([a, b])) == 2


@pytest.mark.parametrize(
    ("entry", "decoys", "has_facts"),
    [
        (RegistryEntry("k", owner="acme", created_us=1), (), False),
        (RegistryEntry("k", grants=()), (), True),
        (RegistryEntry("k", revoked_us=1), (), True),
        (RegistryEntry("k", expires_us=1), (), True),
        (RegistryEntry("k", rotated_from="j", created_us=1), (), True),
        (RegistryEntry("k", rotated_from="j"), (), False),
        (RegistryEntry("k"), ("GET /x",), True),
    ],
)
def test_whether_there_is_anything_to_ask(entry, decoys, has_facts):
    """A caller may skip the question exactly when no answer could be a violation."""
    assert KeyRegistry([entry], decoys).has_facts is has_facts


@pytest.mark.parametrize("grant", ["", "GET", "/v1/x", "GET ", " /x", "GET /a b", "GET /**/x"])
def test_grants_that_cannot_work(grant):
    """Each is told apart before it silently matches nothing."""
    assert grant_fault(grant)


WHOLE = """
{"key":"key_1","owner":"acme","tags":["gold","eu"],"class":"auto","plan":"pro",
"environment":"live","grants":["GET /v1/orders/*","* /v1/reports/**"],"quota":1000,
"created_at":"2026-09-21T14:15:23Z","expires_at":1790000123,"revoked_at":null,
"rotated_from":"key_0","pinned":true,"leaked_at":"1790000123500"}
""".replace("\n", "")


def test_a_whole_entry(tmp_path):
    """Every field of the contract, blank lines skipped, defaults for the rest."""
    path = tmp_path / "keys.ndjson"
    path.write_text(f'{WHOLE}\n\n{{"key":"key_2"}}\n')
    registry = load_registry(path)
    assert registry.get("key_1") == RegistryEntry(
        key="key_1",
        owner="acme",
        tags=("gold", "eu"),
        key_class="auto",
        plan="pro",
        environment="live",
        grants=("GET /v1/orders/*", "* /v1/reports/**"),
        quota=1000,
        created_us=1_790_000_123_000_000,
        expires_us=1_790_000_123_000_000,
        rotated_from="key_0",
        pinned=True,
        leaked_us=1_790_000_123_500_000,
    )
    assert registry.get("key_2") == RegistryEntry("key_2", key_class="approve")
    assert registry.get("key_3") is None


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"{", "the line is not valid JSON"),
        (b"[" * 100_000, "longer than"),
        (b"{" * 60_000, "the line is not valid JSON"),
        (b'{"key":"\xff"}', "the line is not valid UTF-8"),
        (b"[]", "expected `object`, got `array`"),
        (b"{}", "missing required field `key`"),
        (b'{"key":""}', "length >= 1"),
        (b'{"key":1}', "expected `str`, got `int` - at `$.key`"),
        (b'{"key":"a","class":"CANARY"}', "class must be never, approve or auto"),
        (b'{"key":"a","CANARY":1}', "the entry has an unknown field"),
        (b'{"key":"a","tags":"x"}', "expected `array`, got `str` - at `$.tags`"),
        (b'{"key":"a","quota":-1}', ">= 0"),
        (b'{"key":"a","grants":["CANARY"]}', "a grant is METHOD and path pattern"),
        (b'{"key":"a","created_at":"CANARY"}', "created_at must be RFC 3339 text"),
        (b'{"key":"ok"}', "this key is listed already in line 1"),
        (b'{"key":"CANARY","rotated_from":"CANARY"}', "rotated_from names the key itself"),
    ],
)
def test_faults_name_file_and_line_and_quote_nothing(tmp_path, line, sentence):
    """ConfigError: file, line number, one sentence, no value of the entry."""
    path = tmp_path / "keys.ndjson"
    path.write_bytes(b'{"key":"ok"}\n\n' + line + b"\n")
    with pytest.raises(ConfigError) as caught:
        load_registry(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:3: ")
    assert sentence in message
    assert "CANARY" not in message
    assert "\n" not in message


def test_a_missing_file_is_a_sentence(tmp_path):
    """The cause in words, no traceback for the user."""
    with pytest.raises(ConfigError, match=r"cannot read key registry .*: No such file"):
        load_registry(tmp_path / "none.ndjson")


def test_decoys_come_from_the_configuration(tmp_path):
    """With a registry file or without; neither means no registry at all."""
    path = tmp_path / "keys.ndjson"
    path.write_text('{"key":"k","revoked_at":"2026-09-21T00:00:00Z"}\n')
    decoys = {"decoy_routes": ["GET /v1/internal/backup"]}
    alone = configured_registry(Config.model_validate({"detection": decoys}))
    both = configured_registry(
        Config.model_validate({"detection": decoys, "keys": {"registry": path}})
    )
    late_us = 1_800_000_000_000_000
    for registry in (alone, both):
        assert registry.violation("k", "GET /v1/internal/backup", late_us) == DECOY
    assert both.violation("k", "GET /v1/a", late_us) == REVOKED
    assert configured_registry(Config()) is None


def test_a_decoy_that_cannot_work_is_refused(tmp_path):
    """One sentence that names the file, the entry and the pattern."""
    path = tmp_path / "keywatch.toml"
    path.write_text('[detection]\ndecoy_routes = ["GET /ok", "/v1/backup"]\n')
    with pytest.raises(ConfigError, match=r"decoy_routes: .* a decoy is METHOD .*'/v1/backup'"):
        load(path)
