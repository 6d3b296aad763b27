"""A proxy on loopback that stands before a server of HTTP and makes requests fail, as storage and networks do.

    fault              what the client sees                       what the server sees
    dropped before     the connection ends                        nothing
    dropped after      the connection ends                        the request, which it does
    cut                half of the answer's body, then the end    the same
    delay              the answer, later                          the same
    503, 500, 412 ...  that status, with storage's own word       nothing

Requests are read whole, and go on one connection each. It counts them, and the bytes that it passed on.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

DROPPED_BEFORE = "dropped before"
DROPPED_AFTER = "dropped after"
CUT = "cut"

_WORDS = {
    403: "AuthorizationPermissionMismatch",
    412: "ConditionNotMet",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServerBusy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """An answer that the server never gave."""

    code: int
    word: str = ""
    retry_after_s: int | None = None

    def encode(self, *, body: bool) -> bytes:
        """Write it as the server would."""
        word = self.word or _WORDS[self.code]
        text = f"<?xml version='1.0' encoding='utf-8'?><Error><Code>{word}</Code><Message>no</Message></Error>".encode()
        after = "" if self.retry_after_s is None else f"Retry-After: {self.retry_after_s}\r\n"
        head = (
            f"HTTP/1.1 {self.code} no\r\nx-ms-error-code: {word}\r\nContent-Type: application/xml\r\n{after}"
            f"Content-Length: {len(text) if body else 0}\r\n\r\n"
        )
        return head.encode() + (text if body else b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """An answer that comes late."""

    seconds: float


Fault = str | Status | Delay | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, as a rule sees it.

    Attributes:
        number: 1 for the first.
        method: GET, PUT and so on.
        target: path and query, without what is secret in it.
    """

    number: int
    method: str
    target: str

    @property
    def kind(self) -> str:
        """Say in a word what it asks for."""
        for mark, name in (
            ("comp=blocklist", "commit" if self.method == "PUT" else "list blocks"),
            ("comp=block&", "stage"),
            ("comp=lease", "lease"),
            ("comp=list", "list"),
        ):
            if mark in self.target + "&":
                return name
        return {"PUT": "write", "GET": "read", "HEAD": "look", "DELETE": "delete"}.get(self.method, self.method)


Rule = Callable[[Request], Fault]


@dataclass(slots=True)
class FaultProxy:
    """The proxy, while its context lasts.

    Attributes:
        upstream: port of the server on 127.0.0.1.
        rule: says what happens to a request.
        port: its own.
        requests: those seen, each with what happened to it.
        bytes_down: bytes of answers passed on.
    """

    upstream: int
    rule: Rule = lambda _: None
    port: int = 0
    requests: list[tuple[Request, Fault]] = field(default_factory=list)
    bytes_down: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), name="fault proxy", daemon=True)
        self._thread.start()
        assert started.wait(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join(60)

    def _serve(self, started: threading.Event) -> None:
        async def listen() -> None:
            self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]

        self._loop.run_until_complete(listen())
        started.set()
        self._loop.run_forever()
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            # without any it would look for a loop of this thread
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._client(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass one request on; return whether the connection goes on."""
        head, body = await _message(reader)
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        shown = re.sub(r"sig=[^&]*", "sig=", target)
        request = Request(number=len(self.requests) + 1, method=method, target=shown)
        fault = self.rule(request)
        self.requests.append((request, fault))
        if fault == DROPPED_BEFORE:
            writer.transport.abort()
            return False
        if isinstance(fault, Status):
            writer.write(fault.encode(body=method != "HEAD"))
            await writer.drain()
            return True
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.seconds)
        answer = await self._asked(head, body, bodiless=method == "HEAD")
        if fault == DROPPED_AFTER:
            writer.transport.abort()
            return False
        if fault == CUT:
            head, _, content = answer.partition(b"\r\n\r\n")
            if not content:
                writer.transport.abort()
                return False
            answer = head + b"\r\n\r\n" + content[: len(content) // 2]
        self.bytes_down += len(answer)
        writer.write(answer)
        await writer.drain()
        return fault != CUT

    async def _asked(self, head: bytes, body: bytes, *, bodiless: bool) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head)[:-2] + b"Connection: close\r\n\r\n"
            writer.write(head + body)
            await writer.drain()
            head, body = await _message(reader, bodiless=bodiless)
        finally:
            writer.close()
        return re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head) + body


async def _message(reader: asyncio.StreamReader, *, bodiless: bool = False) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    low = head.lower()
    if bodiless:
        return head, b""
    if b"transfer-encoding: chunked" in low:
        body = b""
        while True:
            line = await reader.readline()
            size = int(line.split(b";")[0], 16)
            body += line + await reader.readexactly(size + 2)
            if size == 0:
                return head, body
    length = re.search(rb"\r\ncontent-length: *(\d+)", low)
    return head, await reader.readexactly(int(length[1])) if length else b""
