"""The server's half of HTTP/2 against h2's client half, which is what the SDK has."""

import random
from typing import TypeVar

import hpack
import pytest
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError, StreamClosedError, TooManyStreamsError
from h2.settings import SettingCodes
from hpack.exceptions import HPACKDecodingError

from modal_local.hpack_fast import Decoder, Encoder
from modal_local.http2 import PREFACE, ServerConnection

Kind = TypeVar("Kind", bound=events.Event)
WINDOW_BYTES = 1 << 20
REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/x/Y"), (":authority", "here"), ("te", "trailers")]
ANSWER = [(":status", "200"), ("content-type", "application/grpc+proto")]


class Pair:
    """A client and a server, and what either has heard."""

    def __init__(self, stream_limit: int = 100) -> None:
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.server = ServerConnection(WINDOW_BYTES, stream_limit)
        self.heard_by_client: list[events.Event] = []
        self.heard_by_server: list[events.Event] = []
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.talk()

    def talk(self) -> None:
        """Lets both speak until both are silent; the wire cuts what is said in pieces as it likes."""
        while True:
            up, down = self.client.data_to_send(), self.server.data_to_send()
            if not up and not down:
                return
            for start in range(0, len(up), 1_000):
                self.heard_by_server += self.server.receive_data(up[start : start + 1_000])
            if down:
                self.heard_by_client += self.client.receive_data(down)

    def request(self, body: bytes = b"hello") -> int:
        """A whole request."""
        stream_id: int = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, REQUEST)
        self.client.send_data(stream_id, body, end_stream=True)
        self.talk()
        return stream_id

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.heard_by_client + self.heard_by_server if isinstance(event, kind)]


def test_a_request_and_its_answer() -> None:
    # given a request
    pair = Pair()
    stream_id = pair.request()
    [asked] = pair.of_kind(events.RequestReceived)
    assert (asked.stream_id, [tuple(field) for field in asked.headers]) == (stream_id, REQUEST)
    assert [event.data for event in pair.of_kind(events.DataReceived)] == [b"hello"]

    # when it is answered, then the client gets headers, data and trailers, and nothing is left of the stream
    pair.server.send_headers(stream_id, ANSWER)
    pair.server.send_data(stream_id, b"world")
    pair.server.send_headers(stream_id, [("grpc-status", "0")], end_stream=True)
    assert not pair.server.streams
    pair.talk()
    [answered] = pair.of_kind(events.ResponseReceived)
    [trailers] = pair.of_kind(events.TrailersReceived)
    assert [tuple(field) for field in answered.headers] == ANSWER
    assert [tuple(field) for field in trailers.headers] == [("grpc-status", "0")]
    assert {event.data for event in pair.of_kind(events.DataReceived)} == {b"hello", b"world"}
    with pytest.raises(StreamClosedError):
        pair.server.send_data(stream_id, b"more")


def test_the_peers_windows_hold_and_grow() -> None:
    # given a client that has room for less than an answer
    pair = Pair()
    stream_id = pair.request()
    pair.server.send_headers(stream_id, ANSWER)
    room = pair.server.local_flow_control_window(stream_id)
    assert room == 65_535
    for start in range(0, room, 16_384):
        pair.server.send_data(stream_id, b"x" * min(16_384, room - start))
    assert pair.server.local_flow_control_window(stream_id) == 0
    pair.talk()

    # when it makes room, on the connection and by a setting for all streams, then there is room
    pair.client.increment_flow_control_window(100_000)
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 65_535 + 5_000})
    pair.talk()
    assert pair.server.local_flow_control_window(stream_id) == 5_000
    assert pair.of_kind(events.WindowUpdated)
    assert pair.of_kind(events.SettingsAcknowledged)


def test_the_client_gets_room_again_for_what_was_used() -> None:
    # a body of four windows goes through when what came is used
    pair = Pair()
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_headers(stream_id, REQUEST)
    left, used = 4 * WINDOW_BYTES, 0
    while left:
        piece = min(left, 16_384, pair.client.local_flow_control_window(stream_id))
        assert piece, "the client has no room any more"
        pair.client.send_data(stream_id, b"x" * piece, end_stream=piece == left)
        left -= piece
        pair.talk()
        for event in pair.of_kind(events.DataReceived)[used:]:
            used += 1
            pair.server.acknowledge_received_data(event.flow_controlled_length, stream_id)
        pair.talk()
    assert pair.of_kind(events.StreamEnded)


def test_headers_of_many_frames_padding_and_pings() -> None:
    pair = Pair()
    long = [*REQUEST, ("x-long", "".join(chr(97 + number % 26) for number in range(20_000)))]
    pair.client.send_headers(1, long)
    pair.client.send_data(1, b"padded", end_stream=True, pad_length=9)
    pair.client.ping(b"are you?")
    pair.talk()
    [asked] = pair.of_kind(events.RequestReceived)
    assert [tuple(field) for field in asked.headers] == long
    [data] = pair.of_kind(events.DataReceived)
    assert (data.data, data.flow_controlled_length) == (b"padded", 6 + 9 + 1)
    assert [event.ping_data for event in pair.of_kind(events.PingAckReceived)] == [b"are you?"]
    # and an answer of many frames
    pair.server.send_headers(1, [*ANSWER, ("x-long", "z!" * 12_000)], end_stream=True)
    pair.talk()
    assert dict(pair.of_kind(events.ResponseReceived)[0].headers)["x-long"] == "z!" * 12_000


def test_either_side_may_break_a_stream_off() -> None:
    pair = Pair()
    first, second = pair.request(), pair.client.get_next_available_stream_id()
    pair.client.reset_stream(first, ErrorCodes.CANCEL)
    pair.client.send_headers(second, REQUEST)
    pair.talk()
    [reset] = pair.of_kind(events.StreamReset)
    assert (reset.stream_id, reset.error_code) == (first, ErrorCodes.CANCEL)
    # what the client still says on a stream that we broke off is of no harm
    pair.server.reset_stream(second)
    pair.client.send_data(second, b"late", end_stream=True)
    pair.talk()
    assert not pair.server.streams
    assert pair.of_kind(events.DataReceived)[-1].data == b"late"


def test_the_stream_limit_is_told_and_holds() -> None:
    # given a client that has two streams open
    pair = Pair(stream_limit=2)
    pair.request()
    pair.request()
    with pytest.raises(TooManyStreamsError):
        pair.request()
    pair.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 3})
    pair.talk()
    pair.request()
    assert len(pair.server.streams) == 3

    # when the limit is lowered, and a request comes from one that does not keep to it, then it is refused
    pair.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    pair.talk()
    pair.client.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 100
    pair.client.remote_settings.acknowledge()
    refused = pair.request()
    [reset] = pair.of_kind(events.StreamReset)
    assert (reset.stream_id, reset.error_code) == (refused, ErrorCodes.REFUSED_STREAM)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        PREFACE + b"\x00\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 70_000,  # a frame that is too large
        PREFACE + b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\xbf",  # headers by an index that is not there
        PREFACE + b"\x00\x00\x01\x01\x05\x00\x00\x00\x02\x82",  # a request on an even stream
        PREFACE + b"\x00\x00\x00\x09\x04\x00\x00\x00\x01",  # a continuation of nothing
        PREFACE + b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82" + b"\x00\x00\x00\x00\x01\x00\x00\x00\x01",
        PREFACE + b"\x00\x00\x02\x03\x00\x00\x00\x00\x01ab",  # a reset that is too short
    ],
)
def test_what_makes_no_sense_is_refused(said: bytes) -> None:
    with pytest.raises(ProtocolError):
        ServerConnection(WINDOW_BYTES, 100).receive_data(said)


def test_frames_that_nobody_knows_are_passed_over_and_a_goodbye_is_told() -> None:
    pair = Pair()
    pair.heard_by_server += pair.server.receive_data(b"\x00\x00\x03\xfa\x00\x00\x00\x00\x00abc")
    pair.client.close_connection()
    pair.talk()
    assert pair.of_kind(events.ConnectionTerminated)


# Header compression.


def test_headers_survive_both_ways_against_hpack() -> None:
    # given hpack's encoder with our decoder, and the other way round, over many blocks of one connection
    chance = random.Random(7)
    theirs, our_decoder = hpack.Encoder(), Decoder()
    ours, their_decoder = Encoder(), hpack.Decoder()
    for _ in range(300):
        if chance.random() < 0.02:
            size = chance.choice([0, 200, 4096])
            theirs.header_table_size = size
            ours.resize(chance.choice([0, 100, 4096]))
        block = [_field(chance) for _ in range(chance.randint(1, 20))]
        assert our_decoder.decode(theirs.encode(block, huffman=chance.random() < 0.5)) == block
        answer = chance.choice([ANSWER, [("grpc-status", "0")], [("grpc-message", "m" * chance.randint(1, 99))]])
        assert [tuple(field) for field in their_decoder.decode(ours.encode(answer))] == answer


def _field(chance: random.Random) -> tuple[str, str]:
    if chance.random() < 0.3:
        return ":method", "POST"
    name = chance.choice(["a", "b", "content-type", ":path", f"x-{'k' * chance.randint(1, 9)}"])
    return name, "".join(chr(chance.randint(32, 126)) for _ in range(chance.choice([0, 3, 40, 300])))


@pytest.mark.parametrize(
    "block",
    [b"\x80", b"\xff\x80\x01", b"\x82\x3f\xe1\xff\x03", b"\x40\x05ab", b"\x40\x01a\x82\xff\xff", b"\x00\x01\xff\x00"],
)
def test_a_block_that_makes_no_sense_is_refused(block: bytes) -> None:
    with pytest.raises(HPACKDecodingError):
        Decoder().decode(block)
