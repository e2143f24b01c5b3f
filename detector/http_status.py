"""``/metrics``, ``/healthz`` and ``/readyz``: read-only, on loopback unless configured."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from detector.core.errors import ConfigError

_READ_TIMEOUT_S = 10
_PLAIN = "text/plain; charset=utf-8"

Check = Callable[[], str]  # "" = good, else why not


class StatusServer:
    """Serves until closed; ``port`` is the real one when 0 was asked for.

    Raises ``ConfigError`` when the address cannot be used.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, healthy: Check, ready: Check
    ) -> None:
        handler = _handler(registry, {"/healthz": healthy, "/readyz": ready})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except (OSError, OverflowError) as e:
            reason = getattr(e, "strerror", None) or str(e)
            raise ConfigError(f"cannot serve metrics on {host}:{port}: {reason}") from e
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = Thread(target=self._server.serve_forever, name="status", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()


def _handler(registry: CollectorRegistry, checks: dict[str, Check]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _READ_TIMEOUT_S  # a client that sends nothing must not hold a thread
        server_version, sys_version = "keywatch", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif path in checks:
                why = checks[path]()
                self._answer(503 if why else 200, f"{why or 'ok'}\n".encode(), _PLAIN)
            else:
                self._answer(404, b"not found\n", _PLAIN)

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - inherited name
            """Access is not logged: scrapes would drown everything else."""

    return Handler
