"""Bodies into fields: multipart and urlencoded forms with bracket notation, and JSON.

OpenAI's client always sends multipart, and flattens what is nested: `metadata[a]=1`, `tags[]=x`. A form's values are
text; the job's model turns "4" into 4. Whatever could be read in two ways (a field twice, a list that is an object
too) is refused by its name instead of guessed at. Starlette parses multipart; its urlencoded parser replaces bytes that
are not UTF-8 unnoticed, so that form is read here.
"""

import json
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from api.errors import BadRequest, printable
from ledger.models import PROMPT_MAX_CHARS

#: Most fields of one form. The Videos API has six; ours and a client's metadata leave ample room.
MAX_FIELDS = 128
#: Deepest nesting in bracket notation, `a[b][c]` being 3.
MAX_DEPTH = 8
#: Longest name of a field, characters.
MAX_NAME_CHARS = 1_024
#: Longest text of a field of a form, characters: four times the longest prompt, so that a prompt that is somewhat too
#: long is refused by its model, in the model's words. (The headers of a part have python-multipart's own bounds:
#: at most 8 of 4,224 bytes.)
MAX_VALUE_CHARS = 4 * PROMPT_MAX_CHARS

#: RFC 2046, section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
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
            raise _too_many_fields()
        path = _path(name)
        if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
            raise _bad(path[0], f"expected at most {MAX_VALUE_CHARS} characters, got {len(value)}", "field_too_large")
        _insert(tree, path, value)
    return tree


def _too_many_fields() -> BadRequest:
    return BadRequest(f"Expected at most {MAX_FIELDS} fields, got more.", code="too_many_fields", param="body")


def _path(name: str) -> list[str]:
    if len(name) > MAX_NAME_CHARS:
        raise _bad("body", f"expected names of at most {MAX_NAME_CHARS} characters", "invalid_field_name")
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


class _Parser(MultiPartParser):
    """Starlette's parser, which also tells whether the closing boundary came."""

    ended = False

    def on_end(self) -> None:
        """The parser has read the closing boundary."""
        self.ended = True


def _boundary(content_type: str) -> str:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"").decode("latin-1")
    if _BOUNDARY.fullmatch(boundary) is None:
        raise BadRequest(
            "Content-Type: expected multipart/form-data with a boundary of 1 to 70 characters, got none.",
            code="invalid_body",
            param="Content-Type",
        )
    return boundary


def _parser(body: bytes, boundary: str) -> _Parser:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    # Starlette reads bytes that are not UTF-8 as Latin-1, unnoticed. As Latin-1 all bytes come through; `_text` then
    # reads them as UTF-8, or refuses them.
    headers = Headers({"content-type": f'multipart/form-data; boundary="{boundary}"; charset=latin-1'})
    # The body is bounded already, so that a part may be as long; `nest` bounds what is kept of it, by its name.
    return _Parser(headers, chunks(), max_files=MAX_FIELDS, max_fields=MAX_FIELDS, max_part_size=max(1, len(body)))


def _pairs(items: Iterable[tuple[str, str | UploadFile]]) -> Iterable[Pair]:
    for raw_name, raw_value in items:
        name = _text(raw_name.encode("latin-1"), "body")
        if isinstance(raw_value, UploadFile):
            filename = _text((raw_value.filename or "").encode("latin-1"), name)
            yield name, Upload(filename, raw_value.size or 0)
        else:
            yield name, _text(raw_value.encode("latin-1"), name)


async def read_multipart(body: bytes, content_type: str) -> dict[str, Any]:
    """A `multipart/form-data` body; a file becomes an `Upload`.

    Raises:
        BadRequest: it cannot be read, is cut short, or exceeds a limit.
    """
    parser = _parser(body, _boundary(content_type))
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if len(parser.items) >= MAX_FIELDS:
            raise _too_many_fields() from None
        raise BadRequest(
            f"The body is not multipart/form-data as its header says: {error.message}",
            code="invalid_body",
            param="body",
        ) from None
    try:
        if not parser.ended:
            raise BadRequest("The multipart body ends before its last boundary.", code="invalid_body", param="body")
        return nest(_pairs(form.multi_items()))
    finally:
        await form.close()


async def multipart_names(prefix: bytes, content_type: str) -> list[str]:
    """The names of the parts that begin in the first bytes of a body, as far as they can be read."""
    try:
        boundary = _boundary(content_type)
        # Closed by us, the part in which the prefix ends counts, too.
        parser = _parser(prefix + f"\r\n--{boundary}--\r\n".encode(), boundary)
        with suppress(MultiPartException):
            form = await parser.parse()
            await form.close()
        return [_text(name.encode("latin-1"), "body") for name, _ in parser.items]
    except BadRequest:
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
