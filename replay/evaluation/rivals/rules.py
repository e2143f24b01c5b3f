"""Rivals that are rules: something was never seen before."""

from __future__ import annotations

from replay.evaluation.points import Series
from replay.evaluation.rivals.windows import WindowTable

REQUESTS_FLOOR = 1.0


def first_seen_network(table: WindowTable) -> Series:
    """Requests of a key from one network in the first 24 hours after the key's first from it.

    The rule "alert on a new address" (Elastic SIEM *new terms*, Datadog *new value*, Netflix's
    credential lock), with the /24 or /48 for the address and the requests made from there to
    rank by, since the bare rule has no threshold. Known as soon as the request is made. Not in
    a key's first day (Datadog lets one learn for 0, 1 or 7 days); what was once seen stays
    known, the kindest choice within the weeks of an evaluation. Counts above 32 are told in
    sixteenths of a power of two.
    """
    return table.notes("network_notes", REQUESTS_FLOOR)


def first_seen_source(table: WindowTable) -> Series:
    """Requests of a key with a client and from a block both first seen in the last 24 hours.

    The rule "new provider and new program together": /16 or /32 for the provider. Counted per
    client, so that one who changes address with every request is counted whole. Otherwise
    as ``first_seen_network``.
    """
    return table.notes("source_notes", 0.0)


def access_risk(table: WindowTable) -> Series:
    """Log of the risk of a visit in risk-based authentication, where it is above 1.

    Freeman et al., *Who are you? A statistical approach to measuring user authenticity*
    (NDSS 2016), equation 7 without attack data, in the form of das-group/rba-algorithm:
    per feature, how much likelier its value is for anybody than for this key,

        sum over levels of weight x p(value)  /  sum over levels of weight x p(value | key),

    the product over features, times (1 / keys) / (visits of the key / visits of all). Features:
    address (levels network and block; weights 0.6 and 0.3 there, scaled to 1 without the
    country) and client. Everybody's share at the first level is smoothed for unseen values.
    A visit, the first request of a source in 15 minutes, stands for their log-in. Known at that
    request; learned after scoring; nothing is forgotten, as there.

    Two things are tuned, and found several times as much: a value new to the key gets the
    lesser of that repository's p(value) / 4 and of 1 / (visits + 1), so what is new to the key
    but usual elsewhere is riskier (of 2 to 100 for the 4, and of each alone); and the last
    factor, by which a rarely used key is always risky, has the exponent 0.1 (of 0 to 1).
    """
    return table.notes("risk_notes", 0.0)
