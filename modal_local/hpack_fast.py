"""Header compression (RFC 7541) for many small requests of one peer that all look alike.

The tables, Huffman codes and the encoder are hpack's. What is done here is to decode the common case, a field that the
table holds, without a detour, and to keep what the encoder has made of an answer's headers while its table stands.
"""

from collections.abc import Sequence
from typing import Final

import hpack
from hpack.exceptions import HPACKDecodingError
from hpack.hpack import decode_integer
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE
from hpack.table import HeaderTable

_INDEXED, _LITERAL_INDEXED, _SIZE_UPDATE = 0x80, 0x40, 0x20
_PREFIX_BITS: Final = {True: 6, False: 4}
_STATIC: Final = HeaderTable.STATIC_TABLE
_STATIC_FIELDS: Final = len(_STATIC)
# A block that says more than this is no request of an SDK's.
_MAX_HEADERS_BYTES: Final = 64 * 1024

Headers = Sequence[tuple[str, str]]


class Decoder:
    """Decodes the header blocks of one connection, in their order."""

    def __init__(self) -> None:
        self._table = HeaderTable()
        self._largest_table = self._table.maxsize

    def decode(self, data: bytes) -> list[tuple[str, str]]:
        """The fields of a block.

        Raises:
            HPACKDecodingError: the block makes no sense; the connection is of no use any more.
        """
        recent = self._table.dynamic_entries
        fields: list[tuple[str, str]] = []
        position, length, size = 0, len(data), 0
        try:
            while position < length:
                first = data[position]
                if first >= _INDEXED and first != 0xFF:  # noqa: PLR2004 - 0xFF: the index goes on in the next byte
                    index = first - _INDEXED
                    name, value = recent[index - _STATIC_FIELDS - 1] if index > _STATIC_FIELDS else _STATIC[index - 1]
                    if not index:
                        raise HPACKDecodingError("A field with index 0.")
                    position += 1
                elif first >= _LITERAL_INDEXED or not first & _SIZE_UPDATE:
                    name, value, position = self._slow(data, position)
                else:
                    position = self._resize(data, position)
                    continue
                size += len(name) + len(value)
                fields.append((name.decode(), value.decode()))
        except (IndexError, UnicodeDecodeError) as error:
            raise HPACKDecodingError(f"A header block of {length} bytes: {error}.") from error
        if size > _MAX_HEADERS_BYTES:
            raise HPACKDecodingError(f"Headers of {size} bytes; {_MAX_HEADERS_BYTES} are taken.")
        return fields

    def _slow(self, data: bytes, position: int) -> tuple[bytes, bytes, int]:
        first = data[position]
        if first & _INDEXED:
            index, used = decode_integer(data[position : position + 8], 7)
            name, value = self._table.get_by_index(index)
            return name, value, position + used
        kept = bool(first & _LITERAL_INDEXED)
        index, used = decode_integer(data[position : position + 8], _PREFIX_BITS[kept])
        position += used
        if index:
            name, _ = self._table.get_by_index(index)
        else:
            name, position = _text(data, position)
        value, position = _text(data, position)
        if kept:
            self._table.add(name, value)
        return name, value, position

    def _resize(self, data: bytes, position: int) -> int:
        size, used = decode_integer(data[position : position + 8], 5)
        if size > self._largest_table:
            raise HPACKDecodingError(f"A header table of {size} bytes; {self._largest_table} are allowed.")
        self._table.maxsize = size
        return position + used


def _text(data: bytes, position: int) -> tuple[bytes, int]:
    """A string at a position, and where it ends."""
    huffman = data[position] & 0x80
    length, used = decode_integer(data[position : position + 8], 7)
    position += used
    text = data[position : position + length]
    if len(text) < length:
        raise HPACKDecodingError("A string that ends after its block.")
    return (_huffman(text) if huffman else text), position + length


# Made as they are met, by state and byte: the next state, what is said, whether a string may end here.
_steps: dict[int, tuple[int, bytes, int]] = {}


def _huffman(text: bytes) -> bytes:
    """Decodes by whole bytes, where hpack goes by halves."""
    state, complete, pieces = 0, HUFFMAN_COMPLETE, []
    for byte in text:
        key = state << 8 | byte
        step = _steps.get(key)
        if step is None:
            step = _steps[key] = _huffman_step(state, byte)
        state, piece, complete = step
        pieces.append(piece)
    if not complete:
        raise HPACKDecodingError("A Huffman string that ends in the middle of a letter.")
    return b"".join(pieces)


def _huffman_step(state: int, byte: int) -> tuple[int, bytes, int]:
    said, flags = bytearray(), 0
    for half in (byte >> 4, byte & 0xF):
        state, flags, letter = HUFFMAN_TABLE[state * 16 + half]
        if flags & HUFFMAN_FAIL:
            raise HPACKDecodingError("A Huffman string that is none.")
        if flags & HUFFMAN_EMIT_SYMBOL:
            said.append(letter)
    return state, bytes(said), flags & HUFFMAN_COMPLETE


class Encoder:
    """Encodes the header blocks of one connection, in their order."""

    def __init__(self) -> None:
        self._encoder = hpack.Encoder()
        self._known: dict[tuple[tuple[str, str], ...], bytes] = {}

    def encode(self, headers: Headers) -> bytes:
        """A block."""
        key = tuple(headers)
        block = self._known.get(key)
        if block is not None:
            return block
        entries = self._encoder.header_table.dynamic_entries
        before = (len(entries), entries[0] if entries else None)
        resized = self._encoder.header_table.resized
        block = self._encoder.encode(headers)
        if resized or before != (len(entries), entries[0] if entries else None):
            self._known.clear()  # what stands in the table has moved
        else:
            self._known[key] = block
        return block

    def resize(self, size: int) -> None:
        """The peer says how large the table may be."""
        self._encoder.header_table_size = size
        self._known.clear()
