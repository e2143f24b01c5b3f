"""A small receiver of revocation webhooks for the demo, the tests and as an example.

It checks signature and age as a real one must, records what arrived, and revokes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from detector.sinks.revocation.webhook import BODY_BYTES_MAX

_READ_TIMEOUT_S = 15


@dataclass(frozen=True, slots=True)
class Arrival:
    """One verified webhook; ``repeated`` when its id had arrived before."""

    webhook_id: str
    event: dict[str, Any]
    repeated: bool


class Receiver:
    """Listens on loopback while the ``with`` block lasts; ``url`` is where to post.

    A webhook is accepted (204) when its signature fits ``secret`` and its time is within
    300 s of now; otherwise it is counted in ``refused`` (401; 413 when over 20 kB).
    """

    def __init__(self, secret: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self._webhook = Webhook(secret)
        self._changed = Condition()
        self._arrivals: list[Arrival] = []
        self._refused = 0
        self._server = ThreadingHTTPServer((host, port), self._handler())
        self._thread = Thread(target=self._server.serve_forever, daemon=True, name="receiver")

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where to post."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/revoke"

    @property
    def arrivals(self) -> list[Arrival]:
        """What was accepted so far, in order."""
        with self._changed:
            return list(self._arrivals)

    @property
    def refused(self) -> int:
        """How many webhooks were refused."""
        with self._changed:
            return self._refused

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """True as soon as ``count`` webhooks were accepted, False after ``timeout_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._arrivals) >= count, timeout_s)

    def take(self, body: bytes, headers: dict[str, str]) -> int:
        """Judges one webhook and records it; the HTTP status to answer."""
        try:
            event = self._webhook.verify(body, headers)
        except (WebhookVerificationError, ValueError):
            self._refuse()
            return 401
        webhook_id = {k.lower(): v for k, v in headers.items()}["webhook-id"]
        with self._changed:
            repeated = any(a.webhook_id == webhook_id for a in self._arrivals)
            self._arrivals.append(Arrival(webhook_id, event, repeated))
            self._changed.notify_all()
        return 204

    def _refuse(self) -> None:
        with self._changed:
            self._refused += 1
            self._changed.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _READ_TIMEOUT_S

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "")
                if not (length.isascii() and length.isdigit()) or int(length) > BODY_BYTES_MAX:
                    receiver._refuse()
                    status = 413
                else:
                    status = receiver.take(self.rfile.read(int(length)), dict(self.headers))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Log-derived text stays out of the terminal."""

        return Handler
