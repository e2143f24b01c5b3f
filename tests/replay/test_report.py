"""The report: valid, self-contained, complete, and inert whatever the log contains."""

import re
from html.parser import HTMLParser

import pytest

from detector.core.errors import UsageError
from replay.report import render_report, write_report

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = [
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "javascript:alert(1)",
    "</title></svg><a href=javascript:alert(1)>x</a>",
    "{{ 7*7 }}{% raw %}",
    "\x1b[31m\x00\u202egnp.exe",
    "<!--",
    "&lt;b&gt;",
    "]]>",
    "a" * 5000,
]
SUMMARY = {
    "lines": 1000,
    "accepted": 980,
    "no_key": 5,
    "rejected": {"not_json": 12, "bad_ts": 3},
    "keys": 42,
    "first_event": "2026-03-02T00:00:00Z",
    "last_event": "2026-03-16T12:00:00Z",
    "events_per_s": 250000.0,
    "bytes_per_key": 9000.0,
}


def episode(number=1, text="key_1", alerted=True, **changed):
    record = {
        "alert_id": f"{number:020x}",
        "key": text,
        "owner": text,
        "channel": "stolen",
        "severity": "high",
        "state": "closed",
        "opened_at": "2026-03-16T10:00:00Z",
        "first_suspicious_at": "2026-03-16T10:00:00Z",
        "peak_at": "2026-03-16T10:20:00Z",
        "last_seen_at": "2026-03-16T10:30:00Z",
        "closed_at": None,
        "alerted_at": "2026-03-16T10:10:00Z" if alerted else None,
        "score": 12.5,
        "threshold": 9.0,
        "return_period_days": 30.0,
        "reasons": [{"signal": text, "nats": 6.5, "observed": 9.0, "expected": 0.01, "text": text}],
        "actor": {
            "network": text,
            "client": text,
            "first_seen": "2026-03-16T10:00:00Z",
            "requests": 9,
        },
        "requests_leaked": 31,
        "bytes_leaked": 54321,
        "action": "revoke",
        "simulated": True,
        "credential": {},
        "curve": [
            ["2026-03-16T10:00:00Z", 3.5, 1, 100],
            ["2026-03-16T10:10:00Z", 9.5, 31, 54321],
            ["2026-03-16T10:20:00Z", 12.5, 60, 99999],
        ],
        "normal": [f"normal: {text}"],
        "silenced_by": {"signals": ["new_network"], "score": 1.0, "text": f"Without: {text}"},
        "owner_carries_on": {"requests": 4, "expected": 3.0, "turns": 0, "text": f"own: {text}"},
        "references": [{"framework": "MITRE ATT&CK", "id": "T1119", "name": text}],
        "action_reason": f"because {text}",
    }
    return record | changed


class Page(HTMLParser):
    """Tags, attributes and text, with a check that elements are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.faults: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> out of order")

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


REPORTS = {
    "alerts": ([episode(1), episode(2, channel="abused", actor=None, alerted=False)], None),
    "quiet": ([episode(1, alerted=False)], None),
    "nothing": ([], None),
    "no curve": ([episode(1, curve=[], reasons=[], owner=None, return_period_days=None)], None),
    "many": ([episode(i, f"key_{i}", alerted=i < 300) for i in range(400)], None),
}


@pytest.mark.parametrize("name", REPORTS)
def test_is_well_formed_and_self_contained(name):
    """Every element is closed in order; no script, no reference to anything outside."""
    episodes, alerts = REPORTS[name]
    html = render_report(SUMMARY, episodes, alerts)
    page = Page(html)
    assert page.faults == []
    assert html.startswith("<!DOCTYPE html>")
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "link", "object", "embed", "base", "form", "a"}
        assert not {"src", "href", "xlink:href", "action", "srcset"} & set(attributes)
        assert not any(a.startswith("on") for a in attributes)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "url(" not in html
    assert "@import" not in html
    assert "//" not in html.replace("<!DOCTYPE", "")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_inert_everywhere(text):
    """Log text in any field adds no element and no attribute, and control characters are gone."""
    plain = render_report(SUMMARY, [episode(1, "key"), episode(2, "key", alerted=False)])
    hostile = [
        episode(1, text, severity=text, channel=text, action=text),
        episode(2, text, alerted=False, channel=text),
    ]
    summary = SUMMARY | {"rejected": {text: 3}, "inputs": [text], "notes": [text]}
    html = render_report(summary, hostile, title=text)
    page = Page(html)
    assert page.faults == []
    allowed = {tag for tag, _ in Page(plain).tags} | {"p", "bdi"}
    assert {tag for tag, _ in page.tags} <= allowed
    names = {name for _, attributes in page.tags for name in attributes}
    assert not any(name.startswith("on") for name in names)
    assert names <= {name for _, attributes in Page(plain).tags for name in attributes}
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)
    assert "49" not in "".join(page.text) if "7*7" in text else True
    assert len(html) < 120_000


def test_says_what_happened():
    """Key, verdict, reasons usual and now, source, leak, rarity and action are all there."""
    html = render_report(SUMMARY, [episode(1)], [episode(1, requests_leaked=7)])
    words = Page(html).words()
    for part in (
        "1 alert on 1 key",
        "looks stolen",
        "0.01",
        "7 suspicious requests",
        "by the end of the episode it was 31",
        "about once in 30 days on this fleet",
        "Revoke the key",
        "because key_1",
        "Stayed normal normal: key_1",
        "The owner meanwhile own: key_1",
        "What would have silenced it Without: key_1",
        "Read on: T1119 key_1",
        "Simulated, nothing was sent",
        "980",
        "not json",
        "of 1,000 lines",
    ):
        assert part in words, part


def test_quiet_report_says_so():
    """Without alerts the first line is calm, and what came closest is listed."""
    words = Page(render_report(SUMMARY, [episode(1, alerted=False)])).words()
    assert "Quiet: no key looked stolen or abused" in words
    assert "Suspicious, but no alert" in words
    assert "Alerts by time" not in words


@pytest.mark.parametrize(
    ("accepted", "failed", "is_said"),
    [
        (980, 9, False),
        (980, 10, True),
        (1_000_000, 100, False),
        (1_000_000, 101, True),
        (0, 0, False),
    ],
)
def test_many_failed_authentications_are_said_at_the_top(accepted, failed, is_said):
    """Over 1 % of the events or over 100: such a log is not headlined as merely quiet."""
    summary = SUMMARY | {"accepted": accepted, "no_key": 5 if accepted else 0}
    html = render_report(summary | {"auth_failed": failed}, [])
    words, said = Page(html).words(), f"{failed} requests failed authentication; keywatch does"
    assert (said in words) == is_said
    assert ("Quiet" in words) == (not is_said)
    assert ('<h1 class="quiet">' in html) == (not is_said)
    alerted = Page(render_report(summary | {"auth_failed": failed}, [episode(1)])).words()
    assert "1 alert on 1 key" in alerted
    assert (said in alerted) == is_said


def test_data_quality_tells_of_failed_and_late_events():
    """Both are part of the events of a key, and are there also when they are none."""
    summary = SUMMARY | {"auth_failed": 7, "late": 42}
    words = Page(render_report(summary, [])).words()
    assert "of these, authentication failed 7 0.70 %" in words
    assert "of these, too late to be scored 42 4.20 %" in words
    assert "too late to be scored 0 0.00 %" in Page(render_report(SUMMARY, [])).words()


def legend(html: str) -> list[str]:
    part = re.search(r'<ul class="legend".*?</ul>', html, re.DOTALL)
    return re.findall(r"[a-z]+", " ".join(Page(part[0]).text)) if part else []


def test_the_timelines_legend_lists_what_is_drawn():
    """Bars have the severity of the episode's end, which may be above that of the alert."""
    final, alert = episode(1, severity="critical"), episode(1, severity="medium")
    assert legend(render_report(SUMMARY, [final], [alert])) == ["critical", "stolen"]
    other = episode(2, "k2", severity="low", channel="abused")
    both = [final, other]
    assert legend(render_report(SUMMARY, both)) == ["critical", "low", "stolen", "abused"]
    quiet = [episode(1, severity="info", alerted=False)]
    assert legend(render_report(SUMMARY, quiet)) == ["info"]


def test_state_per_key_is_shown_for_many_keys_only():
    """A tiny log's few keys share tables that are allocated ahead."""
    few = Page(render_report(SUMMARY | {"keys": 999}, [])).words()
    assert "of state each" not in few
    many = Page(render_report(SUMMARY | {"keys": 1000}, [])).words()
    assert "9.0 kB of state each" in many


def test_one_is_singular():
    """No "1 requests", wherever a count may be one."""
    curve = [["2026-03-16T10:00:00Z", 9.5, 1, 100]]
    actor = {"network": "n", "client": "c", "first_seen": None, "requests": 1}
    one = {"requests_leaked": 1, "curve": curve, "actor": actor, "return_period_days": 0.9}
    others = [episode(i, f"k{i}", alerted=False) for i in range(2, 28)]
    counts = {"lines": 1, "accepted": 1, "no_key": 0, "rejected": {}, "keys": 1, "auth_failed": 1}
    reports = [
        render_report(SUMMARY | counts, [episode(1, **one), *others]),
        render_report(SUMMARY | counts, [episode(i, f"k{i}", **one) for i in range(41)]),
        render_report(SUMMARY | counts, [episode(i, **one) for i in range(201)]),
        render_report(SUMMARY | counts, []),
    ]
    nouns = "request|alert|key|episode|line|event|time"
    for html in reports:
        assert re.findall(rf"(?<![\d,.])1 (?:more |suspicious )*(?:{nouns})s\b", html) == []
    assert "1 more episode is in episodes.ndjson" in reports[0]
    assert "1 request failed authentication; keywatch does not hold it against" in reports[3]


def test_drawings_have_text_alternatives():
    """Each drawing that carries meaning has a name for those who cannot see it."""
    page = Page(render_report(SUMMARY, [episode(1)]))
    drawings = [a for tag, a in page.tags if tag == "svg"]
    assert len(drawings) >= 2
    for attributes in drawings:
        assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_works_from_an_empty_summary():
    """A summary without any figure (an empty log) still gives a report."""
    assert "Quiet" in Page(render_report({}, [])).words()


def test_cut_lists_say_how_much_is_missing():
    """No silent truncation: what is not shown is counted."""
    episodes, _ = REPORTS["many"]
    words = Page(render_report(SUMMARY, episodes)).words()
    assert "100 more alerts are in alerts.ndjson" in words
    assert "75 more episodes are in episodes.ndjson" in words
    assert "260 more keys are in episodes.ndjson" in words


def test_writes_the_file_or_says_why_not(tmp_path):
    """The file holds the page; an unwritable place is one sentence."""
    write_report(tmp_path / "report.html", SUMMARY, [episode(1)])
    assert Page((tmp_path / "report.html").read_text()).faults == []
    with pytest.raises(UsageError, match="cannot write"):
        write_report(tmp_path / "none" / "report.html", SUMMARY, [])
