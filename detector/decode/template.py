"""Path templates: the rules, in plain Python. The kernels are tested against this.

A path is cut to ``PATH_BYTES_MAX`` bytes; scheme and host of an absolute URL, query and
fragment are dropped; empty segments vanish; what follows ``;`` in a segment is cut off.
Each segment then stays as it is or becomes ``{id}``. It becomes ``{id}`` when it

1. is longer than 48 bytes, or holds a byte other than letters, digits and
   ``-._~!$&'()*+,=:`` (so e-mail-like, percent-encoded and non-ASCII segments go), or is
   itself a placeholder (``{...}`` or ``:name``).

The other rules need a digit and look at the segment without a trailing ``:port`` and
without an extension (a dot, a letter and up to 4 letters or digits). ``v`` and one or two
digits is a version: it stays as one of the first three segments and becomes ``{id}`` later
(``/journal/v14``). Otherwise a segment becomes ``{id}`` when it

2. holds digits and punctuation only (numbers, dates, addresses);
3. is one or two letters followed by two or more digits (``v491``, ``n7426``), or one letter
   and one digit right behind a segment that became ``{id}`` (``n2`` in ``v491/n2``);
4. holds hex digits and hyphens only, at least 8 hex digits (UUIDs, digests);
5. holds 3 digits in a row (``nature11650``, ``ord_881``);
6. holds a run of letters and digits that looks random: 10 or more characters with two or
   more groups of digits, or 14 or more with a letter after a digit and nowhere 5 lower-case
   letters in a row.

A template has at most 12 segments and 256 bytes; the rest becomes ``/...``.
"""

from __future__ import annotations

import re

PATH_BYTES_MAX = 8192
SEGMENT_BYTES_MAX = 48
SEGMENTS_MAX = 12
VERSION_SEGMENTS = 3
TEMPLATE_BYTES_MAX = 256
METHOD_BYTES_MAX = 16
NUMBER_MAX = (1 << 53) - 1  # whole numbers up to here are exact as float64
ID = "{id}"
REST = "/..."

_URL = re.compile(rb"[A-Za-z]{1,8}://[^/?#]*")
_PLAIN = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,=:]*")
_PORT = re.compile(rb"(?<=.):[0-9]{1,5}\Z", re.DOTALL)
_EXTENSION = re.compile(rb"(?<=.)\.[A-Za-z][A-Za-z0-9]{0,4}\Z", re.DOTALL)
_VERSION = re.compile(rb"[vV][0-9]{1,2}\Z")
_SHORT = re.compile(rb"[A-Za-z]{1,2}[0-9]{2,}\Z")
_PAIR = re.compile(rb"[A-Za-z][0-9]\Z")
_HEX = re.compile(rb"[0-9a-fA-F-]*\Z")
_RUN = re.compile(rb"[A-Za-z0-9]+")
_DIGITS = re.compile(rb"[0-9]+")
_LETTER_AFTER_DIGIT = re.compile(rb"[0-9].*[A-Za-z]")
_WORD = re.compile(rb"[a-z]{5}")


def is_identifier(segment: bytes, position: int = 0, *, follows_id: bool = False) -> bool:
    """Whether a path segment is an identifier by the rules above.

    ``position`` counts the segments before it; ``follows_id`` says that the last one of them
    became ``{id}``.

    >>> [is_identifier(s) for s in (b"8812", b"orders", b"v2", b"v491", b"course-7")]
    [True, False, False, True, False]
    """
    if len(segment) > SEGMENT_BYTES_MAX or not _PLAIN.fullmatch(segment):
        return True
    core = _EXTENSION.sub(b"", _PORT.sub(b"", segment))
    if not _DIGITS.search(core):
        return False
    if _VERSION.match(core):
        return position >= VERSION_SEGMENTS
    return bool(
        not re.search(rb"[A-Za-z]", core)
        or _SHORT.match(core)
        or (follows_id and _PAIR.match(core))
        or (_HEX.match(core) and len(core.replace(b"-", b"")) >= 8)
        or re.search(rb"[0-9]{3}", core)
        or any(_is_random(run) for run in _RUN.findall(core))
    )


def _is_random(run: bytes) -> bool:
    if len(run) >= 10 and len(_DIGITS.findall(run)) >= 2:
        return True
    return bool(len(run) >= 14 and _LETTER_AFTER_DIGIT.search(run) and not _WORD.search(run))


def is_placeholder(segment: bytes) -> bool:
    """Whether a logged segment is already a template's parameter."""
    return segment[:1] == b":" or (segment[:1] == b"{" and segment[-1:] == b"}")


def path_template(path: bytes) -> tuple[str, bytes]:
    r"""The template of a path, and what was cut out of it, each part ended by a NUL.

    >>> path_template(b"/v1/orders/8812?page=2")
    ('/v1/orders/{id}', b'8812\x002\x00')
    """
    path = path[:PATH_BYTES_MAX]
    if url := _URL.match(path):
        path = path[url.end() :]
    path, _, _ = path.partition(b"#")
    path, _, query = path.partition(b"?")
    template, is_open, count, follows_id, cut = "", True, 0, False, []
    for segment in filter(None, path.split(b"/")):
        name, _, parameters = segment.partition(b";")
        placeholder = is_placeholder(name)
        identifier = not placeholder and is_identifier(name, count, follows_id=follows_id)
        text = ID if placeholder or identifier else name.decode()
        if name and is_open:
            is_open = count < SEGMENTS_MAX and len(template) + 1 + len(text) <= TEMPLATE_BYTES_MAX
            template += f"/{text}" if is_open else REST
            count += is_open
        if name:
            follows_id = text == ID
        if name and not placeholder and (identifier or not is_open):
            cut.append(name)
        cut.append(parameters)
    for parameter in query.split(b"&"):
        name, equals, value = parameter.partition(b"=")
        cut.append(value if equals else name)
    return template or "/", b"".join(part + b"\0" for part in cut if part)


def last_number(identifiers: bytes) -> int:
    r"""The last identifier of ``path_template`` that is a number, -1 for none.

    A number has ASCII digits only and is at most ``NUMBER_MAX``; leading zeros count nothing.

    >>> last_number(b"8812\x002\x00red\x00"), last_number(b"ord_881\x00"), last_number(b"")
    (2, -1, -1)
    """
    for part in reversed(identifiers.split(b"\0")):
        digits = part.lstrip(b"0") or part[:1]
        if digits.isdigit() and len(digits) <= 16 and int(digits) <= NUMBER_MAX:
            return int(digits)
    return -1


def route_template(route: bytes) -> str:
    """A route that the log names itself: kept, but printable ASCII and bounded.

    Other bytes are percent-encoded, so that different routes stay different.

    >>> route_template(b"/v1/orders/:order_id"), route_template("/é".encode())
    ('/v1/orders/:order_id', '/%C3%A9')
    """
    out = ""
    for byte in route:
        text = chr(byte) if 0x21 <= byte <= 0x7E else f"%{byte:02X}"
        if len(out) + len(text) > TEMPLATE_BYTES_MAX:
            return out + REST
        out += text
    return out


def method_name(method: bytes) -> str:
    """The method in capitals; ``-`` for none, ``OTHER`` for what cannot be one.

    >>> method_name(b"get"), method_name(b""), method_name(b"G E T")
    ('GET', '-', 'OTHER')
    """
    if not method:
        return "-"
    if len(method) > METHOD_BYTES_MAX or not re.fullmatch(rb"[A-Za-z_-]+", method):
        return "OTHER"
    return method.upper().decode()


def area_of(route_text: str) -> str:
    """The leading part of a route: up to the first segment that names something.

    Versions (``v1``), ``api``, ``rest`` and parameters name nothing. The method is no part.

    >>> [area_of(t) for t in ("GET /v1/orders/{id}", "GET /api/v2/users", "GET /", "GET ping")]
    ['/v1/orders', '/api/v2/users', '/', 'ping']
    """
    _, _, template = route_text.partition(" ")
    if not template.startswith("/"):
        return template.partition("/")[0]
    segments = template[1:].split("/")
    for at, segment in enumerate(segments):
        if _names_something(segment):
            return "/" + "/".join(segments[: at + 1])
    return template


def _names_something(segment: str) -> bool:
    if not segment or segment[0] in "{<:*" or segment == REST[1:]:
        return False
    return segment.lower() not in ("api", "rest") and not _VERSION.match(segment.encode())
