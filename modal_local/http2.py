"""The server's half of HTTP/2 (RFC 9113), as far as gRPC needs it.

In the place of h2's connection under grpclib, with the part of its interface that grpclib uses, and its events. An RPC
is five frames; h2 makes and takes them by way of state machines and objects that cost more than all else that the
server does for a spawn. Here a frame is a few bytes packed and a dictionary looked up.

What is not checked, because every peer is an SDK on this machine: that the peer keeps to the windows it was given, and
that it names its pseudo headers in order.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

from h2 import events
from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import ChangedSetting, SettingCodes
from hpack.exceptions import HPACKError

from modal_local.hpack_fast import Decoder, Encoder, Headers

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = range(10)
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_FRAME: Final = struct.Struct(">BHBBL")
_SETTING: Final = struct.Struct(">HL")
_NUMBER: Final = struct.Struct(">L")
_FRAME_BYTES: Final = 9
_DEFAULT_WINDOW_BYTES: Final = 65_535
_DEFAULT_FRAME_BYTES: Final = 16_384
_MAX_BLOCK_BYTES: Final = 256 * 1024
_PRIORITY_BYTES: Final = 5


@dataclass(slots=True)
class _Stream:
    """A stream that one side at least has not ended.

    Attributes:
        window: bytes that may still be sent.
        taken: bytes that were received and used, and for which the peer has not got new room yet.
    """

    window: int
    taken: int = 0
    ended_by_us: bool = False
    ended_by_peer: bool = False
    closed: bool = False


class ServerConnection:
    """One connection.

    Args:
        window_bytes: how much the peer may send ahead, on the connection and on each stream.
        stream_limit: how many streams it may have open.
    """

    def __init__(self, window_bytes: int, stream_limit: int) -> None:
        self.streams: dict[int, _Stream] = {}
        self.max_outbound_frame_size = _DEFAULT_FRAME_BYTES
        self.state_machine = SimpleNamespace(state=ConnectionState.SERVER_OPEN)
        self._window_bytes = window_bytes
        self._announced = self._stream_limit = stream_limit
        self._window = self._peer_window = _DEFAULT_WINDOW_BYTES
        self._taken = 0
        self._newest = 0
        self._decoder, self._encoder = Decoder(), Encoder()
        self._out: list[bytes] = []
        self._rest = b""
        self._greeted = False
        self._block: tuple[int, int, bytes] | None = None
        self._takers: dict[int, Callable[[int, int, bytes], list[events.Event]]] = {
            _DATA: self._take_data,
            _HEADERS: self._take_headers,
            _RST_STREAM: self._take_reset,
            _SETTINGS: self._take_settings,
            _PING: self._take_ping,
            _GOAWAY: self._take_goaway,
            _WINDOW_UPDATE: self._take_window_update,
            _CONTINUATION: self._take_continuation,
        }

    # Out.

    def initiate_connection(self) -> None:
        """Announces our settings."""
        self._settings({
            SettingCodes.MAX_CONCURRENT_STREAMS: self._announced,
            SettingCodes.INITIAL_WINDOW_SIZE: self._window_bytes,
        })  # fmt: skip
        self._frame(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(self._window_bytes - _DEFAULT_WINDOW_BYTES))

    def update_settings(self, settings: Mapping[SettingCodes, int]) -> None:
        """Announces changed settings."""
        self._announced = settings.get(SettingCodes.MAX_CONCURRENT_STREAMS, self._announced)
        self._settings(settings)

    def _settings(self, settings: Mapping[SettingCodes, int]) -> None:
        self._frame(_SETTINGS, 0, 0, b"".join(_SETTING.pack(code, value) for code, value in settings.items()))

    def data_to_send(self) -> bytes:
        """All that has been said since the last time."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._out += (_FRAME.pack(size >> 16, size & 0xFFFF, kind, flags, stream_id), payload)

    def send_headers(self, stream_id: int, headers: Headers, end_stream: bool = False) -> None:
        """Headers, or trailers if they end the stream."""
        stream = self._stream(stream_id)
        block = self._encoder.encode(headers)
        flags, kind = (_END_STREAM if end_stream else 0), _HEADERS
        while len(block) > self.max_outbound_frame_size:
            self._frame(kind, flags, stream_id, block[: self.max_outbound_frame_size])
            block, flags, kind = block[self.max_outbound_frame_size :], 0, _CONTINUATION
        self._frame(kind, flags | _END_HEADERS, stream_id, block)
        if end_stream:
            self._ended_by_us(stream_id, stream)

    def send_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """A piece that the windows have room for."""
        stream = self._stream(stream_id)
        stream.window -= len(data)
        self._window -= len(data)
        self._frame(_DATA, _END_STREAM if end_stream else 0, stream_id, data)
        if end_stream:
            self._ended_by_us(stream_id, stream)

    def end_stream(self, stream_id: int) -> None:
        """Nothing more will be sent."""
        self.send_data(stream_id, b"", end_stream=True)

    def reset_stream(self, stream_id: int, error_code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Breaks a stream off."""
        self._frame(_RST_STREAM, 0, stream_id, _NUMBER.pack(error_code))
        self._forget(stream_id)

    def ping(self, data: bytes) -> None:
        """Asks whether the peer is there."""
        self._frame(_PING, 0, 0, data)

    def local_flow_control_window(self, stream_id: int) -> int:
        """Bytes that may be sent now."""
        return min(self._window, self._stream(stream_id).window)

    def acknowledge_received_data(self, size: int, stream_id: int) -> None:
        """Received bytes have been used; once half a window is, the peer gets that much room again."""
        self._taken += size
        if self._taken * 2 >= self._window_bytes:
            self._frame(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(self._taken))
            self._taken = 0
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.ended_by_peer:
            stream.taken += size
            if stream.taken * 2 >= self._window_bytes:
                self._frame(_WINDOW_UPDATE, 0, stream_id, _NUMBER.pack(stream.taken))
                stream.taken = 0

    def _stream(self, stream_id: int) -> _Stream:
        stream = self.streams.get(stream_id)
        if stream is None or stream.ended_by_us:
            raise StreamClosedError(stream_id)
        return stream

    def _ended_by_us(self, stream_id: int, stream: _Stream) -> None:
        stream.ended_by_us = True
        if stream.ended_by_peer:
            self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            stream.closed = True

    # In.

    def receive_data(self, data: bytes) -> list[events.Event]:
        """What the peer has said.

        Raises:
            ProtocolError: it makes no sense; the connection is of no use any more.
        """
        data = self._rest + data if self._rest else data
        position, length = 0, len(data)
        if not self._greeted:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise ProtocolError(f"Expected HTTP/2, got {data[:24]!r}.")
            if length < len(PREFACE):
                self._rest = data
                return []
            self._greeted, position = True, len(PREFACE)
        happened: list[events.Event] = []
        while length - position >= _FRAME_BYTES:
            high, low, kind, flags, stream_id = _FRAME.unpack_from(data, position)
            size = high << 16 | low
            if size > _DEFAULT_FRAME_BYTES:
                raise ProtocolError(f"A frame of {size} bytes; {_DEFAULT_FRAME_BYTES} are allowed.")
            begin, end = position + _FRAME_BYTES, position + _FRAME_BYTES + size
            if end > length:
                break
            happened += self._take(kind, flags, stream_id & 0x7FFFFFFF, data[begin:end])
            position = end
        self._rest = data[position:]
        return happened

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> list[events.Event]:
        if self._block is not None and kind != _CONTINUATION:
            raise ProtocolError("Headers that were left off in the middle.")
        taker = self._takers.get(kind)
        if taker is None:
            return []  # of no meaning to a server, or to anyone: RFC 9113, 4.1
        try:
            return taker(flags, stream_id, payload)
        except (struct.error, IndexError, HPACKError) as error:
            raise ProtocolError(f"A frame of kind {kind}: {error}.") from error

    def _take_data(self, flags: int, stream_id: int, payload: bytes) -> list[events.Event]:
        size = len(payload)
        if flags & _PADDED:
            payload = payload[1 : size - payload[0]]
        stream = self.streams.get(stream_id)
        # That of a stream which is over is told, too: it has used up room.
        happened: list[events.Event] = [
            events.DataReceived(stream_id=stream_id, data=payload, flow_controlled_length=size)
        ]
        if stream is not None and flags & _END_STREAM:
            happened.append(self._ended_by_peer(stream_id, stream))
        return happened

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> list[events.Event]:
        if flags & _PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if flags & _WITH_PRIORITY:
            payload = payload[_PRIORITY_BYTES:]
        if not flags & _END_HEADERS:
            self._block = (flags, stream_id, payload)
            return []
        return self._take_block(flags, stream_id, payload)

    def _take_continuation(self, flags: int, stream_id: int, payload: bytes) -> list[events.Event]:
        if self._block is None or self._block[1] != stream_id:
            raise ProtocolError("A continuation of nothing.")
        first_flags, _, block = self._block
        block += payload
        if len(block) > _MAX_BLOCK_BYTES:
            raise ProtocolError(f"Headers of more than {_MAX_BLOCK_BYTES} bytes.")
        if not flags & _END_HEADERS:
            self._block = (first_flags, stream_id, block)
            return []
        self._block = None
        return self._take_block(first_flags, stream_id, block)

    def _take_block(self, flags: int, stream_id: int, block: bytes) -> list[events.Event]:
        headers: Any = self._decoder.decode(block)
        happened: list[events.Event] = []
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id <= self._newest:
                return []  # trailers of a stream that is over
            if not stream_id & 1:
                raise ProtocolError(f"A request on stream {stream_id}; a client's are odd.")
            self._newest = stream_id
            if len(self.streams) >= self._stream_limit:
                self._frame(_RST_STREAM, 0, stream_id, _NUMBER.pack(ErrorCodes.REFUSED_STREAM))
                return []
            stream = self.streams[stream_id] = _Stream(self._peer_window)
            happened.append(events.RequestReceived(stream_id=stream_id, headers=headers))
        if flags & _END_STREAM:
            happened.append(self._ended_by_peer(stream_id, stream))
        return happened

    def _ended_by_peer(self, stream_id: int, stream: _Stream) -> events.Event:
        stream.ended_by_peer = True
        if stream.ended_by_us:
            self._forget(stream_id)
        return events.StreamEnded(stream_id=stream_id)

    def _take_reset(self, flags: int, stream_id: int, payload: bytes) -> list[events.Event]:
        [code] = _NUMBER.unpack(payload)
        if stream_id not in self.streams:
            return []
        self._forget(stream_id)
        return [events.StreamReset(stream_id=stream_id, error_code=code, remote_reset=True)]

    def _take_settings(self, flags: int, stream_id: int, payload: bytes) -> list[events.Event]:
        if flags & _ACK:
            self._stream_limit = self._announced
            return []
        changed: dict[int, ChangedSetting] = {}
        for code, value in _SETTING.iter_unpack(payload):
            if code == SettingCodes.INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    stream.window += value - self._peer_window
                changed[code] = ChangedSetting(SettingCodes(code), self._peer_window, value)
                self._peer_window = value
            elif code == SettingCodes.MAX_FRAME_SIZE:
                self.max_outbound_frame_size = value
            elif code == SettingCodes.HEADER_TABLE_SIZE:
                self._encoder.resize(min(value, _DEFAULT_WINDOW_BYTES))
        self._frame(_SETTINGS, _ACK, 0, b"")
        told = events.RemoteSettingsChanged()
        told.changed_settings = changed
        return [told]

    def _take_ping(self, flags: int, stream_id: int, payload: bytes) -> list[events.Event]:
        if flags & _ACK:
            return [events.PingAckReceived(ping_data=payload)]
        self._frame(_PING, _ACK, 0, payload)
        return []

    def _take_goaway(self, flags: int, stream_id: int, payload: bytes) -> list[events.Event]:
        [code] = _NUMBER.unpack_from(payload, 4)
        self.state_machine.state = ConnectionState.CLOSED
        told = events.ConnectionTerminated()
        told.error_code = code
        return [told]

    def _take_window_update(self, flags: int, stream_id: int, payload: bytes) -> list[events.Event]:
        [more] = _NUMBER.unpack(payload)
        stream = self.streams.get(stream_id)
        if stream_id == 0:
            self._window += more
        elif stream is not None:
            stream.window += more
        return [events.WindowUpdated(stream_id=stream_id, delta=more)]
