"""Replay: the live engine over historical logs, in event-time order, never sending anything."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from detector.config import Config
from detector.core.episodes import ABUSED, CHANNELS, STOLEN, Episode, rfc3339
from detector.core.errors import UsageError
from detector.core.events import EventBatch
from detector.core.fleet import LOWEST, FleetStage
from detector.core.shard import Shard, state_digest
from detector.decode import DeadLetterFile, DecodeSettings, make_decoder
from detector.detection_settings import shard_settings
from detector.registry import configured_registry
from replay.agenda import Agenda, read_wishes
from replay.engine import END_US, Engine
from replay.evaluate import judge_alerts, rank_keys
from replay.labels import Label, read_labels
from replay.merge import LATENESS_S, ROWS_PER_BLOCK, InputFile, merge_batches, open_inputs
from replay.progress import Progress
from replay.secrets import ReplaySecrets

REJECTED_FILE = "rejected.ndjson"
SHIPPED_NOTE = (
    "Shipped thresholds were used, with a cap of {0:g} alerts a week times 1.2: thresholds"
    " that follow your own traffic need a week of it."
)
SHORT_NOTE = "The log is shorter than three days: every key is new, and little is known of each."
HELD_BACK_NOTE = (
    "{0} episodes crossed the threshold and were held back by the cap; they are in episodes.ndjson."
)


@dataclass(slots=True)
class Tally:
    """Where every line went: lines = accepted + no_key + rejected.

    A message that holds an array of events counts as that many lines, and once in
    ``messages``.
    """

    messages: int = 0
    lines: int = 0
    accepted: int = 0
    no_key: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    raw_keys: int = 0
    first_us: int = END_US
    notices: list[Episode] = field(default_factory=list)  # about no single key
    last_us: int = 0


def replay_files(
    paths: Sequence[Path],
    out: Path,
    config: Config,
    *,
    input_format: str = "auto",
    shards: int = 1,
    state: Path | None = None,
    labels: Path | None = None,
    verdicts: Path | None = None,
    lateness_s: float = LATENESS_S,
    progress: bool = False,
) -> dict[str, Any]:
    """Scores log files and writes alerts, episodes, summary and report into ``out``.

    ``verdicts`` names a file of what people said and when (``replay.agenda``).

    Returns the content of ``summary.json``. The same files and configuration give the same
    alerts and episodes byte for byte, for any number of shards. Raises ``UsageError`` for
    inputs that cannot be read or that go back in time by more than ``lateness_s``.
    """
    inputs = open_inputs(paths)
    known = read_labels(labels) if labels is not None else []
    wishes = read_wishes(verdicts) if verdicts is not None else []
    _make_folder(out)
    secrets = ReplaySecrets.of(config, out)
    engine = _engine(config, shards)
    engine.agenda = Agenda(wishes)
    tally, began_s = Tally(), time.perf_counter()
    with (
        Progress(inputs, enabled=progress) as bar,
        DeadLetterFile(out / REJECTED_FILE, config.decode.dead_letter_records_max) as letters,
    ):
        settings = secrets.decode_settings(config)
        streams = [_decoded(f, input_format, settings, tally, letters) for f in inputs]
        names = [str(f.path) for f in inputs]
        for batch in merge_batches(streams, int(lateness_s * 1e6), ROWS_PER_BLOCK, names):
            engine.fold(batch)
            bar.update(tally.lines, len(engine.alerts))
    episodes = engine.finish()
    elapsed_s = time.perf_counter() - began_s
    summary = _summary(tally, engine, episodes, elapsed_s)
    summary["inputs"] = [f.path.name for f in inputs]
    summary["damaged"] = [f.damage for f in inputs if f.damage]
    summary["notes"] = _notes(config, engine, inputs, summary) + secrets.notes(tally.raw_keys)
    summary["evaluation"] = _evaluation(engine, episodes, known) if known else None
    if state is not None:
        _save_state(state, engine)
    _write(out, engine, episodes, summary)
    return summary


def _engine(config: Config, shards: int) -> Engine:
    registry, settings = configured_registry(config), shard_settings(config)
    fleet = FleetStage(
        config.detection.false_alerts_per_week,
        throttles_per_week=config.detection.throttles_per_week,
        settings=settings,
        lowest=LOWEST,
    )
    return Engine([Shard(settings, registry) for _ in range(shards)], fleet)


def _decoded(
    file: InputFile,
    input_format: str,
    settings: DecodeSettings,
    tally: Tally,
    letters: DeadLetterFile,
) -> Iterator[EventBatch]:
    decoder = make_decoder(input_format, settings)  # type: ignore[arg-type]
    for records in file.blocks():
        decoded = decoder.decode(records)
        tally.messages += len(records)
        tally.lines += len(decoded.batch) + len(decoded.rejected)
        tally.accepted += len(decoded.batch) - decoded.no_key
        tally.no_key += decoded.no_key
        tally.rejected.update(r.reason for r in decoded.rejected)
        letters.append(decoded.rejected)
        _note_times(tally, decoded.batch)
        yield decoded.batch
    tally.raw_keys += decoder.maker.raw_keys


def _note_times(tally: Tally, batch: EventBatch) -> None:
    if len(batch):
        tally.first_us = min(tally.first_us, int(batch.ts_us.min()))
        tally.last_us = max(tally.last_us, int(batch.ts_us.max()))


def _summary(
    tally: Tally, engine: Engine, episodes: Sequence[Episode], elapsed_s: float
) -> dict[str, Any]:
    keys = sum(s.n_keys for s in engine.shards)
    counters: Counter[str] = Counter()
    for shard in engine.shards:
        counters.update(shard.counters)
    span_us = max(0, tally.last_us - tally.first_us)
    statistical = [a for a in engine.alerts if not a.is_hard]
    limits = engine.shards[0].settings
    return {
        "messages": tally.messages,
        "lines": tally.lines,
        "accepted": tally.accepted,
        "no_key": tally.no_key,
        "rejected": dict(sorted(tally.rejected.items())),
        "keys": keys,
        "alerts": {
            CHANNELS[c]: sum(a.channel == CHANNELS[c] and a.key != "*" for a in statistical)
            for c in (STOLEN, ABUSED)
        },
        "notices": engine.fleet.notices,
        "throttles": len(engine.throttles),
        "verdicts": engine.told(),
        "silences": {
            "told": engine.fleet.silences.told,
            "collapsed": engine.fleet.silences.collapsed,
            "notices": engine.fleet.silences.notices,
        },
        "hard_alerts": len(engine.alerts) - len(statistical),
        "held_back": engine.fleet.held_back,
        "collapsed": engine.fleet.collapsed,
        "episodes": len(episodes),
        "heirs": {"with_baseline": counters["heirs"], "blank": counters["heirs_blank"]},
        "late": counters["late"],
        "auth_failed": counters["auth_failed"],
        "first_event": rfc3339(tally.first_us) if tally.last_us else None,
        "last_event": rfc3339(tally.last_us) if tally.last_us else None,
        "span_days": round(span_us / 86_400e6, 3),
        "thresholds": {
            name: round(in_force if in_force is not None else limits.channels[c].threshold, 3)
            for c, (name, in_force) in enumerate(engine.fleet.thresholds.items())
        },
        "events_per_s": round(tally.lines / max(elapsed_s, 1e-9)),
        "bytes_per_key": round(sum(s.nbytes for s in engine.shards) / max(1, keys)),
        "state_digest": state_digest(engine.shards),
    }


def _notes(
    config: Config, engine: Engine, inputs: Sequence[InputFile], summary: dict[str, Any]
) -> list[str]:
    n = config.detection.false_alerts_per_week
    in_force = engine.fleet.thresholds
    shipped = all(in_force[CHANNELS[c]] is None for c in (STOLEN, ABUSED))
    notes = [SHIPPED_NOTE.format(n)] if shipped else []
    if summary["span_days"] < 3:
        notes.append(SHORT_NOTE)
    if engine.fleet.held_back:
        notes.append(HELD_BACK_NOTE.format(engine.fleet.held_back))
    return notes + [f.damage for f in inputs if f.damage]


def _evaluation(
    engine: Engine, episodes: Sequence[Episode], labels: Sequence[Label]
) -> dict[str, Any]:
    judged = judge_alerts([a.to_record() for a in engine.alerts], labels)
    ranking = rank_keys([e.to_record() for e in episodes], engine.requests(), labels)
    return {
        "attacks": len(judged.attacks),
        "caught": judged.caught,
        "false_alerts": len(judged.false_alerts),
        "requests_leaked": [a.leaked for a in judged.attacks],
        "ranking": {
            "found": ranking.found,
            "victims": ranking.victims,
            "clean_keys": ranking.clean_keys,
            "clean_above_max": ranking.clean_above_max,
            "found_strict": ranking.found_strict,
        },
    }


def _save_state(folder: Path, engine: Engine) -> None:
    from detector.stores.local import LocalStore
    from detector.stores.snapshots import SnapshotStore

    with LocalStore(folder) as store:
        snapshots = SnapshotStore(store, kept=3)
        for i, shard in enumerate(engine.shards):
            snapshots.save(f"replay-{i}", shard.n_events, shard.to_state())


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / REJECTED_FILE).unlink(missing_ok=True)
        (out / REJECTED_FILE).touch(0o600)  # fails now, not after hours of reading
    except OSError as e:
        raise UsageError(f"cannot write to {out}: {e.strerror}") from e


def _write(
    out: Path,
    engine: Engine,
    episodes: Sequence[Episode],
    summary: dict[str, Any],
) -> None:
    from replay.report import write_report

    records = [e.to_record() for e in episodes]
    alert_records = [a.to_record() for a in engine.alerts]
    try:
        (out / "alerts.ndjson").write_bytes(_lines(alert_records))
        (out / "episodes.ndjson").write_bytes(_lines(records))
        throttles = [t.to_record() for t in engine.throttles]
        (out / "throttles.ndjson").write_bytes(_lines(throttles))
        silences = [s.to_record() for s in engine.silences]
        (out / "silences.ndjson").write_bytes(_lines(silences))
        text = msgspec.json.format(msgspec.json.encode(summary), indent=2)
        (out / "summary.json").write_bytes(text + b"\n")
    except OSError as e:
        raise UsageError(f"cannot write to {out}: {e.strerror}") from e
    write_report(out / "report.html", summary, records, alert_records)


def _lines(records: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(r) + b"\n" for r in records)
