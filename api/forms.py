"""Bodies into fields, purely: multipart and urlencoded forms with bracket notation, and JSON.

OpenAI's client always sends multipart, and flattens what is nested: `metadata[a]=1`, `tags[]=x`. A form's values are
text; the job's model turns "4" into 4. Whatever could be read in two ways (a field twice, a list that is an object
too) is refused by its name instead of guessed at.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.errors import BadRequest, printable

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: Most fields of one form. The Videos API has six; ours and a client's metadata leave ample room.
MAX_FIELDS = 128
#: Deepest nesting in bracket notation, `a[b][c]` being 3.
MAX_DEPTH = 8

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


@dataclass(frozen=True)
class Upload:
    """A file that came in a form. Its bytes are not kept: no field of ours takes a file."""

    filename: str
    size_bytes: int


Pair = tuple[str, "str | Upload"]


def nest(pairs: Iterable[Pair]) -> dict[str, Any]:
    """Flat names into a tree: `a[b]=1` is `{"a": {"b": "1"}}`, `t[]=x` is `{"t": ["x"]}`.

    Raises:
        BadRequest: a field came twice, or in two shapes, or its name cannot be read.
    """
    tree: dict[str, Any] = {}
    for count, (name, value) in enumerate(pairs, start=1):
        if count > MAX_FIELDS:
            raise BadRequest(f"Expected at most {MAX_FIELDS} fields, got more.", code="too_many_fields", param="body")
        _insert(tree, _path(name), value)
    return tree


def _path(name: str) -> list[str]:
    found = _NAME.fullmatch(name)
    if found is None:
        raise _bad(name or "body", "expected a name like `a`, `a[b]` or `a[]`", "invalid_field_name")
    path = [found[1], *re.findall(r"\[([^\[\]]*)\]", found[2])]
    if len(path) > MAX_DEPTH:
        raise _bad(found[1], f"expected at most {MAX_DEPTH} levels of nesting, got {len(path)}", "nested_too_deeply")
    return path


def _insert(tree: dict[str, Any], path: Sequence[str], value: object) -> None:
    root, node = path[0], tree
    for head, following in pairwise(path):
        child = node.setdefault(head, [] if following == "" else {})
        if not isinstance(child, list if following == "" else dict):
            raise _bad(root, "expected one shape, got the field both with and without brackets", "ambiguous_field")
        if isinstance(child, list):
            # `a[]=x` appends; in `a[][b]=x` each pair is an element of its own.
            child.append(_leaf(path[path.index("", 1) + 1 :], value))
            return
        node = child
    if path[-1] in node:
        raise _bad(root, "expected it once, got it twice", "duplicate_field")
    node[path[-1]] = value


def _leaf(path: Sequence[str], value: object) -> object:
    for name in reversed(path):
        value = [value] if name == "" else {name: value}
    return value


def _bad(param: str, what: str, code: str) -> BadRequest:
    return BadRequest(f"{printable(param)}: {what}.", code=code, param=param)


def _text(raw: bytes, param: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(
            param or "body", f"expected UTF-8, got bytes that are none (at byte {error.start})", "invalid_encoding"
        ) from None


def read_urlencoded(body: bytes) -> dict[str, Any]:
    """An `application/x-www-form-urlencoded` body.

    Raises:
        BadRequest: it cannot be read.
    """
    pairs: list[Pair] = []
    for item in body.split(b"&", MAX_FIELDS + 1):
        if item:
            raw_name, _, raw_value = item.replace(b"+", b" ").partition(b"=")
            name = _text(unquote_to_bytes(raw_name), "body")
            pairs.append((name, _text(unquote_to_bytes(raw_value), name)))
    return nest(pairs)


@dataclass
class _Part:
    headers: dict[str, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)

    def pair(self) -> Pair:
        _, options = parse_options_header(self.headers.get("content-disposition"))
        name = _text(options.get(b"name", b""), "body")
        if b"filename" in options:
            return name, Upload(_text(options[b"filename"], name), len(self.data))
        return name, _text(bytes(self.data), name)


@dataclass
class _Collector:
    """Receives the parser's events. What is whole so far is in `parts`."""

    parts: list[_Part] = field(default_factory=list)
    ended: bool = False
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": lambda: self.parts.append(_Part()),
            "on_part_data": lambda data, start, end: self.parts[-1].data.extend(data[start:end]),
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_ended,
            "on_end": self._body_ended,
        }

    def _header_ended(self) -> None:
        self.parts[-1].headers[self._header.decode("latin-1").lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _body_ended(self) -> None:
        self.ended = True


def _collect(body: bytes, content_type: str) -> _Collector:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise BadRequest(
            "Content-Type: expected multipart/form-data with a boundary, got none.",
            code="invalid_body",
            param="Content-Type",
        )
    collector = _Collector()
    parser = MultipartParser(boundary, collector.callbacks())
    parser.write(body)
    return collector


def read_multipart(body: bytes, content_type: str) -> dict[str, Any]:
    """A `multipart/form-data` body; a file becomes an `Upload`.

    Raises:
        BadRequest: it cannot be read, or is cut short.
    """
    try:
        collector = _collect(body, content_type)
    except FormParserError:
        raise BadRequest(
            "The body is not multipart/form-data as its header says.", code="invalid_body", param="body"
        ) from None
    if not collector.ended:
        raise BadRequest("The multipart body ends before its last boundary.", code="invalid_body", param="body")
    return nest(part.pair() for part in collector.parts)


def multipart_names(prefix: bytes, content_type: str) -> list[str]:
    """The names of the parts that begin in the first bytes of a body, as far as they can be read."""
    try:
        return [part.pair()[0] for part in _collect(prefix, content_type).parts]
    except (FormParserError, BadRequest):
        return []


def read_json(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BadRequest: it is none, or holds a name twice, or NaN, or is nested too deeply.
    """
    text = _text(body, "body")
    try:
        value = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_constant)
    except RecursionError:
        raise BadRequest("The JSON is nested too deeply.", code="nested_too_deeply", param="body") from None
    except ValueError as error:
        position = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadRequest(
            f"Expected the body to be JSON, as its header says; it is not{position}.", code="invalid_json", param="body"
        ) from None
    if not isinstance(value, dict):
        raise BadRequest("Expected the body to be a JSON object.", code="invalid_json", param="body")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in pairs:
        if name in tree:
            raise _bad(name, "expected it once, got it twice", "duplicate_field")
        tree[name] = value
    return tree


def _no_constant(name: str) -> float:
    raise ValueError(name)
