"""A proxy before S3 that lets puts happen and tells the client that they failed."""

import threading

from tests.support.tcp_proxy import Connection, TcpProxy

_CONTINUE = b"HTTP/1.1 100"
_END_OF_HEAD = b"\r\n\r\n"
_FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class S3Proxy(TcpProxy):
    """Forwards to S3; after `lose_answers(n)` the next n puts of artifacts succeed and are answered with a 500."""

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self._lock = threading.Lock()
        self._to_lose = 0
        #: How many answers were lost so far.
        self.lost = 0
        self._doomed: set[Connection] = set()

    def lose_answers(self, count: int) -> None:
        """The answers of the next `count` puts are lost."""
        with self._lock:
            self._to_lose += count

    def forgive(self) -> None:
        """No more answers are lost."""
        with self._lock:
            self._to_lose = 0

    def sees_request(self, connection: Connection, data: bytes) -> None:
        """A request's head comes in a chunk of its own: boto3 waits for `100 Continue` before it sends the body."""
        if not data.startswith(b"PUT "):
            return
        with self._lock:
            if self._to_lose > 0 and b"/render/" in data.split(b"\r\n", 1)[0]:
                self._to_lose -= 1
                self._doomed.add(connection)

    def passes_answer(self, connection: Connection, data: bytes) -> bytes | None:
        """The final answer of a doomed put becomes a failure."""
        if connection not in self._doomed:
            return data
        go_ahead = b""
        if data.startswith(_CONTINUE):
            go_ahead, end, data = data.partition(_END_OF_HEAD)
            go_ahead += end
        if not data:
            return go_ahead
        self._doomed.discard(connection)
        self.lost += 1
        return go_ahead + _FAILURE
