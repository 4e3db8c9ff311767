"""The gRPC server, with a hand on its connections: how many streams each may have, and to cut them."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from grpclib.config import Configuration
from grpclib.protocol import H2Protocol
from grpclib.server import Server
from h2.settings import SettingCodes

from modal_local.http import LOOPBACK
from modal_local.rpc import StatusDetailsCodec

# What grpclib's server announces by itself; the figure of api.modal.com is not known.
DEFAULT_STREAM_LIMIT = 100
# The SDK moves arguments of up to 2 MiB in a message; larger windows than HTTP/2's default save round trips.
_WINDOW_BYTES = 2**22


class _Corked:
    """A transport that sends what one turn of the event loop has written in one piece.

    An RPC's answer is written in three pieces (headers, message, trailers): this saves two system calls here, and
    wakes the client once instead of three times.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._pieces:
            asyncio.get_running_loop().call_soon(self._send)
        self._pieces.append(data)

    def _send(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():
            self._transport.write(b"".join(pieces))

    def close(self) -> None:
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Protocol(H2Protocol):
    """One connection."""

    owner: "GrpcServer"

    def connection_made(self, transport: Any) -> None:
        """Announces the stream limit that is in force."""
        self.transport = transport
        super().connection_made(cast(Any, _Corked(transport)))
        self.owner.connections.add(self)
        self.limit_streams(self.owner.stream_limit)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forgets the connection."""
        self.owner.connections.discard(self)
        super().connection_lost(exc)

    def limit_streams(self, limit: int) -> None:
        """Tells the peer how many streams it may have open."""
        # grpclib has no public way to change a setting of an open connection.
        self.connection._connection.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: limit})
        self.connection.flush()

    def cut(self) -> None:
        """Closes the connection under the peer's hands."""
        self.transport.abort()


class GrpcServer(Server):
    """grpclib's server on a loopback port."""

    def __init__(self, handlers: Sequence[Any]) -> None:
        super().__init__(
            handlers,
            status_details_codec=StatusDetailsCodec(),
            config=Configuration(http2_connection_window_size=_WINDOW_BYTES, http2_stream_window_size=_WINDOW_BYTES),
        )
        self.connections: set[_Protocol] = set()
        self.stream_limit = DEFAULT_STREAM_LIMIT

    def _protocol_factory(self) -> _Protocol:
        plain = super()._protocol_factory()
        protocol = _Protocol(plain.handler, plain.config, plain.h2_config)
        protocol.owner = self
        return protocol

    async def listen(self, port: int) -> int:
        """Listens on a loopback port; 0 takes a free one. Returns the port.

        Raises:
            OSError: the port is taken.
        """
        await self.start(LOOPBACK, port)
        listening: Any = self._server
        bound: int = listening.sockets[0].getsockname()[1]
        return bound

    def set_stream_limit(self, limit: int | None) -> None:
        """How many streams each connection may have; None is the default."""
        self.stream_limit = limit or DEFAULT_STREAM_LIMIT
        for connection in self.connections:
            connection.limit_streams(self.stream_limit)

    def disconnect(self) -> None:
        """Cuts every connection, as a network fault does."""
        for connection in list(self.connections):
            connection.cut()
