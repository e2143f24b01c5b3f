"""The simulated API: its routes, the texts of its clients and of its customers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

ID_NONE, ID_NUMBER, ID_HEX, ID_UUID, ID_PAGE = range(5)

_AREAS = (
    ("orders", ID_NUMBER, "", "items"),
    ("customers", ID_HEX, "cus_", "addresses"),
    ("invoices", ID_NUMBER, "", "pdf"),
    ("products", ID_NUMBER, "", "stock"),
    ("payments", ID_UUID, "", "refunds"),
    ("shipments", ID_UUID, "", "tracking"),
    ("subscriptions", ID_HEX, "sub_", "usage"),
    ("users", ID_NUMBER, "", "roles"),
    ("files", ID_UUID, "", "content"),
    ("reports", ID_NUMBER, "", "rows"),
    ("messages", ID_UUID, "", "replies"),
    ("tickets", ID_NUMBER, "", "comments"),
    ("locations", ID_HEX, "loc_", "hours"),
    ("contracts", ID_NUMBER, "", "signatures"),
)
# method, path with A = area and X = its child collection, kind of identifier (-1 = the
# area's), weight among a key's usual routes, median bytes, median latency in ms
_SHAPES = (
    ("GET", "/v1/A?limit=50&page=@", ID_PAGE, 0.24, 9000, 60),
    ("GET", "/v1/A/@", -1, 0.44, 1400, 22),
    ("POST", "/v1/A", ID_NONE, 0.10, 700, 70),
    ("PATCH", "/v1/A/@", -1, 0.06, 650, 48),
    ("DELETE", "/v1/A/@", -1, 0.01, 60, 35),
    ("GET", "/v1/A/@/X", -1, 0.09, 3200, 40),
    ("POST", "/v1/A/search", ID_NONE, 0.04, 6000, 110),
    ("GET", "/v1/A/export?cursor=@", ID_NUMBER, 0.02, 60000, 400),
)
_LAUNCHES = (
    ("GET", "/v2/A/@", -1, 1300, 20),
    ("POST", "/v2/A/batch", ID_NONE, 2600, 90),
)
_COMMON = (
    ("GET", "/v1/me", 420, 9),
    ("GET", "/v1/limits", 260, 7),
    ("GET", "/v1/status", 90, 4),
    ("POST", "/oauth/token", 900, 30),
)
_GUESS_ROOTS = ("admin", "internal", "debug", "management", "console", "private", "api/v0")
_GUESS_LEAVES = (
    "users",
    "config",
    "keys",
    "health",
    "env",
    "export",
    "metrics",
    "tokens",
    "backup",
    "audit",
)
COMMON_AREA = len(_AREAS)
GUESS_AREA = len(_AREAS) + 1
N_AREAS = len(_AREAS)


@dataclass(frozen=True, slots=True)
class Route:
    """One route: the text before and after its identifier, and how it behaves."""

    method: str
    before: str
    after: str
    id_kind: int
    area: int
    weight: float
    size: float
    latency: float
    launch: bool = False


def _route(method: str, path: str, kind: int, area: int, *rest: float, new: bool = False) -> Route:
    name, own_kind, prefix, child = _AREAS[area]
    kind = own_kind if kind < 0 else kind
    path = path.replace("A", name).replace("X", child)
    before, _, after = path.partition("@")
    before += prefix if kind == ID_HEX else ""
    weight, size, latency = rest
    return Route(method, before, after, kind, area, weight, size, latency, new)


@cache
def routes() -> tuple[Route, ...]:
    """Every route: those of the areas, later launches, common ones, and paths that do not exist."""
    rows = [_route(m, p, k, a, *rest) for a in range(N_AREAS) for m, p, k, *rest in _SHAPES]
    for area in range(N_AREAS):
        rows += [_route(m, p, k, area, 0.0, s, t, new=True) for m, p, k, s, t in _LAUNCHES]
    rows += [Route(m, p, "", ID_NONE, COMMON_AREA, 0.01, s, t) for m, p, s, t in _COMMON]
    rows += [
        Route("GET", f"/{root}/{leaf}", "", ID_NONE, GUESS_AREA, 0.0, 150, 5)
        for root in _GUESS_ROOTS
        for leaf in _GUESS_LEAVES
    ]
    return tuple(rows)


@cache
def routes_where(area: int, launch: bool = False) -> tuple[int, ...]:
    """Numbers of the routes of an area; of its later launches when ``launch``."""
    return tuple(i for i, r in enumerate(routes()) if r.area == area and r.launch == launch)


def area_names() -> tuple[str, ...]:
    """Names of the areas, by number."""
    return tuple(a[0] for a in _AREAS)


FAMILIES = (
    ("keystone-sdk-python/{}.{}.0", (3, 4)),
    ("keystone-sdk-node/{}.{}.1", (5, 6)),
    ("keystone-sdk-go/{}.{}.2", (1, 2)),
    ("keystone-sdk-java/{}.{}.0", (7, 8)),
)
GENERIC = (
    "python-requests/2.31.0",
    "python-requests/2.28.2",
    "axios/1.6.7",
    "axios/0.27.2",
    "Go-http-client/1.1",
    "Go-http-client/2.0",
    "okhttp/4.12.0",
    "okhttp/3.14.9",
    "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
    "Apache-HttpClient/4.5.14 (Java/17.0.9)",
    "Java/11.0.20",
    "GuzzleHttp/7",
    "aiohttp/3.9.1",
    "python-httpx/0.26.0",
    "Faraday v2.7.10",
)
BY_HAND = (
    "curl/8.4.0",
    "curl/7.88.1",
    "PostmanRuntime/7.36.1",
    "PostmanRuntime/7.29.2",
    "insomnia/8.6.0",
    "HTTPie/3.2.2",
)

_FIRST = "amber birch cedar delta ember fjord granite harbor indigo juniper kestrel lumen maple north orbit pine quartz river summit tidal umber velvet willow zephyr"  # noqa: E501 - one list
_SECOND = "labs logistics foods health retail travel media energy bank studio freight motors insure learn homes sports systems analytics works market"  # noqa: E501 - one list


def owner_name(rng: np.random.Generator) -> str:
    """A made-up customer, such as ``harbor-freight``."""
    first, second = _FIRST.split(), _SECOND.split()
    return f"{first[int(rng.integers(len(first)))]}-{second[int(rng.integers(len(second)))]}"


def own_client(owner: str, rng: np.random.Generator) -> str:
    """The text of a customer's own program, with ``{}`` for major and minor version."""
    name = "".join(p.capitalize() for p in owner.split("-"))
    part = ("", "-Sync", "-Worker", "Connector", "-Backend")[int(rng.integers(5))]
    tail = ("", "", " (linux; x64)", " Java/17", " python-requests/2.31.0")[int(rng.integers(5))]
    return f"{name}{part}/{{}}.{{}}.{int(rng.integers(6))}{tail}"
