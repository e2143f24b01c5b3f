"""Keys: fingerprints of raw ones, hashes and names. Raw bytes never leave this module."""

from __future__ import annotations

import hmac
from hashlib import blake2b

import msgspec
import numpy as np

from detector.core.errors import ConfigError
from detector.core.events import I64, U64, KeyName
from detector.decode.intern import VALUES_MAX, Growing, Interner
from detector.decode.rows import API_KEY, CREDENTIAL, KEY_ID, OWNER, Rows
from detector.decode.settings import DecodeSettings
from detector.decode.text import printable

KEY_BYTES_MAX = 200
OWNER_CHARS_MAX = 200
CREDENTIAL_ENTRIES_MAX = 16
FINGERPRINT_PREFIX = "fp_"

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def fingerprint(raw_key: bytes, pepper: bytes) -> str:
    """What a raw key is called: ``fp_`` and 16 hex digits of HMAC-SHA256.

    >>> fingerprint(b"ak_live_example", b"pepper")
    'fp_ca68775f5262e5b1'
    """
    return FINGERPRINT_PREFIX + hmac.new(pepper, raw_key, "sha256").hexdigest()[:16]


def key_hash(text: str, hash_seed: bytes) -> int:
    """128-bit keyed hash of a key's text; 0 is reserved for "no key"."""
    digest = blake2b(text.encode(), key=hash_seed, digest_size=16).digest()
    return int.from_bytes(digest, "big") or 1


def key_text(key_id: bytes) -> str:
    """The key's text. A longer one than 200 bytes keeps its beginning and a digest."""
    text = key_id.decode("utf-8", "replace")
    if len(key_id) <= KEY_BYTES_MAX:
        return text
    digest = blake2b(key_id, digest_size=16).hexdigest()
    return f"{key_id[: KEY_BYTES_MAX - 40].decode('utf-8', 'ignore')}~{digest}"


def credential_of(raw: bytes) -> tuple[tuple[str, str], ...]:
    """The gateway's ids, sorted by name: texts and numbers, the first 16, 200 characters each."""
    try:
        members = _decode_members(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ()
    out = {}
    for name, value in members.items():
        text = bytes(value)
        if text[:1] == b'"':
            try:
                text = msgspec.json.decode(text, type=str).encode()
            except (msgspec.MsgspecError, ValueError):
                continue
        elif not text.lstrip(b"-").isdigit():
            continue
        out[printable(name)[:64]] = printable(text.decode())[:OWNER_CHARS_MAX]
    return tuple(sorted(out.items())[:CREDENTIAL_ENTRIES_MAX])


class KeyNames:
    """Keys by the look-up hash of their text or raw bytes, which are never kept.

    ``raw_keys`` counts raw keys that were fingerprinted; one that was forgotten and comes
    again counts again. Above 0 it says that the log holds raw keys: a name's form does not.
    """

    def __init__(self, settings: DecodeSettings) -> None:
        self.raw_keys = 0
        self._pepper, self._seed = settings.pepper, settings.hash_seed
        self._interner = Interner(VALUES_MAX)
        self._hi, self._lo, self._owners = Growing(), Growing(), Growing()
        self._named: list[tuple[int, KeyName]] = []

    def columns(self, rows: Rows, hashes: U64, owners: U64) -> tuple[U64, U64, dict[int, KeyName]]:
        """``key_hi``, ``key_lo`` and the names of the batch's keys.

        A key's owner and credential are those of its first event in the batch. Raises
        ``ConfigError`` for a raw key without a pepper.
        """
        found = self._interner.intern(hashes)
        if found.is_fresh:
            self._forget()
        try:
            named = self._name(rows, found.new_rows, owners)
        except ConfigError:
            self._interner.reset()
            self._forget()
            raise
        self._named += named
        self._hi.extend([number >> 64 for number, _ in named])
        self._lo.extend([number & (1 << 64) - 1 for number, _ in named])
        self._owners.extend(owners[found.new_rows])
        seen = found.ids[found.seen_rows]
        changed = np.flatnonzero(self._owners.at(seen) != owners[found.seen_rows])
        for row in found.seen_rows[changed].tolist():
            self._rename(rows, row, int(found.ids[row]), int(owners[row]))
        names = dict(map(self._named.__getitem__, seen.tolist()))
        return self._hi.at(found.ids), self._lo.at(found.ids), names

    def _forget(self) -> None:
        self._named = []
        for column in (self._hi, self._lo, self._owners):
            column.reset()

    def _name(self, rows: Rows, new: I64, owners: U64) -> list[tuple[int, KeyName]]:
        texts = [key_text(key_id) if key_id else "" for key_id in rows.values(new, KEY_ID)]
        raw = np.array([at for at, text in enumerate(texts) if not text], np.int64)
        if len(raw) and self._pepper is None:
            raise ConfigError(
                "the log holds raw API keys: set [decode] pepper, the secret they are "
                "fingerprinted with (or log a non-secret key_id instead of api_key)"
            )
        for at, value in zip(raw.tolist(), rows.values(new[raw], API_KEY), strict=True):
            texts[at] = fingerprint(value, self._pepper or b"")
        self.raw_keys += len(raw)
        names = [KeyName(text) for text in texts]
        for at in np.flatnonzero(owners[new]).tolist():
            names[at] = _with_owner(texts[at], rows, int(new[at]))
        hashes = [key_hash(text, self._seed) for text in texts]
        return list(zip(hashes, names, strict=True))

    def _rename(self, rows: Rows, row: int, number: int, owner: int) -> None:
        identity, name = self._named[number]
        self._named[number] = identity, _with_owner(name.text, rows, row)
        self._owners[number] = owner


def _with_owner(text: str, rows: Rows, row: int) -> KeyName:
    owner = printable(rows.text(row, OWNER))[:OWNER_CHARS_MAX]
    credential = rows.value(row, CREDENTIAL)
    return KeyName(text, owner or None, credential_of(credential) if credential else ())
