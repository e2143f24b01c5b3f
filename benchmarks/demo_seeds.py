"""Catch rate and false alerts of the demo's scenario over many seeds, without the broker.

``python -m benchmarks.demo_seeds [first] [last]`` (both included, default 1 to 20). The same
decoder, fold and fleet stage as the service; takes about two seconds a seed.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from detector.core.events import RecordBatch
from detector.core.fleet import LOWEST, FleetStage
from detector.core.settings import ShardSettings
from detector.core.shard import Shard
from detector.decode import DecodeSettings, make_decoder
from detector.decode.seed import PUBLIC_SEED
from replay.evaluate import Evaluation, judge_alerts
from replay.run import Engine
from replay.simulate import demo_scenario

BATCH_ROWS = 20_000


def judge_seed(seed: int) -> tuple[Evaluation, list[dict[str, Any]]]:
    """Runs one scenario; returns the verdict and all episodes' records."""
    scenario = demo_scenario(seed)
    lines = scenario.history + scenario.live
    decoder = make_decoder("canonical", DecodeSettings(PUBLIC_SEED, trust_event_time=True))
    engine = Engine([Shard(ShardSettings())], FleetStage(5, lowest=LOWEST))
    for start in range(0, len(lines), BATCH_ROWS):
        part = lines[start : start + BATCH_ROWS]
        offsets = np.arange(start, start + len(part), dtype=np.int64)
        times = np.full(len(part), -1, np.int64)
        engine.fold(decoder.decode(RecordBatch("demo", 0, part, offsets, times)).batch)
    episodes = [e.to_record() for e in engine.finish()]
    return judge_alerts([a.to_record() for a in engine.alerts], scenario.labels), episodes


def main() -> None:
    """Prints a line a seed and the totals."""
    first, last = (int(a) for a in (sys.argv[1:3] if len(sys.argv) > 2 else ("1", "20")))
    attacks = caught = false = 0
    leaked: list[int] = []
    for seed in range(first, last + 1):
        judged, _ = judge_seed(seed)
        attacks += len(judged.attacks)
        caught += judged.caught
        false += len(judged.false_alerts)
        leaked += [a.leaked for a in judged.attacks if a.caught]
        missed = [a.label.kind for a in judged.attacks if not a.caught]
        wrong = [(a["key"], a["channel"], a["score"]) for a in judged.false_alerts]
        print(f"seed {seed:3}: caught {judged.caught}/{len(judged.attacks)}", missed, wrong)
    median = float(np.median(leaked)) if leaked else 0.0
    print(
        f"{caught} of {attacks} attacks caught ({caught / attacks:.1%}), {false} false alerts, "
        f"median {median:.0f} requests leaked before the alert"
    )


if __name__ == "__main__":
    main()
