"""The demo: everything real but the traffic. A broker, two weeks of history, then attacks.

It starts the real service as its own process and only watches it from outside: the alerts
file, the metrics page, the revocation receiver.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from typing import Any

from rich.console import Console

from detector.broker import EmbeddedBroker, free_port
from detector.core.errors import EXIT_OK, TemporaryError
from detector.demo_view import Bar, preview_slack, show_alert, show_hook, show_intro, show_result
from detector.sinks.revocation.receiver import Receiver
from replay.evaluate import judge_alerts
from replay.simulate import DemoScenario, demo_scenario

TOPIC = "api-access"
PARTITIONS = 2
LIVE_S = 20.0  # three simulated hours
STEP_S = 0.5
DEADLINE_S = 240.0
SETTLE_S = 3.0

_CONFIG = """\
[kafka]
bootstrap_servers = ["{address}"]
topic = "{topic}"
poll_timeout_ms = 250
session_timeout_ms = 6000      # the embedded broker keeps a first member waiting for half of it

[decode]
trust_event_time = true        # the traffic is simulated: the broker's clock says nothing of it
pepper = {{ env = "KEYWATCH_DEMO_PEPPER" }}

[keys]
registry = "keys.ndjson"

[state]
dir = "state"
snapshot_every_s = 5

[sinks]
terminal = false
jsonl = "alerts.ndjson"

[sinks.revocation]
url = "{hook}"
secret = {{ env = "KEYWATCH_DEMO_SECRET" }}
mode = "live"
min_severity = "medium"
allow_http_loopback = true
evidence_age_max_s = 1e9       # simulated time: a real service refuses evidence this old
{slack}
[service]
http_port = {port}
"""


def run_demo(seed: int, out: Path | None = None) -> int:
    """Runs the demo; the exit code is 0 when it ran to its end, whatever was caught.

    Parameters
    ----------
    seed
        Chooses fleet, victims, times and sources.
    out
        Folder for the alerts, the service's log and ``demo.json`` (default: a temporary one).

    Raises ``TemporaryError`` when the service or the broker stops early, ``ConfigError``
    where the embedded broker does not exist for this platform.
    """
    console = Console(highlight=False)
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keywatch-")))
        folder.mkdir(parents=True, exist_ok=True)
        broker = stack.enter_context(EmbeddedBroker())
        broker.create_topic(TOPIC, PARTITIONS)
        secret = "whsec_" + b64encode(os.urandom(32)).decode()
        receiver = stack.enter_context(Receiver(secret))
        scenario = demo_scenario(seed)
        service = Service(folder, broker.address, receiver, secret, scenario, seed)
        stack.callback(service.stop)
        show_intro(console, seed, scenario, broker.address)
        demo = Demo(console, scenario, service, receiver)
        demo.play(broker.address)
        result = demo.finish()
        (folder / "demo.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    return EXIT_OK


def highest(shown: list[dict[str, Any]]) -> dict[str, Any]:
    """What scored most; a recommendation to limit a rate only where nothing was accused."""
    return max(shown, key=lambda a: (a["channel"] != "throttle", float(a["score"])))


class Service:
    """``keywatch run`` in a process of its own, seen from outside."""

    def __init__(
        self,
        folder: Path,
        address: str,
        receiver: Receiver,
        secret: str,
        scenario: DemoScenario,
        seed: int,
    ) -> None:
        self.folder = folder
        self._port = free_port()
        registry = b"".join(json.dumps(entry).encode() + b"\n" for entry in scenario.registry)
        (folder / "keys.ndjson").write_bytes(registry)
        config = _CONFIG.format(
            address=address, topic=TOPIC, hook=receiver.url, slack=_slack_section(), port=self._port
        )
        (folder / "keywatch.toml").write_text(config, encoding="utf-8")
        pepper = f"keywatch demo, fleet {seed}"  # simulated keys: the same fleet, the same run
        environment = {
            **os.environ,
            "KEYWATCH_DEMO_SECRET": secret,
            "KEYWATCH_DEMO_PEPPER": pepper,
        }
        self._log = open(folder / "service.log", "ab")  # noqa: SIM115 - closed in stop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "detector", "run", "-c", "keywatch.toml"],
            cwd=folder,
            env=environment,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the service
        )

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts written so far; a line still being written is left for the next look."""
        with suppress(FileNotFoundError):
            text = (self.folder / "alerts.ndjson").read_bytes()
            return [json.loads(line) for line in text.split(b"\n")[:-1]]
        return []

    def metrics(self) -> dict[str, float]:
        """Sums of the counters the demo shows; empty until the service is up."""
        url = f"http://127.0.0.1:{self._port}/metrics"
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as reply:
            sums: dict[str, float] = {}
            for line in reply.read().decode().splitlines():
                if not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    name = name.partition("{")[0]
                    sums[name] = sums.get(name, 0.0) + float(value)
            return sums
        return {}

    def check(self) -> None:
        """Raises ``TemporaryError`` when the service has ended by itself."""
        if self._process.poll() is not None:
            tail = (self.folder / "service.log").read_text(errors="replace").strip()
            raise TemporaryError(f"the service stopped early: {tail.splitlines()[-1:]}")

    def stop(self) -> None:
        """Stops it gracefully, by force after 30 s."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()


class Demo:
    """Plays a scenario against the service and tells what happens."""

    def __init__(
        self, console: Console, scenario: DemoScenario, service: Service, receiver: Receiver
    ) -> None:
        self._console = console
        self._scenario = scenario
        self._service = service
        self._receiver = receiver
        self._produced = 0
        self._shown: list[dict[str, Any]] = []
        self._hooks = 0
        self._rate = 0.0
        self._failure: BaseException | None = None
        self._until_s = time.monotonic() + DEADLINE_S

    def play(self, address: str) -> None:
        """History at speed, then the live hours in time lapse."""
        from kafka import KafkaProducer

        producer = KafkaProducer(
            bootstrap_servers=[address], linger_ms=20, batch_size=1 << 18, compression_type="lz4"
        )
        try:
            history, live = self._scenario.history, self._scenario.live
            thread = Thread(target=self._send_all, args=(producer, history), daemon=True)
            thread.start()
            with Bar(self._console, "history", len(history)) as bar:
                self._watch(bar, len(history), lambda: not thread.is_alive())
            with Bar(self._console, "live   ", len(live)) as bar:
                self._send_live(producer, live, bar)
                self._watch(bar, len(history) + len(live), lambda: True)
        finally:
            producer.close(timeout=5)

    def finish(self) -> dict[str, Any]:
        """Stops the service, shows message, hooks and the closing table."""
        until_s = time.monotonic() + SETTLE_S
        while time.monotonic() < until_s:
            self._tell_news()
            time.sleep(0.2)
        self._service.stop()
        self._tell_news()
        if self._shown:
            preview_slack(self._console, highest(self._shown))
        judged = judge_alerts(self._shown, self._scenario.labels)
        show_result(self._console, judged, self._rate, self._hooks)
        return {
            "attacks": len(judged.attacks),
            "caught": judged.caught,
            "false_alerts": len(judged.false_alerts),
            "requests_leaked": {a.label.kind: a.leaked for a in judged.attacks},
            "revocation_hooks": self._hooks,
            "events_per_s": round(self._rate),
        }

    def _send_all(self, producer: Any, lines: list[bytes]) -> None:
        try:
            for line in lines:
                producer.send(TOPIC, line, key=_key_of(line))
                self._produced += 1
            producer.flush(60)
        except Exception as e:  # shown by the watching thread
            self._failure = e

    def _send_live(self, producer: Any, lines: list[bytes], bar: Bar) -> None:
        steps = int(LIVE_S / STEP_S)
        for i in range(steps):
            part = lines[len(lines) * i // steps : len(lines) * (i + 1) // steps]
            self._send_all(producer, part)
            began_s = time.monotonic()
            self._tell_news()
            self._show_progress(bar, len(self._scenario.history))
            time.sleep(max(0.0, STEP_S - (time.monotonic() - began_s)))

    def _watch(self, bar: Bar, target: int, produced: Any) -> None:
        """Until the service has scored ``target`` events."""
        began: tuple[float, float] | None = None
        while True:
            if self._failure is not None:
                raise TemporaryError(f"cannot produce: {self._failure}") from self._failure
            if time.monotonic() > self._until_s:
                raise TemporaryError(f"the demo did not finish within {DEADLINE_S:.0f} s")
            self._service.check()
            scored = self._show_progress(bar, target - bar.total)
            self._tell_news()
            if scored and began is None:
                began = (time.monotonic(), scored)
            if scored >= target and produced():
                break
            time.sleep(0.1)
        if began is not None and scored - began[1] > 10_000:
            self._rate = (scored - began[1]) / max(1e-3, time.monotonic() - began[0])

    def _show_progress(self, bar: Bar, before: int) -> float:
        metrics = self._service.metrics()
        scored = metrics.get("keywatch_events_received_total", 0.0)
        keys = int(metrics.get("keywatch_keys", 0))
        bar.update(max(0, int(scored) - before), self._produced, keys, len(self._shown))
        return scored

    def _tell_news(self) -> None:
        for alert in self._service.alerts()[len(self._shown) :]:
            self._shown.append(alert)
            show_alert(self._console, alert)
        for arrival in self._receiver.arrivals[self._hooks :]:
            self._hooks += 1
            show_hook(self._console, arrival.event)


def _key_of(line: bytes) -> bytes:
    """The record key: the API key's id, so that a key stays in one partition."""
    _, found, rest = line.partition(b'"key_id":"')
    return rest.partition(b'"')[0] if found else b"-"


def _slack_section() -> str:
    """Slack, when the environment has what it takes; nothing is sent otherwise."""
    if os.environ.get("SLACK_BOT_TOKEN") and os.environ.get("SLACK_CHANNEL"):
        channel = json.dumps(os.environ["SLACK_CHANNEL"])
        return f'\n[sinks.slack]\nbot_token = {{ env = "SLACK_BOT_TOKEN" }}\nchannel = {channel}\n'
    if os.environ.get("SLACK_WEBHOOK_URL"):
        return '\n[sinks.slack]\nwebhook_url = { env = "SLACK_WEBHOOK_URL" }\n'
    return ""
