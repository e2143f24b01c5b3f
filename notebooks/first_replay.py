# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # First replay
#
# A made-up log with two attacks in it, scored by the same engine as the live service, and a
# look at the result with pandas and matplotlib. To use your own logs, replace `log` below.
# Everything is written into the working directory.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from detector.config import Config
from replay.labels import write_labels
from replay.run import replay_files
from replay.simulate import AttackPlan, Fleet, FleetSettings, write_ndjson

folder = Path("first-replay")
folder.mkdir(exist_ok=True)

# %% [markdown]
# ## A small log
# 40 keys over eight days. The attacks fall into the last third; the labels say which key was
# attacked, and when. They are for judging the result, never for finding it. Eight days are a
# short history: with another seed an attack may be missed.

# %%
plans = (AttackPlan("stolen_key"), AttackPlan("enumeration"))
fleet = Fleet(FleetSettings(n_keys=40, hours=8 * 24, events_per_day=5_000, attacks=plans), seed=1)
log, labels = folder / "access.ndjson.gz", folder / "labels.json"
lines = write_ndjson(log, fleet.chunks())
write_labels(labels, fleet.labels)
pd.DataFrame([label.to_record() for label in fleet.labels])

# %% [markdown]
# ## Replay
# The result is also in the folder: `report.html` is the one to open first.

# %%
summary = replay_files([log], folder / "out", Config(), labels=labels)
assert summary["lines"] == lines
{name: summary[name] for name in ("lines", "keys", "alerts", "episodes", "evaluation")}

# %% [markdown]
# ## Alerts and episodes as tables
# An episode is a key under suspicion; an alert is an episode as of the event that crossed the
# threshold.

# %%
alerts = pd.read_json(folder / "out" / "alerts.ndjson", lines=True)
episodes = pd.read_json(folder / "out" / "episodes.ndjson", lines=True)
columns = ["alerted_at", "channel", "severity", "key", "score", "threshold", "requests_leaked"]
alerts[columns]

# %%
top = episodes.sort_values("score", ascending=False).head(10)
top[["key", "channel", "score", "threshold", "alerted_at", "requests_leaked"]]

# %% [markdown]
# Why the first alert was raised, with the counts behind it:

# %%
first = alerts.iloc[0]
pd.DataFrame(first["reasons"])[["signal", "nats", "observed", "expected", "text"]]

# %% [markdown]
# ## The curve of the highest episode
# Every new maximum of the score with what had leaked by then. A lower threshold would have
# alerted where the curve crosses it: that is what tuning trades against false alerts.

# %%
best = top.iloc[0]
curve = pd.DataFrame(best["curve"], columns=["time", "score", "requests", "bytes"])
curve["time"] = pd.to_datetime(curve["time"], format="ISO8601")

figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 5))
above.step(curve["time"], curve["score"], where="post")
above.axhline(best["threshold"], linestyle="--", label="threshold")
above.set_ylabel("score (nats)")
above.set_title(f"{best['key']}: {best['channel']}")
above.legend()
below.step(curve["time"], curve["requests"], where="post", color="tab:red")
below.set_ylabel("suspicious requests")
figure.autofmt_xdate()
figure.savefig(folder / "episode.png", dpi=120)

# %% [markdown]
# ## Any other threshold
# How many STOLEN episodes would have been alerts at a given threshold (the raise for young keys
# and the weekly cap left out).

# %%
stolen = episodes[episodes["channel"] == "stolen"]
thresholds = [6, 8, 10, 12, 13.75, 16]
pd.Series({t: int((stolen["score"] >= t).sum()) for t in thresholds}, name="episodes at or above")
