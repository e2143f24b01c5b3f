"""``keywatch`` without its start-up: each command is a fork of a process that has imported all.

A fork is a process of its own, with the arguments, environment, directory, streams, exit code
and shutdown of one; only the imports (and kernels) are there already, which are most of the
time of a short command. ``tests.live.service.keywatch`` starts from nothing.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from tests.live.service import environment

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 120


def keywatch(
    *args: str, cwd: Path | None = None, stdin: str = "", unprivileged: bool = False
) -> subprocess.CompletedProcess:
    """Runs a command to its end; ``unprivileged`` makes file modes bind root as well."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    request = {
        "args": args,
        "cwd": str(cwd or Path.cwd()),
        "env": environment(),
        "stdin": stdin,
        "unprivileged": unprivileged,
    }
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    reply = json.loads(server.stdout.readline())
    return subprocess.CompletedProcess(args, reply["code"], reply["out"], reply["err"])


@cache
def _server() -> subprocess.Popen:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.forked"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.communicate)
    return server


def serve() -> None:
    """Forks one process a request; returns in the fork, as soon as it is one, and at the end."""
    replies = os.fdopen(os.dup(1), "w")
    requests = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    _import_all()
    for line in requests:
        request = json.loads(line)
        with TemporaryFile() as said, TemporaryFile() as out, TemporaryFile() as err:
            said.write(request["stdin"].encode())
            said.seek(0)
            pid = os.fork()
            if pid == 0:
                replies.close()
                requests.close()
                _become(request, (said, out, err))
                return
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            texts = [_text(out), _text(err)]
        replies.write(json.dumps({"code": code, "out": texts[0], "err": texts[1]}) + "\n")
        replies.flush()
    os._exit(0)


def _import_all() -> None:
    """What the commands import when they need it, and the kernels; starts no thread."""
    import detector.cli.app
    import detector.sources.kafka
    import replay.evaluation.sweep
    import replay.run
    import replay.simulate
    from detector.assembly import make_engine, warm_kernels
    from detector.config import Config

    warm_kernels(make_engine(Config(), None, bytes(32)))
    assert detector, replay
    assert threading.active_count() == 1, "a fork has the thread that forks, and no other"


def _become(request: dict[str, Any], streams: tuple[IO[bytes], ...]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["keywatch", *request["args"]]
    signal.alarm(TIMEOUT_S)
    if request["unprivileged"] and os.geteuid() == 0:
        _drop_override()


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode()


def _drop_override() -> None:
    """Gives up CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, where the process has them."""
    libc = ctypes.CDLL(None)
    version_3, this_process = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, this_process)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    assert libc.capget(header, sets) == 0
    for i in range(2):
        sets[i] &= ~(1 << 1 | 1 << 2)
    assert libc.capset(header, sets) == 0


if __name__ == "__main__":
    serve()
    from detector.cli import main

    main()
