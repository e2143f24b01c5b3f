"""The Slack message is readable at 3 a.m., within Slack's limits, and inert."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.episodes import (
    ACTIONS,
    CHANNELS,
    SEVERITIES,
    Actor,
    OwnerTraffic,
    Reason,
    Silencer,
)
from detector.safe_text import is_unsafe
from detector.sinks.slack.render import HEADER_MAX, SECTION_MAX, TOTAL_MAX, inert, render
from tests.sinks.sample import make_alert

INJECTIONS = [
    "<!channel>",
    "<!here|here>",
    "<!everyone>",
    "<@U1>",
    "<#C1|general>",
    "<http://x|bank>",
    "<mailto:a@b.test|mail>",
    "<!date^0^{date}|x>",
    "<!subteam^S1>",
    "&lt;!here&gt;",
    "&amp;lt;!here&amp;gt;",
    "```code```",
    "`code`",
    "*bold* _it_ ~strike~",
    "> quote",
    ":rotating_light:",
    "https://evil.test/login",
    "fe80::1%<!channel>",
    "a\u202egnp.exe",
    "zero\u200bwidth\u2060\ufeff",
    "line\nbreak\r\n\x85\u2028",
    "\x1b[31mred\x07",
    "lone\ud800",
    '{"type":"mrkdwn"}',
    "${jndi:ldap://x}",
    "@channel @here",
    "x" * 1_000_000,
    "<" * 1_000_000,
    "&" * 500,
    "\U0001f600" * 400,
]


def hostile_alert(text: str) -> dict[str, Any]:
    return make_alert(
        key=text,
        owner=text,
        reasons=tuple(Reason("new_network", 9.0, 2.0, 0.5, text) for _ in range(5)),
        actor=Actor(text, text, 1, 2),
        credential=((text, text),),
        normal=(text,) * 5,
        silenced_by=Silencer(("new_network",), 1.0, text),
        owner_carries_on=OwnerTraffic(1, 1.0, 1, text),
        action_reason=text,
    )


def texts_of(node: Any) -> list[dict[str, Any]]:
    """All text objects of a message."""
    if isinstance(node, list):
        return [t for item in node for t in texts_of(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if isinstance(node.get("text"), str) else []
    return own + [t for value in node.values() for t in texts_of(value)]


def check(message: dict[str, Any]) -> None:
    """Slack's limits, and nothing in the message that Slack would parse."""
    blocks = message["blocks"]
    assert len(blocks) <= 50
    assert sum(len(t["text"]) for t in texts_of(blocks)) <= TOTAL_MAX
    assert len(json.dumps(blocks, ensure_ascii=False)) <= TOTAL_MAX
    assert len(message["text"]) <= 1000
    for block in blocks:
        assert block["type"] in {"header", "section", "context"}
        if block["type"] == "header":
            assert len(block["text"]["text"]) <= HEADER_MAX
        assert len(block.get("fields", [])) <= 10
        assert len(block.get("elements", [])) <= 10
        assert len(block.get("text", {}).get("text", "")) <= SECTION_MAX
    for text in texts_of(blocks):
        assert set(text) == {"type", "text", "emoji"}
        assert text["type"] == "plain_text"
        assert text["emoji"] is False
    for text in [message["text"], *(t["text"] for t in texts_of(blocks))]:
        assert "<" not in text
        assert ">" not in text
        assert "://" not in text
        assert not any(is_unsafe(c) for c in text if c != "\n")
        bare = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
        assert "&" not in bare
    json.dumps(message).encode("utf-8")


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
def test_no_log_text_makes_a_mention_a_link_or_formatting(text):
    """Every field an attacker can write is inert, in the blocks and in the notification."""
    check(render(hostile_alert(text)))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=400))
def test_any_text_keeps_the_message_inert_and_within_limits(text):
    """Whatever the log says."""
    check(render(hostile_alert(text)))


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
def test_inert_text_is_at_most_200_characters_after_escaping(text):
    """An escape is never cut in two, and the text is escaped exactly once."""
    shown = inert(text)
    assert len(shown) <= 200
    if len(text) < 50 and text.isascii() and text.isprintable() and "://" not in text:
        unescaped = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        assert unescaped == text


def test_a_line_break_in_a_log_cannot_forge_a_line_of_the_message():
    """Only our own line ends are in the message."""
    benign, forged = render(hostile_alert("a b")), render(hostile_alert("a\nb"))
    assert benign == forged


def test_the_message_says_what_a_tired_engineer_needs():
    """Key, owner, severity, usual beside now, what is normal, leak, rarity, action, id, times."""
    message = render(make_alert())
    text = "\n".join(t["text"] for t in texts_of(message["blocks"]))
    for part in (
        "HIGH: API key looks stolen - acme_billing",
        "Owner\nAcme Billing",
        "Score\n42.1 (alerts from 18.0)",
        "How rare\nabout once in 90 days on this fleet",
        "Requests leaked\n310",
        "Data leaked\n5.2 MB",
        "- new network: 310 requests from 203.0.113.0/24, never seen (now 310, usually 0.25)",
        "Stayed normal\n- errors: none of 1,240 requests",
        "- the key's own sources carry on: 40 requests",
        "What would have silenced it\n- Without the new network it would score 9.6.",
        "- The owner is at work beside it.",
        "T1550.001, T1078.004, API2:2023",
        "203.0.113.0/24 with curl 8",
        "Suspend the key now and call its owner",
        "alert 00000000000000000000",
        "alerted 2026-09-21 14:13:20 UTC",
        "revocation is simulated",
    ):
        assert part in text
    assert message["text"].startswith("HIGH: API key looks stolen: acme_billing of Acme Billing")
    assert "4 routes" not in text  # three reasons are enough


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_kind_of_alert_renders(severity, channel, action):
    """Optional fields may be missing in any combination of the contract."""
    check(render(make_alert(severity=severity, channel=channel, action=action)))
    check(
        render(
            make_alert(
                severity=severity, owner=None, actor=None, reasons=(), return_period_days=None
            )
        )
    )


def test_an_alert_of_before_has_no_explanation_and_renders():
    """A journal may hold alerts without the newer fields."""
    alert = make_alert()
    for field in ("normal", "silenced_by", "owner_carries_on", "references", "action_reason"):
        del alert[field]
    check(render(alert))


def test_the_message_fits_a_phone():
    """Three reasons and three sentences on what is normal at most, some 25 lines in all."""
    message = render(make_alert(normal=tuple(f"sentence {i}" for i in range(5))))
    lines = [x for t in texts_of(message["blocks"]) for x in t["text"].splitlines()]
    assert "- sentence 2" in lines
    assert "- sentence 3" not in lines
    assert len(lines) <= 36


def test_a_log_text_that_is_only_invisible_leaves_a_readable_message():
    """A key without a visible character is still shown as such."""
    message = render(make_alert(key="\u200b\u202e"))
    assert "Key\n(unprintable)" in [f["text"] for f in message["blocks"][1]["fields"]]
