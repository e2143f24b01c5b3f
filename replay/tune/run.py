"""``keywatch tune fit``: from logs to weights, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.config import Config
from detector.core.episodes import CHANNELS
from detector.core.errors import UsageError
from detector.core.settings import ShardSettings
from detector.registry import configured_registry
from models.clock import DAY_US
from models.families import FAMILIES
from replay.merge import LATENESS_S, open_inputs
from replay.simulate.randomness import stream
from replay.tune.abuse import abuses
from replay.tune.collect import collect
from replay.tune.fit import STRENGTH
from replay.tune.injection import KINDS, LATER_PART
from replay.tune.judge import RATES, Judgement, judge
from replay.tune.log import Log, Say, read_log
from replay.tune.splice import splices

KEYS_MIN, SPLICES_MIN = 20, 50
ATTACKS_MIN, ATTACKS_MAX, KEYS_PER_ATTACK = 60, 300, 1
_SPLICES, _ABUSES, _COPIES, _RESAMPLES = range(4)

COLD_US = 3 * DAY_US
SHORT_NOTE = (
    "the log is shorter than three days: every key in it is new, so weights fitted to it may"
    " not suit a fleet that is known"
)


@dataclass(frozen=True, slots=True)
class Report:
    """Judgements by channel, and the log they come from.

    ``key_days`` are those in which clean scores were compared, ``per_week`` how many the whole
    fleet has in a week.
    """

    keys: int
    events: int
    days: float
    share: float
    key_days: int
    per_week: float
    seed: int
    judgements: tuple[Judgement, ...]

    @property
    def improved(self) -> tuple[Judgement, ...]:
        """Channels whose fitted weights are better than the shipped ones."""
        return tuple(j for j in self.judgements if not j.reason)

    def alerts_per_week(self) -> tuple[float, ...]:
        """What each of ``RATES`` means for the whole fleet."""
        return tuple(rate * self.per_week / 1000 for rate in RATES)


def fit_logs(
    paths: Sequence[Path],
    config: Config,
    settings: ShardSettings,
    *,
    input_format: str = "auto",
    seed: int = 1,
    strength: float = STRENGTH,
    lateness_s: float = LATENESS_S,
    say: Say = lambda _: None,
) -> Report:
    """Fits fusion weights to log files, which are taken to be clean.

    The same files, configuration and seed give the same weights. Raises ``UsageError`` for
    inputs that cannot be read, or are too small.
    """
    log = read_log(
        open_inputs(paths),
        config,
        configured_registry(config),
        input_format=input_format,
        lateness_s=lateness_s,
        say=say,
    )
    return fit_log(log, settings, seed, strength, say)


def fit_log(
    log: Log,
    settings: ShardSettings,
    seed: int = 1,
    strength: float = STRENGTH,
    say: Say = lambda _: None,
) -> Report:
    """Fits fusion weights to a log. Raises ``UsageError`` for one that is too small."""
    if log.n_keys < KEYS_MIN:
        raise UsageError(f"the log has {log.n_keys} keys; fitting weights needs {KEYS_MIN}")
    count = min(ATTACKS_MAX, max(ATTACKS_MIN, log.n_keys // KEYS_PER_ATTACK))
    thefts = splices(log, count, stream(seed, _SPLICES))
    if len(thefts) < SPLICES_MIN:
        raise UsageError(
            f"only {len(thefts)} thefts could be made from the log; fitting weights needs"
            f" {SPLICES_MIN}: use a longer log, or one of more keys"
        )
    attacks = [*thefts, *abuses(log, count, stream(seed, _ABUSES))]
    say(f"{len(log.events):,} events of {log.n_keys:,} keys, {len(attacks)} attacks made of them")
    if log.span_us < COLD_US:
        say(SHORT_NOTE)
    from_us = log.at_us(LATER_PART)
    collected = collect(log, attacks, settings, stream(seed, _COPIES), from_us)
    key_days = log.key_days(from_us)
    judgements = []
    for channel in KINDS:
        say(f"fitting {CHANNELS[channel]}")
        weights, rng = settings.channels[channel].weights, stream(seed, _RESAMPLES, channel)
        judgements.append(judge(channel, collected, attacks, weights, key_days, strength, rng))
    later_days = (1 - LATER_PART) * log.span_us / DAY_US
    return Report(
        keys=log.n_keys,
        events=len(log.events),
        days=log.span_us / DAY_US,
        share=log.share,
        key_days=key_days,
        per_week=key_days / max(later_days, 1e-9) * 7 / log.share,
        seed=seed,
        judgements=tuple(judgements),
    )


def toml_of(report: Report) -> str:
    """The channels that improved, to be put into the configuration; empty when none did."""
    log = f"{report.events:,} events of {report.keys:,} keys in {report.days:.1f} days"
    lines = [f"# Fitted by keywatch tune fit --seed {report.seed} to {log}."]
    for judgement in report.improved:
        lines += ["", f"[detection.weights.{judgement.channel}]"]
        lines += [f"{f} = {w:g}" for f, w in zip(FAMILIES, judgement.weights, strict=True)]
    return "\n".join(lines) + "\n" if report.improved else ""


def record_of(report: Report) -> dict[str, Any]:
    """The report as one JSON object."""
    return {
        "keys": report.keys,
        "events": report.events,
        "days": round(report.days, 3),
        "sampled_share": report.share,
        "key_days": report.key_days,
        "false_alerts_per_1000_key_days": list(RATES),
        "false_alerts_per_week": [round(n, 2) for n in report.alerts_per_week()],
        "channels": {j.channel: _channel_record(j) for j in report.judgements},
    }


def _channel_record(judgement: Judgement) -> dict[str, Any]:
    found = {
        f.kind: {
            "attacks": f.attacks,
            "found_before": [round(share, 3) for share in f.before],
            "found_after": [round(share, 3) for share in f.after],
        }
        for f in judgement.found
    }
    return {
        "improved": not judgement.reason,
        "reason": judgement.reason or None,
        "gain": round(judgement.gain, 4),
        "gain_standard_error": round(judgement.error, 4),
        "weights": dict(zip(FAMILIES, judgement.weights, strict=True)),
        "found": found,
    }
