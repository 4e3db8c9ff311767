"""`multipart/form-data` (RFC 7578, RFC 2046) of a body that is whole in memory, into parts. Pure.

Counted while it is split, so that a body of tiny parts is refused before it costs anything. What a part says about its
own encoding is honoured, or refused by the header's name: nothing is taken as it stands that was meant otherwise.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header

from api.errors import BadRequest, printable

#: Most headers of a part, and most bytes of them together.
MAX_HEADERS, MAX_HEADER_BYTES = 8, 4_224

#: RFC 2046, section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)")
_ENCODED_FILENAME = re.compile(rb";\s*filename\*", re.IGNORECASE)
#: In quoted-printable: a `=` that is neither a byte nor the end of a line.
_STRAY_EQUALS = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*\r?\n)")
#: How a charset may be named, and Python's name for it. What is not here is refused.
_CHARSETS: Mapping[str, str] = {
    "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "ascii": "ascii",
    "iso-8859-1": "latin-1", "latin1": "latin-1", "latin-1": "latin-1", "iso-8859-15": "iso8859-15",
    "windows-1252": "cp1252", "cp1252": "cp1252", "utf-16": "utf-16", "utf-16le": "utf-16-le", "utf-16be": "utf-16-be",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One part, its content decoded as its headers say. `filename` is None for a field."""

    name: str
    filename: str | None
    content: bytes
    #: What its own headers say of its text; None: nothing.
    charset: str | None


def boundary_of(content_type: str) -> bytes:
    """The boundary that a `Content-Type` names.

    Raises:
        BadRequest: it names none that can be one.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"").decode("latin-1")
    if _BOUNDARY.fullmatch(boundary) is None:
        raise BadRequest(
            "Content-Type: expected multipart/form-data with a boundary of 1 to 70 characters, got none.",
            code="invalid_body",
            param="Content-Type",
        )
    return boundary.encode()


def read_parts(body: bytes, boundary: bytes, *, max_parts: int) -> list[Part]:
    """The parts of a body. What stands before the first boundary and after the last is no part of it.

    Raises:
        BadRequest: it is none, is cut short, exceeds a limit, or a part is encoded in a way that is not read here.
    """
    return [_part(raw) for raw in _split(body, boundary, max_parts)]


def part_names(prefix: bytes, boundary: bytes, *, max_parts: int) -> list[str]:
    """The names of the parts that begin in the first bytes of a body, as far as they can be read."""
    names = []
    with suppress(BadRequest):
        # Closed by us, the part in which the prefix ends counts, too.
        for raw in _split(prefix + b"\r\n--" + boundary + b"--", boundary, max_parts):
            with suppress(BadRequest):
                names.append(_name_and_filename(_headers(raw)[0])[0])
    return names


def _split(body: bytes, boundary: bytes, max_parts: int) -> Iterator[bytes]:
    """What stands between two delimiters, from the end of the first one's line."""
    delimiter = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary) + rb"(--)?[ \t]*+(?=\r\n|\Z)")
    begin: int | None = None
    for count, found in enumerate(delimiter.finditer(body)):
        if begin is not None:
            yield body[begin : found.start()]
        if found[1]:
            if begin is None and found.start() > 0:
                raise _unreadable("it has no part")
            return
        if count >= max_parts:
            raise BadRequest(f"Expected at most {max_parts} fields, got more.", code="too_many_fields", param="body")
        begin = found.end()
    if begin is None:
        raise _unreadable("its boundary is not in it")
    raise BadRequest("The multipart body ends before its last boundary.", code="invalid_body", param="body")


def _unreadable(why: str) -> BadRequest:
    return BadRequest(
        f"The body is not multipart/form-data as its header says: {why}.", code="invalid_body", param="body"
    )


def _part(raw: bytes) -> Part:
    headers, content = _headers(raw)
    name, filename = _name_and_filename(headers)
    _, options = parse_options_header(headers.get(b"content-type", b""))
    charset = options.get(b"charset")
    encoding = headers.get(b"content-transfer-encoding", b"").strip().lower()
    return Part(
        name, filename, _decoded(content, encoding, name), None if charset is None else charset.decode("latin-1")
    )


def _headers(raw: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """The headers of a part, by names in small letters, and what follows them."""
    end = raw.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES)
    if not raw.startswith(b"\r\n") or end < 0:
        raise _unreadable(f"a part's headers do not end within {MAX_HEADER_BYTES} bytes")
    lines = raw[2:end].split(b"\r\n") if end else []
    if len(lines) > MAX_HEADERS:
        raise _unreadable(f"a part has more than {MAX_HEADERS} headers")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise _unreadable("a line of a part's headers is no header")
        if found[1].lower() in headers:
            raise _unreadable("a part has a header twice")
        headers[found[1].lower()] = found[2]
    return headers, raw[end + 4 :]


def _name_and_filename(headers: Mapping[bytes, bytes]) -> tuple[str, str | None]:
    disposition = headers.get(b"content-disposition", b"")
    _, options = parse_options_header(disposition)
    if b"name" not in options:
        raise _unreadable("a part has no name in its Content-Disposition")
    name = utf8(options[b"name"], "body")
    if b"filename" in options:
        return name, utf8(options[b"filename"], name)
    return name, "" if _ENCODED_FILENAME.search(disposition) else None


def _decoded(content: bytes, encoding: bytes, name: str) -> bytes:
    """Without its `Content-Transfer-Encoding`: RFC 7578 deprecates it, mail libraries write it all the same."""
    match encoding:
        case b"" | b"7bit" | b"8bit" | b"binary":
            return content
        case b"base64":
            with suppress(binascii.Error):
                return base64.b64decode(b"".join(content.split()), validate=True)
            said = "the part is no base64"
        case b"quoted-printable":
            if _STRAY_EQUALS.search(content + b"\r\n") is None:
                return binascii.a2b_qp(content)
            said = "the part is no quoted-printable"
        case _:
            said = "expected base64, quoted-printable, 7bit, 8bit or binary"
    raise BadRequest(
        f"{printable(name)}: Content-Transfer-Encoding: {said}.", code="unsupported_encoding", param=name or "body"
    )


def codec_of(charset: str, name: str) -> str:
    """Python's name of a part's charset.

    Raises:
        BadRequest: it is not read here.
    """
    codec = _CHARSETS.get(charset.strip().lower())
    if codec is None:
        raise BadRequest(
            f"{printable(name)}: Content-Type: the charset {printable(charset)} is not read here; send UTF-8.",
            code="unsupported_encoding",
            param=name or "body",
        )
    return codec


def utf8(raw: bytes, param: str, *, codec: str = "utf-8") -> str:
    """Text of bytes.

    Raises:
        BadRequest: they are no such text.
    """
    try:
        return raw.decode(codec)
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"{printable(param or 'body')}: expected {codec.upper()}, got bytes that are none (at byte {error.start}).",
            code="invalid_encoding",
            param=param or "body",
        ) from None
