"""Clients: a user agent's product and major version.

- ``acme-sdk/2.4 python/3.12`` -> ``acme-sdk/2``: the first product, its leading number.
- Browsers are a family and its version: ``Chrome/156``, ``Firefox/140``, ``Safari/18``,
  ``Edge/..``, ``Opera/..``, ``Samsung/..``, ``IE/..``.
- Robots that call themselves ``compatible`` go by their own name: ``Googlebot/2``.
- A number of more than 4 digits is a build, not a major version, and is dropped. A name
  ends before the first part that looks like an identifier (``tool_5c59eb79-...`` -> ``tool``).

At most 512 bytes are read, at most 64 characters kept.
"""

from __future__ import annotations

import re

from detector.decode.template import is_identifier
from detector.decode.text import printable

AGENT_BYTES_MAX = 512
CLIENT_CHARS_MAX = 64
MAJOR_DIGITS_MAX = 4

_BROWSERS = (
    (re.compile(r"\bEdg(?:e|A|iOS)?/(\d+)"), "Edge"),
    (re.compile(r"\b(?:OPR|OPiOS|Opera)/(\d+)"), "Opera"),
    (re.compile(r"\bSamsungBrowser/(\d+)"), "Samsung"),
    (re.compile(r"\b(?:Firefox|FxiOS)/(\d+)"), "Firefox"),
    (re.compile(r"\bHeadlessChrome/(\d+)"), "HeadlessChrome"),
    (re.compile(r"\b(?:Chrome|CriOS|Chromium)/(\d+)"), "Chrome"),
    (re.compile(r"\bVersion/(\d+)\b.*\bSafari/"), "Safari"),
    (re.compile(r"\bMSIE (\d+)"), "IE"),
    (re.compile(r"\bTrident/.*\brv:(\d+)"), "IE"),
)
_ROBOT = re.compile(
    r"([A-Za-z][\w .-]{0,40}?(?:bot|crawler|spider|slurp)\w*)(?:/v?(\d+))?", re.IGNORECASE
)
_COMPATIBLE = re.compile(r"compatible; ([A-Za-z][\w.-]*)(?:/v?(\d+))?")
_PRODUCT = re.compile(r"([^\s/;,()]+)(?:/(?:[vV]?(\d+))?[^\s;,()]*)?")
_ENGINES = {"Mozilla", "AppleWebKit", "Gecko", "KHTML", "Mobile", "Safari", "Version", "like"}
_PART = re.compile(r"[A-Za-z0-9]+")


def client_of(agent: str) -> str:
    """The client's text; empty when there is none.

    >>> client_of("acme-sdk/2.4 python/3.12"), client_of("curl/8.4.0"), client_of("-")
    ('acme-sdk/2', 'curl/8', '')
    """
    agent = printable(agent).lstrip("[\"'")
    if agent in ("", "-"):
        return ""
    if agent.startswith("Mozilla/"):
        return _browser(agent)
    match = _PRODUCT.search(agent)
    return _client(match[1], match[2]) if match else agent[:CLIENT_CHARS_MAX]


def _browser(agent: str) -> str:
    _, _, comment = agent.partition("(")
    robot = _ROBOT.search(comment) if "compatible" in comment or "bot" in comment.lower() else None
    if robot:
        return _client(robot[1].strip(), robot[2])
    for pattern, family in _BROWSERS:
        if match := pattern.search(agent):
            return _client(family, match[1])
    if match := _COMPATIBLE.search(agent):
        return _client(match[1], match[2])
    outside = re.sub(r"\([^)]*\)?", " ", agent)
    for match in _PRODUCT.finditer(outside):
        if match[1] not in _ENGINES:
            return _client(match[1], match[2])
    return _client("Mozilla", None)


def _client(name: str, major: str | None) -> str:
    for part in _PART.finditer(name):
        run = part[0].encode()
        if is_identifier(run) and not (run.isdigit() and len(run) < 4):
            name = name[: part.start()].rstrip("-_.:") or "{id}"
            break
    tail = f"/{major}" if major and len(major) <= MAJOR_DIGITS_MAX else ""
    return name[: CLIENT_CHARS_MAX - len(tail)] + tail
