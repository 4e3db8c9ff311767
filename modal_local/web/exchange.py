"""One request and its answer: what the client sends goes to the container, what the app sends comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import WSMsgType, web
from modal_proto import api_pb2

from modal_local.records import CallRecord, InputRecord
from modal_local.web import messages

_SUCCESS = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
# What the connection is about, and not the answer.
_HOP_BY_HOP = frozenset({"transfer-encoding", "connection", "keep-alive"})
#: The query parameter by which a client that was sent away comes back for its answer.
CALL_PARAMETER = "__modal_function_call_id"


class Exchange:
    """A call that is a request.

    Attributes:
        answered: nobody waits for what the app may say further.

    Args:
        call: its call.
        record: its only input.
        read_blob: the content of an uploaded blob.
    """

    def __init__(self, call: CallRecord, record: InputRecord, read_blob: Callable[[str], bytes]) -> None:
        self.call = call
        self._record = record
        self._read_blob = read_blob
        self._answered_by = ""
        self.answered = False

    # To the container.

    def tell(self, message: api_pb2.Asgi) -> None:
        """A message for the app."""
        self.call.data_in.append(messages.chunk(len(self.call.data_in) + 1, message))
        self.call.wake()

    async def send_body(self, request: web.Request) -> None:
        """The body of a request, as it comes."""
        async for piece in request.content.iter_chunked(messages.PIECE_BYTES):
            self.tell(messages.body_piece(piece, more=True))
        self.tell(messages.body_piece(b"", more=False))

    # From the container.

    async def said(self) -> AsyncIterator[api_pb2.Asgi]:
        """What the app sends, until its input ends, or is run by another container than the one that has begun."""
        position = 0
        while True:
            chunks = self.call.data_out.get("out", [])
            while position < len(chunks):
                self._answered_by = self._answered_by or self._record.task_id or "gone"
                chunk = chunks[position]
                position += 1
                data = self._read_blob(chunk.data_blob_id) if chunk.data_blob_id else chunk.data
                yield api_pb2.Asgi.FromString(data)
            if self._record.done or self.broken_off:
                return
            await self.call.changed(None)

    async def begins(self, timeout_s: float) -> bool:
        """Whether there is an answer, or the end of the input, within this many seconds."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not self.call.data_out.get("out") and not self._record.done:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await self.call.changed(left)
        return True

    @property
    def broken_off(self) -> bool:
        """Whether the container that has begun to answer is gone: another one cannot go on where it stopped."""
        return bool(self._answered_by) and not self._record.done and self._record.task_id != self._answered_by

    def failure(self) -> str:
        """Why there is no answer, in the words of Modal."""
        output = self._record.output
        if output is None or output.result.status == _SUCCESS:
            return "modal-http: internal error: the function has ended without an answer"
        status = api_pb2.GenericResult.GenericStatus.Name(output.result.status)
        named = status.removeprefix("GENERIC_STATUS_").capitalize()
        return f"modal-http: internal error: status {named}: {output.result.exception}"

    def end(self) -> None:
        """The client has its answer."""
        self.answered = True
        self.call.wake()

    async def forget_when_over(self) -> None:
        """Keeps what goes to and fro until the input has ended and its answer is given; it may be large."""
        while not (self._record.done and self.answered):
            await self.call.changed(None)
        self.call.data_in.clear()
        self.call.data_out.clear()


async def answer_http(exchange: Exchange, request: web.Request) -> web.StreamResponse:
    """Gives an app's answer to the client."""
    response: web.StreamResponse | None = None
    async for message in exchange.said():
        match message.WhichOneof("type"):
            case "http_response_start" if response is None:
                start = message.http_response_start
                response = web.StreamResponse(status=start.status)
                for name, value in messages.pairs(start.headers):
                    if name.lower() not in _HOP_BY_HOP:
                        response.headers.add(name, value)
                await response.prepare(request)
            case "http_response_body" if response is not None:
                if message.http_response_body.body and request.method != "HEAD":
                    await response.write(message.http_response_body.body)
                if not message.http_response_body.more_body:
                    await response.write_eof()
                    return response
            case _:
                continue
    if response is None:
        return web.Response(status=500, text=exchange.failure())
    if request.transport is not None:  # a part of an answer must not look like the whole
        request.transport.abort()
    return response


async def answer_websocket(exchange: Exchange, request: web.Request) -> web.StreamResponse:
    """Carries a WebSocket to and fro."""
    exchange.tell(api_pb2.Asgi(websocket_connect=api_pb2.Asgi.WebsocketConnect()))
    socket: web.WebSocketResponse | None = None
    reader: asyncio.Task[None] | None = None
    try:
        async for message in exchange.said():
            match message.WhichOneof("type"):
                case "websocket_accept" if socket is None:
                    chosen = message.websocket_accept.subprotocol
                    socket = web.WebSocketResponse(protocols=[chosen] if chosen else ())
                    for name, value in messages.pairs(message.websocket_accept.headers):
                        socket.headers.add(name, value)
                    await socket.prepare(request)
                    reader = asyncio.create_task(_read_socket(exchange, socket))
                case "websocket_send" if socket is not None:
                    await _send(socket, message.websocket_send)
                case "websocket_close":
                    if socket is None:
                        return web.Response(status=403)
                    closing = message.websocket_close
                    await socket.close(code=closing.code or 1000, message=closing.reason.encode())
                    return socket
                case _:
                    continue
        if socket is None:
            return web.Response(status=500, text=exchange.failure())
        await socket.close(code=1011)
        return socket
    finally:
        if reader is not None:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader


async def _send(socket: web.WebSocketResponse, sent: api_pb2.Asgi.WebsocketSend) -> None:
    if socket.closed:
        return
    with contextlib.suppress(ConnectionError):
        if sent.HasField("text"):
            await socket.send_str(sent.text)
        else:
            await socket.send_bytes(sent.bytes)


async def _read_socket(exchange: Exchange, socket: web.WebSocketResponse) -> None:
    async for message in socket:
        received = api_pb2.Asgi.WebsocketReceive()
        if message.type is WSMsgType.TEXT:
            received.text = message.data
        elif message.type is WSMsgType.BINARY:
            received.bytes = message.data
        else:
            break
        exchange.tell(api_pb2.Asgi(websocket_receive=received))
    gone = api_pb2.Asgi.WebsocketDisconnect(code=socket.close_code or 1006)
    exchange.tell(api_pb2.Asgi(websocket_disconnect=gone))
