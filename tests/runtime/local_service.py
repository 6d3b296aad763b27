"""A service on this machine that answers as Azure's do: what it is asked, and what it says to that."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(slots=True)
class Service:
    """The service: its address, what it was asked, and how it answers: a status, headers and a body."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answer: Callable[[Asked], tuple[int, dict[str, str], bytes]] = lambda _: (404, {}, b"")

    def paths(self) -> list[str]:
        """Return what was asked for, in order."""
        return [each.path for each in self.asked]


def as_json(content: Any, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    """Make an answer of JSON."""
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


def token(asked: Asked, text: str = "eyJ0b2tlbg") -> tuple[int, dict[str, str], bytes] | None:
    """Answer as the endpoint of a managed identity does; nothing to other questions."""
    if not asked.path.startswith("/identity?"):
        return None
    if asked.headers.get("X-IDENTITY-HEADER") != "proof":
        return as_json({"error": "no proof"}, 401)
    return as_json({"access_token": text, "expires_on": "4102444800", "resource": "r", "token_type": "Bearer"})


@contextmanager
def local_service() -> Iterator[Service]:
    """Serve on a free port."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = Asked(self.command, self.path, dict(self.headers.items()))
            service.asked.append(asked)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, body = service.answer(asked)
            self.send_response(status)
            for name, text in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815 (as the library has it)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
