"""Bodies into fields: multipart and urlencoded forms with bracket notation, and JSON.

OpenAI's client always sends multipart, and flattens what is nested: `metadata[a]=1`, `tags[]=x`. A form's values are
text; the job's model turns "4" into 4. Whatever could be read in two ways (a field twice, a list that is an object
too) is refused by its name instead of guessed at. All is counted before it is built, so that a body of many
tiny things costs little. What is left may take milliseconds: all of it runs in threads.
"""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import unquote_to_bytes

from api.errors import BadRequest, printable
from api.multipart import Part, boundary_of, codec_of, part_names, read_parts, utf8
from ledger.models import PROMPT_MAX_CHARS

#: Most fields of one form. The Videos API has six; ours and a client's metadata leave ample room.
MAX_FIELDS = 128
#: Deepest nesting in bracket notation, `a[b][c]` being 3.
MAX_DEPTH = 8
#: Longest name of a field, characters.
MAX_NAME_CHARS = 1_024
#: Longest text of a field of a form, characters: four times the longest prompt, so that a prompt that is somewhat too
#: long is refused by its model, in the model's words.
MAX_VALUE_CHARS = 4 * PROMPT_MAX_CHARS

#: Most values of a JSON body, in all its lists and objects.
MAX_JSON_VALUES = 10_000

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


def read_urlencoded(body: bytes) -> dict[str, Any]:
    """An `application/x-www-form-urlencoded` body.

    Raises:
        BadRequest: it cannot be read.
    """
    pairs: list[Pair] = []
    for item in body.split(b"&", MAX_FIELDS + 1):
        if item:
            raw_name, _, raw_value = item.replace(b"+", b" ").partition(b"=")
            name = utf8(unquote_to_bytes(raw_name), "body")
            pairs.append((name, utf8(unquote_to_bytes(raw_value), name)))
    return nest(pairs)


#: A field that says in which charset the others are, where they do not say it themselves (RFC 7578, section 4.6).
CHARSET_FIELD = "_charset_"


def read_multipart(body: bytes, content_type: str) -> dict[str, Any]:
    """A `multipart/form-data` body; a file becomes an `Upload`.

    Raises:
        BadRequest: it cannot be read, is cut short, or exceeds a limit.
    """
    parts = read_parts(body, boundary_of(content_type), max_parts=MAX_FIELDS)
    said = next((part.content for part in parts if part.name == CHARSET_FIELD and part.filename is None), b"utf-8")
    return nest(_pairs(parts, utf8(said, CHARSET_FIELD)))


def _pairs(parts: Iterable[Part], charset: str) -> Iterator[Pair]:
    for part in parts:
        if part.filename is not None:
            yield part.name, Upload(part.filename, len(part.content))
        elif part.name != CHARSET_FIELD:
            yield part.name, utf8(part.content, part.name, codec=codec_of(part.charset or charset, part.name))


def multipart_names(prefix: bytes, content_type: str) -> list[str]:
    """The names of the parts that begin in the first bytes of a body, as far as they can be read."""
    try:
        return part_names(prefix, boundary_of(content_type), max_parts=MAX_FIELDS)
    except BadRequest:
        return []


#: A string of JSON, also one that is cut: what it holds is no structure. It matches at every quote and never goes back.
_JSON_STRING = re.compile(rb'"(?:[^"\\]++|\\.?+)*+"?+', re.DOTALL)


def _check_size(body: bytes) -> None:
    """Refuse what would be many small values, before any is made.

    Raises:
        BadRequest: there are too many, or they are nested too deeply.
    """
    structure = _JSON_STRING.sub(b"", body)
    if structure.count(b",") + structure.count(b":") > MAX_JSON_VALUES:
        raise BadRequest(f"Expected at most {MAX_JSON_VALUES} values, got more.", code="too_many_values", param="body")
    if structure.count(b"[") + structure.count(b"{") > MAX_JSON_VALUES:
        raise _nested_too_deeply()


def _nested_too_deeply() -> BadRequest:
    return BadRequest("The JSON is nested too deeply.", code="nested_too_deeply", param="body")


def read_json(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BadRequest: it is none, or holds a name twice, or NaN, or is nested too deeply.
    """
    _check_size(body)
    # Without the byte order mark that Windows' editors and PowerShell put before it.
    text = utf8(body.removeprefix(BOM_UTF8), "body")
    try:
        value = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_constant)
    except RecursionError:
        raise _nested_too_deeply() from None
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
