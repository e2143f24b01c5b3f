"""A command that is forked says what one says that starts from nothing."""

from __future__ import annotations

import json
import re

import pytest

from tests import forked
from tests.live import service

LINE = {"ts": "2026-03-02T10:00:00Z", "key_id": "k", "method": "GET", "path": "/", "status": 200}


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("replay", "log.ndjson", "-o", "out"), 0),
        (("validate", "-c", "c.toml"), 0),
        (("run", "-c", "c.toml"), 78),
        (("keys", "fingerprint", "-c", "c.toml"), 0),
        (("alerts", "list", "-c", "c.toml"), 0),
        (("explain", "ffff", "-c", "c.toml"), 2),
        (("checkpoint", "verify", "-c", "c.toml"), 0),
        (("simulate", "-o", "x.ndjson", "--attacks", "magic"), 2),
        (("evaluate", "-o", "y", "--methods", "theirs"), 2),
        (("config", "show", "-c", "c.toml"), 0),
    ],
)
def test_a_fork_says_the_same(tmp_path, args, code):
    """Each command: the exit code, stdout, stderr and the files, but for the speed."""
    found = []
    for name, keywatch in (("fork", forked.keywatch), ("cold", service.keywatch)):
        folder = tmp_path / name
        (folder / "state").mkdir(parents=True)
        (folder / "log.ndjson").write_text(json.dumps(LINE) + "\n")
        (folder / "c.toml").write_text('[state]\ndir = "state"\n[decode]\npepper.file = "p"\n')
        (folder / "p").write_text("pepper\n")
        said = keywatch(*args, cwd=folder, stdin="ak_live_example\n")
        files = {str(p.relative_to(folder)) for p in folder.rglob("*")}
        out = re.sub(r"[\d,]+ events/s", "n events/s", said.stdout)
        found.append((said.returncode, out, said.stderr, files))
    assert found[0] == found[1]
    assert found[0][0] == code
