"""The API's end of a connection: uvicorn's own, with bounds on who may hold one and on what is HTTP.

`uvicorn --http api.connections:StrictProtocol`, as the Procfile has it. None of this asks for a key, as it happens
before there is one to read:

- The head of a request comes within a time, and is no longer than 16 KiB; an answer is taken within a time.
- There are so many connections at most. When one more comes, the one that has kept us waiting longest for a request
  makes room; if all are being served, the new one gets a 503.
- What two readers could take for two different requests is none: a bare line feed, `Content-Length` beside
  `Transfer-Encoding`, `Transfer-Encoding` in HTTP/1.0, a folded header. So no proxy before us sees other requests.
- A chunked body is not cut into countless tiny chunks.
"""

import asyncio
import json
import re
import resource
from functools import cache
from typing import Any

import h11
import structlog
from h11._receivebuffer import ReceiveBuffer
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from infra.settings import settings

log = structlog.get_logger(__name__)

#: The longest head of a request, bytes.
MAX_HEAD_BYTES = 16_384
#: The longest time from a request's head to the end of its answer, seconds: its body has 30 s, the ledger a few.
REQUEST_TIMEOUT_S = 120.0
#: Chunks that a body may have, whatever its length, and the shortest that they may be on average beyond that, bytes.
FREE_CHUNKS, MIN_CHUNK_BYTES = 2_048, 64
#: So many connections more than the bound are there at most, for so long, seconds, until room is made.
GRACE_CONNECTIONS, GRACE_S = 48, 0.05
#: File descriptors that are kept for everything but connections.
_SPARE_DESCRIPTORS = 96

_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_FOLDED = re.compile(rb"\r\n[ \t]")


class _StrictBuffer(ReceiveBuffer):
    """Heads end with CRLF CRLF, and each of their lines with CRLF."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """The lines of a head, or of a chunked body's trailer; None: it is not whole yet.

        Raises:
            RemoteProtocolError: it has another end of line, or a folded line.
        """
        if self._data[:2] == b"\r\n":
            self._extract(2)
            return []
        end = self._data.find(b"\r\n\r\n", max(0, self._multiple_lines_search - 3))
        if end < 0:
            if _BARE_LINE_FEED.search(self._data, self._multiple_lines_search):
                raise h11.RemoteProtocolError("bare line feed")  # at once: its sender thinks that the head has ended
            self._multiple_lines_search = len(self._data)
            return None
        head = self._extract(end + 4)[:-4]
        if _BARE_LINE_END.search(head) or _FOLDED.search(head):
            raise h11.RemoteProtocolError("bare line end or folded header")
        return head.split(b"\r\n")


class _StrictConnection(h11.Connection):
    """Raises RemoteProtocolError for what could be read in two ways."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD_BYTES)
        self._receive_buffer = _StrictBuffer()
        self._chunks = self._chunked_bytes = 0

    def next_event(self) -> Any:
        """As h11 has it."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._chunked_bytes = 0
            names = {name for name, _ in event.headers}
            if b"transfer-encoding" in names and (b"content-length" in names or event.http_version < b"1.1"):
                raise h11.RemoteProtocolError("ambiguous length of the body")
        elif isinstance(event, h11.Data) and event.chunk_start:
            self._chunks += 1
            self._chunked_bytes += len(event.data)
            if self._chunks > FREE_CHUNKS + self._chunked_bytes // MIN_CHUNK_BYTES:
                raise h11.RemoteProtocolError("too many tiny chunks")
        return event


@cache
def _bounds() -> tuple[float, int]:
    """The time for a head, seconds, and the most connections, as far as this process has descriptors for them."""
    values = settings()
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = values.api.max_connections
    if descriptors != resource.RLIM_INFINITY:
        room = min(room, max(8, descriptors - _SPARE_DESCRIPTORS))
    return values.api.header_timeout_s, room


class StrictProtocol(H11Protocol):
    """One connection. asyncio calls it; see the module's docstring."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = _StrictConnection()
        self._header_timeout_s, self._max_connections = _bounds()
        self._timer: asyncio.TimerHandle | None = None
        self._timed_request: object = None
        self._waits_since = 0.0

    @property
    def _is_serving(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, if there is room or can be made."""
        super().connection_made(transport)
        self._watch()
        ours = [one for one in self.connections if isinstance(one, StrictProtocol)]
        too_many = len(ours) - self._max_connections
        if too_many > 0 and sum(one._is_serving for one in ours) >= self._max_connections:
            log.warning("connection.refused", connections=len(ours))
            transport.write(_raw_answer(503, "overloaded", "All connections are in use. Try again in 1 s."))
            transport.close()
        elif too_many >= GRACE_CONNECTIONS:
            self._make_room()
        elif too_many > 0:
            # A little later: what came with it has not been read yet, and may be whole requests.
            self.loop.call_later(GRACE_S, self._make_room)

    def _make_room(self) -> None:
        """Close the connections too many that have sent no whole request for longest; new ones come first."""
        ours = [one for one in self.connections if isinstance(one, StrictProtocol) and not one.transport.is_closing()]
        waiting = [one for one in ours if not one._is_serving]
        waiting.sort(key=lambda one: (one.cycle is not None, one._waits_since))
        closed = waiting[: max(0, len(ours) - self._max_connections)]
        for one in closed:
            one.transport.abort()
        if closed:
            log.info("connection.closed", reason="room_for_another", closed=len(closed), connections=len(ours))

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """An answer is out."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(_raw_answer(400, "invalid_http", "The request cannot be read as HTTP/1.1."))
        self.transport.close()

    def _watch(self) -> None:
        """One timer: for a request's head from when we wait for it, or for a request from when its head was there."""
        request = self.cycle if self._is_serving else None
        if self.transport.is_closing():
            self._stop_timer()
        elif self._timer is None or request is not self._timed_request:
            self._stop_timer()
            self._timed_request = request
            self._waits_since = self.loop.time()
            after_s = self._header_timeout_s if request is None else REQUEST_TIMEOUT_S
            self._timer = self.loop.call_later(after_s, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        log.info("connection.closed", reason="too_slow", closed=1, connections=len(self.connections))
        self.transport.abort()


def _raw_answer(status: int, code: str, message: str) -> bytes:
    """An error in the API's one shape, before there is a request to answer."""
    kind = "invalid_request_error" if status == 400 else "server_error"  # noqa: PLR2004 - as in HTTP
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()
    reason = {400: "Bad Request", 503: "Service Unavailable"}[status]
    head = (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\nretry-after: 1\r\n\r\n"
    )
    return head.encode() + body
