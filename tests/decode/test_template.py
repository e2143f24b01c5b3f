"""Path templates: golden cases for every rule, and kernel == reference for any bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.decode import kernels
from detector.decode.bytes import PAD
from detector.decode.rows import METHOD, PATH, ROUTE, Extra, Rows
from detector.decode.template import (
    NUMBER_MAX,
    area_of,
    last_number,
    method_name,
    path_template,
    route_template,
)

GOLDEN = [
    ("/v1/orders/8812", "/v1/orders/{id}"),
    ("/v1/orders/8812/?page=2#top", "/v1/orders/{id}"),
    ("/", "/"),
    ("", "/"),
    ("?x=1", "/"),
    ("//v1//orders/", "/v1/orders"),
    ("v1/orders", "/v1/orders"),
    ("https://api.test:8443/v1/orders/7?x", "/v1/orders/{id}"),
    ("http://api.test", "/"),
    # numbers, dates, addresses
    ("/reports/2024-01-31", "/reports/{id}"),
    ("/reports/2024-01-31T10:00:00Z", "/reports/{id}"),
    ("/hosts/203.0.113.7", "/hosts/{id}"),
    ("/orders/7", "/orders/{id}"),
    ("/orders/12.json", "/orders/{id}"),
    # UUIDs, digests, keys
    ("/u/6fa459ea-ee8a-3ca4-894e-db77e160355e", "/u/{id}"),
    ("/u/DEADBEEF01", "/u/{id}"),
    ("/u/deadbeef", "/u/deadbeef"),
    ("/files/5f4dcc3b5aa765d61d8327deb882cf99.pdf", "/files/{id}"),
    ("/customers/cus_NffrFeUfNV2Hib", "/customers/{id}"),
    ("/videos/dQw4w9WgXcQ", "/videos/{id}"),
    ("/users/u_da308cdbc4d4", "/users/{id}"),
    ("/keys/AKIAWOGXN38MFN92ING5", "/keys/{id}"),
    ("/items/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/items/{id}"),
    # letters and digits that are words
    ("/oauth2/token", "/oauth2/token"),
    ("/route53resolver/x", "/route53resolver/x"),
    ("/Ec2InstanceConnect", "/Ec2InstanceConnect"),
    ("/utf8/base64/s3/k8s/ec2", "/utf8/base64/s3/k8s/ec2"),
    ("/file/file-lecture-1", "/file/file-lecture-1"),
    ("/forum/forum-fop2---discussion-forum", "/forum/forum-fop2---discussion-forum"),
    ("/scripts/jquery-1.7.2.min.js", "/scripts/jquery-1.7.2.min.js"),
    ("/science/displayRightPanePanel", "/science/displayRightPanePanel"),
    # versions and volumes
    ("/api/v2/users", "/api/v2/users"),
    ("/v99/x", "/v99/x"),
    ("/v100/x", "/{id}/x"),
    ("/apis/apps/v1/pods", "/apis/apps/v1/pods"),
    ("/a/b/c/v14/x", "/a/b/c/{id}/x"),
    (
        "/www.nature.com/nature/journal/v491/n7426/full/491673a.html",
        "/www.nature.com/nature/journal/{id}/{id}/full/{id}",
    ),
    (
        "/www.nature.com/nrg/journal/v8/n2/index.html",
        "/www.nature.com/nrg/journal/{id}/{id}/index.html",
    ),
    ("/buckets/s3", "/buckets/s3"),
    (
        "/pdn.sciencedirect.com/science/_ob=MiamiImageURL",
        "/pdn.sciencedirect.com/science/_ob=MiamiImageURL",
    ),
    ("/gate1.inist.fr:50162/login", "/gate1.inist.fr:50162/login"),
    ("/science/article/pii/S0896627312005764", "/science/article/pii/{id}"),
    # junk
    ("/users/me@example.test", "/users/{id}"),
    ("/files/a%20b", "/files/{id}"),
    ("/files/<script>alert(1)</script>", "/files/{id}/{id}"),
    ("/files/\x1b[31m", "/files/{id}"),
    ("/files/données", "/files/{id}"),
    ("/x/" + "a" * 48, "/x/" + "a" * 48),
    ("/x/" + "a" * 49, "/x/{id}"),
    # parameters and templates
    ("/cart;jsessionid=A1B2/items", "/cart/items"),
    ("/api/users/{id}/lotto", "/api/users/{id}/lotto"),
    ("/api/users/:user/lotto", "/api/users/{id}/lotto"),
    # bounds
    ("/" + "/".join("abcdefghijklmn"), "/a/b/c/d/e/f/g/h/i/j/k/l/..."),
    ("/" + "/".join(["x" * 40] * 8), ("/" + "x" * 40) * 6 + "/..."),
]


@pytest.mark.parametrize(("path", "template"), GOLDEN, ids=[p[:40] or "empty" for p, _ in GOLDEN])
def test_golden_templates(path, template):
    """Each rule of template.py, in the reference and in the kernel."""
    assert path_template(path.encode())[0] == template
    if path:
        assert by_kernel(path.encode())[0] == f"GET {template}"


@pytest.mark.parametrize(
    ("path", "cut"),
    [
        (b"/v1/orders/8812", [b"8812"]),
        (b"/v1/orders/8812/lines/3?page=2&q=red&debug", [b"8812", b"3", b"2", b"red", b"debug"]),
        (b"/v1/orders?a=&b==x", [b"=x"]),
        (b"/v1/orders#77", []),
        (b"/cart;sid=9", [b"sid=9"]),
        (b"/users/{id}", []),
        (b"/a/b/c/d/e/f/g/h/i/j/k/l/tail/9", [b"tail", b"9"]),
    ],
)
def test_cut_out_identifiers(path, cut):
    """What leaves the template is kept for the identifier hash: segments, parameters, values."""
    expected = b"".join(part + b"\0" for part in cut)
    assert path_template(path)[1] == expected
    assert by_kernel(path)[1] == expected


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (b"/v1/orders/8812", 8812),
        (b"/v1/orders/8812/lines/3", 3),
        (b"/v1/orders/8812?sort=asc", 8812),
        (b"/v1/orders?id=8812&sort=asc", 8812),
        (b"/v1/orders/8812?offset=40", 40),
        (b"/v1/orders?8812", 8812),
        (b"/v1/orders/8812;v=3", 8812),
        (b"/v1/orders/8812;3", 3),
        (b"/v1/orders/0", 0),
        (b"/v1/orders/007", 7),
        (b"/v1/orders/" + b"0" * 40 + b"7", 7),
        (b"/a/b/c/d/e/f/g/h/i/j/k/l/tail/9", 9),
        (b"/v1/orders/%d" % NUMBER_MAX, NUMBER_MAX),
        (b"/v1/orders/%d" % (NUMBER_MAX + 1), -1),
        (b"/v1/orders/5/x/%d" % (NUMBER_MAX + 1), 5),
        (b"/v1/orders/" + b"9" * 47, -1),
        (b"/v1/orders", -1),
        (b"/v2/orders", -1),
        (b"/v1/orders#77", -1),
        (b"/orders/-5", -1),
        (b"/orders/1.5", -1),
        (b"/orders/12.json", -1),
        (b"/orders/ord_881", -1),
        ("/orders/\u0667".encode(), -1),
        (b"/orders/1\x002", 2),
        (b"", -1),
    ],
)
def test_numbers(path, number):
    """The last identifier of path and query that is digits only and exact in a float."""
    assert last_number(path_template(path)[1]) == number
    assert number_by_kernel(path) == number


@pytest.mark.parametrize(
    ("route", "area"),
    [
        ("GET /v1/orders/{id}", "/v1/orders"),
        ("POST /api/v2/users", "/api/v2/users"),
        ("GET /API/rest/V1/things", "/API/rest/V1/things"),
        ("GET /www.nature.com/nature", "/www.nature.com"),
        ("GET /{id}/orders", "/{id}/orders"),
        ("GET /:tenant/orders/x", "/:tenant/orders"),
        ("GET /{id}", "/{id}"),
        ("GET /api/v1", "/api/v1"),
        ("GET /", "/"),
        ("GET orders-get", "orders-get"),
    ],
)
def test_area_is_the_leading_part(route, area):
    """Up to the first segment that names something; the method is no part of it."""
    assert area_of(route) == area


def by_kernel(path: bytes = b"", route: bytes = b"", method: bytes = b"GET") -> tuple[str, bytes]:
    """Route text and identifiers as the kernel writes them."""
    rows = Rows.of(np.frombuffer(PAD, np.uint8), 1)
    extra = Extra(rows)
    for field, value in ((PATH, path), (ROUTE, route), (METHOD, method)):
        if value:
            extra.put(0, field, value)
    extra.close()
    text, identifiers = kernels.route_text(rows.buf, rows.cells[0])
    return text.decode(), identifiers


def number_by_kernel(path: bytes) -> int:
    """The last number of a path as the kernel finds it."""
    rows = Rows.of(np.frombuffer(PAD, np.uint8), 1)
    extra = Extra(rows)
    if path:
        extra.put(0, PATH, path)
    extra.close()
    out, none, keys = np.full(1, -1), np.zeros(1, np.uint64), np.zeros((2, 2), np.uint64)
    scratch = np.empty(kernels.SCRATCH_BYTES, np.uint8)
    kernels.hash_routes(rows.buf, rows.cells, rows.fault, keys, scratch, none, none, out)
    return int(out[0])


WORDS = st.sampled_from(
    [
        "api",
        "v1",
        "v12",
        "v123",
        "orders",
        "n7426",
        "n2",
        "a1b2c3d4e5",
        "12.json",
        "x:8080",
        "0042",
        "9007199254740992",
        ".",
        "",
    ]
)
SEGMENTS = st.one_of(
    WORDS,
    st.from_regex(r"[a-zA-Z0-9._~:;=%@{}-]{0,20}", fullmatch=True),
    st.from_regex(r"[a-fA-F0-9-]{6,36}", fullmatch=True),
    st.from_regex(
        r"[A-Za-z]{1,12}[0-9]{1,3}[A-Za-z]{0,12}[0-9]?(\.[a-z0-9]{1,6})?", fullmatch=True
    ),
    st.text(max_size=8),
)
PATHS = st.one_of(
    st.builds(
        lambda parts, query: "/" + "/".join(parts) + query,
        st.lists(SEGMENTS, max_size=16),
        st.from_regex(r"(\?([a-z0-9=&#%/;\x00]{0,20}|[0-9&]{0,40}))?", fullmatch=True),
    ).map(str.encode),
    st.from_regex(r"[a-z]{0,10}:/{0,2}[a-z./?#:]{0,20}", fullmatch=True).map(str.encode),
    st.binary(min_size=1, max_size=80),
)


@settings(max_examples=1000, deadline=None)
@given(PATHS)
@example(b"/" + b"a" * 9000)
@example(b"/1" * 5000)
@example(b"/a;" * 4000)
def test_kernel_equals_reference_for_paths(path):
    """Any bytes: the same template, the same identifiers, the same number."""
    if not path:
        return
    template, cut = path_template(path)
    assert by_kernel(path) == (f"GET {template}", cut)
    assert number_by_kernel(path) == last_number(cut)


@settings(max_examples=400, deadline=None)
@given(st.binary(min_size=1, max_size=300), st.binary(max_size=20))
def test_kernel_equals_reference_for_routes_and_methods(route, method):
    """Any bytes as a given route and a method; the path then only gives identifiers."""
    expected = f"{method_name(method)} {route_template(route)}"
    assert by_kernel(b"/orders/77", route, method) == (expected, b"77\0")


@settings(max_examples=300, deadline=None)
@given(PATHS)
def test_templates_are_harmless_and_bounded(path):
    """Whatever the log holds: printable ASCII, at most 260 bytes, 12 segments and a rest."""
    template, _ = path_template(path)
    assert template.isascii()
    assert template.isprintable()
    assert len(template) <= 260
    assert template.count("/") <= 13
