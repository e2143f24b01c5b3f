"""Spans to columns: the compiled inner loops of every decoder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detector.core.events import AUTH_FAILED, AUTH_OK, AUTH_UNKNOWN, I16, I64, U8, U64
from detector.decode.bytes import load64, low_bytes
from detector.decode.client import AGENT_BYTES_MAX
from detector.decode.faults import (
    BAD_AUTH,
    BAD_LINE_TIME,
    BAD_TS,
    BYTES_RANGE,
    MISSING_TS,
    OK,
    SLOW,
    STATUS_RANGE,
    TS_RANGE,
)
from detector.decode.kernel_path import (
    IDENT_SCRATCH_BYTES,
    ROUTE_SCRATCH_BYTES,
    last_number,
    write_method,
    write_route,
    write_template,
)
from detector.decode.kernel_value import ASK, log_time_us, network_v4, timestamp_us
from detector.decode.rows import (
    API_KEY,
    AUTH,
    BYTES,
    CREDENTIAL,
    KEY_ID,
    METHOD,
    OWNER,
    PATH,
    ROUTE,
    SOURCE_IP,
    STATUS,
    TS,
    USER_AGENT,
)
from detector.decode.siphash import sip64, sip128
from detector.decode.timestamp import BAD, RANGE
from models._jit import njit

I32 = npt.NDArray[np.int32]

STATUS_MIN, STATUS_MAX = 100, 999
SIZE_BYTES_MAX = 1 << 50  # a petabyte; clipped, so that no sum over a key overflows

SCRATCH_BYTES = ROUTE_SCRATCH_BYTES + IDENT_SCRATCH_BYTES

# Rows of the table of hash keys: one purpose each, in the order in which kernels count on it.
PURPOSES = ("route", "ident", "agent", "address", "key", "raw-key", "owner", "credential")


@njit
def read_times(buf: U8, cells: I64, is_log: bool, ts_us: I64, fault: I16) -> int:
    """Fills event times of rows without fault. Rows it cannot read become ``SLOW``; their count."""
    base = np.int64(buf.ctypes.data)
    slow = 0
    for i in range(len(ts_us)):
        if fault[i] != OK:
            continue
        start, n = base + cells[i, TS, 0], cells[i, TS, 1]
        if n == 0:
            fault[i] = BAD_LINE_TIME if is_log else MISSING_TS
            continue
        time = log_time_us(start, n) if is_log else timestamp_us(start, n)
        if time >= 0:
            ts_us[i] = time
        elif time == RANGE:
            fault[i] = TS_RANGE
        elif time == BAD:
            fault[i] = BAD_LINE_TIME if is_log else BAD_TS
        elif time == ASK:
            fault[i] = SLOW
            slow += 1
    return slow


@njit
def clamp_times(
    ts_us: I64, fault: I16, broker_ms: I64, late_us: int, future_us: int
) -> tuple[int, int]:
    """Pulls event times to the bounds around the broker's; how many were late, in the future."""
    late = future = 0
    for i in range(len(ts_us)):
        if fault[i] != OK or broker_ms[i] < 0:
            continue
        broker_us = broker_ms[i] * 1000
        if ts_us[i] < broker_us - late_us:
            ts_us[i] = broker_us - late_us
            late += 1
        elif ts_us[i] > broker_us + future_us:
            ts_us[i] = broker_us + future_us
            future += 1
    return late, future


@njit
def _auth(start: int, n: int, status: int) -> int:
    """``AUTH_*``, or -1 for a word that is none."""
    if n == 0:
        return AUTH_FAILED if status == 401 else AUTH_UNKNOWN
    word = low_bytes(load64(start), n) if n <= 8 else np.uint64(0)
    if word == _OK:
        return AUTH_OK
    if word == _FAILED:
        return AUTH_FAILED
    return AUTH_UNKNOWN if word == _UNKNOWN else -1


_OK, _FAILED, _UNKNOWN = (
    np.uint64(int.from_bytes(word, "little")) for word in (b"ok", b"failed", b"unknown")
)


@njit
def check_numbers(
    buf: U8, cells: I64, fault: I16, status_out: I16, auth_out: U8, size_out: I64
) -> None:
    """Ranges of status, bytes and auth. -1 and 0 are unknown; too many bytes are clipped."""
    base = np.int64(buf.ctypes.data)
    for i in range(len(fault)):
        if fault[i] != OK:
            continue
        status, size = cells[i, STATUS, 0], cells[i, BYTES, 0]
        auth = _auth(base + cells[i, AUTH, 0], cells[i, AUTH, 1], status)
        if auth < 0:
            fault[i] = BAD_AUTH
        elif status > STATUS_MAX or (status < STATUS_MIN and status not in (0, -1)):
            fault[i] = STATUS_RANGE
        elif size < -1:
            fault[i] = BYTES_RANGE
        else:
            auth_out[i] = auth
            status_out[i] = max(status, 0)
            size_out[i] = min(max(size, 0), SIZE_BYTES_MAX)


@njit
def _write_row_route(base: int, cells: I64, i: int, out: int, ids: int) -> tuple[int, int]:
    """Route text of one row and its identifiers; their lengths (0 = none)."""
    path_bytes, route_bytes = cells[i, PATH, 1], cells[i, ROUTE, 1]
    if path_bytes == 0 and route_bytes == 0:
        return 0, 0
    ids_end = ids
    at = start = write_method(base + cells[i, METHOD, 0], cells[i, METHOD, 1], out)
    if path_bytes > 0:
        at, ids_end = write_template(base + cells[i, PATH, 0], path_bytes, start, ids)
    if route_bytes > 0:
        at = write_route(base + cells[i, ROUTE, 0], route_bytes, start)
    return at - out, ids_end - ids


def route_text(buf: U8, cells: I64) -> tuple[bytes, bytes]:
    """Route text and identifiers (each ended by a NUL) of one row's cells; empty for none."""
    scratch, none = np.empty(SCRATCH_BYTES, np.uint8), np.zeros(1, np.uint64)
    n, n_ids = hash_routes(
        buf,
        cells[None],
        np.zeros(1, np.int16),
        np.zeros((2, 2), np.uint64),
        scratch,
        none,
        none,
        np.zeros(1, np.int64),
    )
    ids = scratch[ROUTE_SCRATCH_BYTES:]
    return scratch[:n].tobytes(), ids[:n_ids].tobytes()


@njit
def hash_routes(
    buf: U8, cells: I64, fault: I16, keys: U64, scratch: U8, route: U64, ident: U64, number: I64
) -> tuple[int, int]:
    """Hashes of route texts and of cut-out identifiers, and the last number among these.

    ``scratch`` then still holds those of the last row, the identifiers from
    ``ROUTE_SCRATCH_BYTES`` on; their lengths are returned.
    """
    base = np.int64(buf.ctypes.data)
    out = np.int64(scratch.ctypes.data)
    ids = out + ROUTE_SCRATCH_BYTES
    route0, route1, ident0, ident1 = keys[0, 0], keys[0, 1], keys[1, 0], keys[1, 1]
    n = n_ids = 0
    for i in range(len(fault)):
        if fault[i] != OK:
            continue
        n, n_ids = _write_row_route(base, cells, i, out, ids)
        if n > 0:
            route[i] = sip64(out, n, route0, route1)
        if n_ids > 0:
            ident[i] = sip64(ids, n_ids, ident0, ident1)
            number[i] = last_number(ids, ids + n_ids)
    return n, n_ids


@njit
def hash_sources(
    buf: U8, cells: I64, fault: I16, keys: U64, network: U64, address: U64, agent: U64
) -> None:
    """Networks of plain IPv4; look-up hashes of other addresses and of user agents."""
    base = np.int64(buf.ctypes.data)
    agent0, agent1, address0, address1 = keys[2, 0], keys[2, 1], keys[3, 0], keys[3, 1]
    for i in range(len(fault)):
        if fault[i] != OK:
            continue
        start, n = base + cells[i, SOURCE_IP, 0], cells[i, SOURCE_IP, 1]
        if n > 0:
            network[i] = network_v4(start, n)
            if network[i] == np.uint64(0):
                address[i] = sip64(start, n, address0, address1)
        n = min(cells[i, USER_AGENT, 1], AGENT_BYTES_MAX)
        if n > 0:
            agent[i] = sip64(base + cells[i, USER_AGENT, 0], n, agent0, agent1)


@njit
def hash_keys(buf: U8, cells: I64, fault: I16, keys: U64, key: U64, owner: U64) -> int:
    """Look-up hashes of API keys (column 0 is 0 for none) and of owner with credential.

    Returns the number of rows without a key.
    """
    base = np.int64(buf.ctypes.data)
    no_key = 0
    for i in range(len(fault)):
        if fault[i] != OK:
            continue
        field, purpose = (KEY_ID, 4) if cells[i, KEY_ID, 1] > 0 else (API_KEY, 5)
        start, n = base + cells[i, field, 0], cells[i, field, 1]
        if n == 0:
            no_key += 1
            continue
        key[i, 0], key[i, 1] = sip128(start, n, keys[purpose, 0], keys[purpose, 1])
        n = cells[i, OWNER, 1]
        if n > 0:
            owner[i] = sip64(base + cells[i, OWNER, 0], n, keys[6, 0], keys[6, 1])
        n = cells[i, CREDENTIAL, 1]
        if n > 0:
            owner[i] += sip64(base + cells[i, CREDENTIAL, 0], n, keys[7, 0], keys[7, 1])
    return no_key


@njit
def intern(
    hashes: U64,
    slots: I32,
    known: U64,
    stamps: I32,
    count: int,
    stamp: int,
    ids: I32,
    new_rows: I64,
    seen_rows: I64,
) -> tuple[int, int]:
    """Dense numbers for 128-bit hashes; the caller made room.

    ``new_rows`` gets the first row of every new hash, ``seen_rows`` of every hash of this
    batch (``stamp``), both in row order. Returns how many of each.
    """
    mask = np.uint64(len(slots) - 1)
    n_new = n_seen = 0
    for i in range(len(hashes)):
        first, second = hashes[i, 0], hashes[i, 1]
        if first == np.uint64(0):
            ids[i] = -1
            continue
        at = first & mask
        number = slots[at]
        while number >= 0 and (known[number, 0] != first or known[number, 1] != second):
            at = (at + np.uint64(1)) & mask
            number = slots[at]
        if number < 0:
            number = np.int32(count + n_new)
            slots[at] = number
            known[number, 0], known[number, 1] = first, second
            new_rows[n_new] = i
            n_new += 1
        if stamps[number] != stamp:
            stamps[number] = stamp
            seen_rows[n_seen] = i
            n_seen += 1
        ids[i] = number
    return n_new, n_seen


@njit
def refill(slots: I32, known: U64, count: int) -> None:
    """Puts the first ``count`` known hashes into empty slots."""
    mask = np.uint64(len(slots) - 1)
    for number in range(count):
        at = known[number, 0] & mask
        while slots[at] >= 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = number
