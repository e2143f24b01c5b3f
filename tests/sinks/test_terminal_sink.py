"""The terminal shows an alert a person can act on, and nothing from a log can steer it."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from detector.core.episodes import (
    ACTIONS,
    CHANNELS,
    SEVERITIES,
    Actor,
    OwnerTraffic,
    Reason,
    Silencer,
)
from detector.core.errors import DeliveryError
from detector.sinks.terminal import TerminalSink
from tests.sinks.sample import make_alert
from tests.sinks.test_safe_text import HOSTILE


def shown(alert, **options) -> str:
    out = io.StringIO()
    TerminalSink(Console(file=out, width=100, **options)).deliver(alert)
    return out.getvalue()


def test_an_alert_names_key_reasons_source_and_what_to_do():
    """The figures a person needs at night are there."""
    text = shown(make_alert())
    for part in (
        "HIGH: API key looks stolen",
        "acme_billing",
        "owner Acme Billing",
        "score 42.1 (alerts from 18.0)",
        "once in 90 days",
        "310 requests, 5.2 MB leaked",
        "new network",
        "now 310, usually 0.25",
        "= normal, errors: none of 1,240 requests",
        "203.0.113.0/24 with curl 8",
        "owner: the key's own sources carry on: 40 requests",
        "what if: Without the new network it would score 9.6.",
        "The owner is at work beside it.",
        "T1550.001, T1078.004, API2:2023",
        "Suspend the key now",
        "revocation is simulated",
    ):
        assert part in text


@pytest.mark.parametrize("hostile", [*HOSTILE, "[bold red]x[/]", "[link=http://evil]x[/link]"])
def test_log_text_cannot_steer_the_terminal(hostile):
    """No control byte but our own styles' gets through, and rich mark-up stays text."""
    alert = make_alert(
        key=hostile,
        owner=hostile,
        reasons=(Reason("new_network", 1.0, 2.0, 3.0, hostile),),
        actor=Actor(hostile, hostile, 1, 2),
        normal=(hostile,),
        silenced_by=Silencer(("new_network",), 1.0, hostile),
        owner_carries_on=OwnerTraffic(1, 1.0, 1, hostile),
        action_reason=hostile,
    )
    coloured = shown(alert, force_terminal=True, color_system="standard")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert all(c == "\n" or (c.isprintable() and c < "\U000e0000") for c in plain)
    assert len(plain.splitlines()) == len(shown(make_alert(reasons=())).splitlines()) + 1
    if hostile.startswith("["):
        assert hostile in plain


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("channel", CHANNELS)
def test_every_severity_channel_and_action_has_words(severity, channel):
    """No combination of the contract is left without a sentence."""
    for action in ACTIONS:
        text = shown(make_alert(severity=severity, channel=channel, action=action))
        assert severity.upper() in text
        assert "->" in text


def test_missing_owner_actor_and_history_are_fine():
    """Optional fields may be null."""
    text = shown(make_alert(owner=None, actor=None, return_period_days=None, reasons=()))
    assert "too little history" in text


def test_a_closed_terminal_is_a_dead_letter():
    """Nobody reads any more: no retry."""

    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(DeliveryError) as caught:
        TerminalSink(Console(file=Closed())).deliver(make_alert())
    assert not caught.value.retriable


def test_a_terminal_that_knows_only_ascii_gets_escapes():
    """No alert is lost to an encoding."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    TerminalSink(Console(file=file, width=100)).deliver(make_alert(owner="M\u00fcller"))
    assert b"M\\xfcller" in raw.getvalue()


def test_a_recommendation_to_limit_a_rate_accuses_nobody():
    """Its own headline, and what to do, in words."""
    text = shown(make_alert(channel="throttle", severity="low", action="throttle"))
    assert "LOW: API key is used much more than usual" in text
    assert "Limit the key's request rate" in text


def test_the_owners_traffic_is_said_once():
    """Where it is a reason already, the line about the owner is left out."""
    text = "the key's own sources carry on beside it: 40 requests since it came, 38 expected"
    reasons = (Reason("additive", 2.0, 40.0, 38.0, text),)
    owner = OwnerTraffic(40, 38.0, 0, text)
    said = shown(make_alert(reasons=reasons, owner_carries_on=owner))
    assert said.count("38 expected") == 1
