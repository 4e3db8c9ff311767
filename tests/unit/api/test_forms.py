"""Bodies into fields: what is nested comes back, and what could be read in two ways is refused by its name."""

import json
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.errors import BadRequest
from api.forms import (
    MAX_DEPTH,
    MAX_FIELDS,
    MAX_NAME_CHARS,
    MAX_VALUE_CHARS,
    Upload,
    multipart_names,
    nest,
    read_json,
    read_multipart,
    read_urlencoded,
)

# Machines differ: what is checked is the outcome, never how fast it was found.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = st.text(st.characters(codec="utf-8", exclude_characters='[]"\r\n\\'), min_size=1, max_size=8).filter(
    lambda name: name == name.strip()
)
VALUES = st.text(st.characters(codec="utf-8"), max_size=40)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        VALUES | st.lists(VALUES, min_size=1, max_size=3),
        lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


def flatten(tree: object, name: str = "") -> list[tuple[str, str]]:
    """As OpenAI's client does it."""
    match tree:
        case dict():
            return [
                pair for key, child in tree.items() for pair in flatten(child, f"{name}[{key}]" if name else str(key))
            ]
        case list():
            return [pair for child in tree for pair in flatten(child, f"{name}[]")]
        case _:
            return [(name, str(tree))]


def multipart(pairs: list[tuple[str, str | bytes]]) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://x", files=[(name, (None, value)) for name, value in pairs])
    return request.read(), request.headers["content-type"]


@patient
@given(TREES)
def test_a_flattened_tree_comes_back(tree: dict[str, object]) -> None:
    assert nest(flatten(tree)) == tree


@patient
@given(TREES)
def test_a_tree_survives_an_urlencoded_body(tree: dict[str, object]) -> None:
    body = urlencode(flatten(tree)).encode()
    assert read_urlencoded(body) == tree


@patient
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5))
def test_fields_survive_a_multipart_body(fields: dict[str, str]) -> None:
    # given a body as httpx (and so OpenAI's client) writes it, which escapes some control characters in names
    body, content_type = multipart(list(fields.items()))
    # when / then
    assert sorted(read_multipart(body, content_type).values()) == sorted(fields.values())


@patient
@example(b"=\x80", "x")
@given(st.binary(max_size=300), st.sampled_from(["x", "----x", "a b"]))
def test_any_bytes_are_read_or_refused(body: bytes, boundary: str) -> None:
    for read in (
        lambda: read_multipart(body, f'multipart/form-data; boundary="{boundary}"'),
        lambda: read_multipart(
            b"--" + boundary.encode() + b"\r\n" + body, f'multipart/form-data; boundary="{boundary}"'
        ),
        lambda: read_urlencoded(body),
        lambda: read_json(body),
    ):
        try:
            outcome: object = read()
        except BadRequest as error:
            outcome = error
        assert isinstance(outcome, dict) or (isinstance(outcome, BadRequest) and outcome.param)


@patient
@given(st.recursive(st.none() | st.booleans() | st.integers() | VALUES, st.lists, max_leaves=5))
def test_json_is_read_as_the_standard_library_does(value: object) -> None:
    assert read_json(json.dumps({"a": value}).encode()) == {"a": value}


@pytest.mark.parametrize(
    ("pairs", "param", "code"),
    [
        ([("prompt", "a"), ("prompt", "b")], "prompt", "duplicate_field"),
        ([("m[a]", "1"), ("m[a]", "2")], "m", "duplicate_field"),
        ([("m", "1"), ("m[a]", "2")], "m", "ambiguous_field"),
        ([("m[a]", "1"), ("m", "2")], "m", "duplicate_field"),
        ([("m[]", "1"), ("m[a]", "2")], "m", "ambiguous_field"),
        ([("m[a]", "1"), ("m[]", "2")], "m", "ambiguous_field"),
        ([("[a]", "1")], "[a]", "invalid_field_name"),
        ([("a]b[", "1")], "a]b[", "invalid_field_name"),
        ([("", "1")], "body", "invalid_field_name"),
        ([("m" + "[a]" * MAX_DEPTH, "1")], "m", "nested_too_deeply"),
        ([(f"f{n}", "1") for n in range(MAX_FIELDS + 1)], "body", "too_many_fields"),
        ([("m[a]", "x" * (MAX_VALUE_CHARS + 1))], "m", "field_too_large"),
        ([("n" * (MAX_NAME_CHARS + 1), "1")], "body", "invalid_field_name"),
    ],
)
def test_what_is_ambiguous_is_refused_by_name(pairs: list[tuple[str, str]], param: str, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        nest(pairs)
    assert (refused.value.param, refused.value.code) == (param, code)


def test_lists_of_objects_are_read() -> None:
    assert nest([("a[][b]", "1"), ("a[][b]", "2"), ("a[]", "x")]) == {"a": [{"b": "1"}, {"b": "2"}, "x"]}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"", "body", "invalid_json"),
        (b"not json", "body", "invalid_json"),
        (b"[1]", "body", "invalid_json"),
        (b"\xff{}", "body", "invalid_encoding"),
        (b'{"seconds": NaN}', "body", "invalid_json"),
        (b'{"seconds": ' + b"9" * 5000 + b"}", "body", "invalid_json"),
        (b'{"a": ' + b"[" * 100_000, "body", "nested_too_deeply"),
        (b'{"a": 1, "a": 2}', "a", "duplicate_field"),
    ],
)
def test_bad_json_is_refused(body: bytes, param: str, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_json(body)
    assert (refused.value.param, refused.value.code) == (param, code)


def test_a_file_is_an_upload_without_its_bytes() -> None:
    request = httpx.Request("POST", "http://x", files={"picture": ("cat.png", b"\xff\xd8" * 10)})
    assert read_multipart(request.read(), request.headers["content-type"]) == {"picture": Upload("cat.png", 20)}


def test_a_multipart_body_that_is_cut_is_refused_and_its_names_can_still_be_read() -> None:
    # given
    body, content_type = multipart([("prompt", "a ball"), ("input_reference[image_url]", "x" * 100)])
    cut = body[:-60]
    # when / then
    with pytest.raises(BadRequest, match="last boundary"):
        read_multipart(cut, content_type)
    assert multipart_names(cut, content_type) == ["prompt", "input_reference[image_url]"]


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 500])
def test_a_multipart_body_without_a_usable_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(BadRequest):
        read_multipart(b"--x\r\n", content_type)
    assert multipart_names(b"--x\r\n", content_type) == []


def test_text_that_is_not_utf_8_is_refused_by_its_field() -> None:
    body, content_type = multipart([("prompt", b"\xff\xfe")])
    for read in (lambda: read_multipart(body, content_type), lambda: read_urlencoded(b"prompt=%FF%FE")):
        with pytest.raises(BadRequest) as refused:
            read()
        assert (refused.value.param, refused.value.code) == ("prompt", "invalid_encoding")


def test_a_boundary_as_long_as_the_standard_allows_is_read() -> None:
    # given the longest boundary / and one character more
    body = b'--%(b)b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--%(b)b--\r\n'
    longest, longer = b"b" * 70, b"b" * 71
    # when / then
    assert read_multipart(body % {b"b": longest}, f"multipart/form-data; boundary={longest.decode()}") == {"a": "1"}
    with pytest.raises(BadRequest) as refused:
        read_multipart(body % {b"b": longer}, f"multipart/form-data; boundary={longer.decode()}")
    assert refused.value.param == "Content-Type"


def part(headers: bytes, value: bytes = b"1") -> bytes:
    return b"--x\r\n" + headers + b"\r\n\r\n" + value + b"\r\n"


NAMED = b'Content-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (part(b"Content-Disposition: form-data"), "invalid_body"),  # no name
        (part(b"Content-Type: text/plain"), "invalid_body"),  # no Content-Disposition
        (part(NAMED + b"\r\nX: " + b"x" * 5_000), "invalid_body"),  # a header that is too long
        (part(NAMED + b"\r\nX: 1" * 20), "invalid_body"),  # too many headers
        (part(NAMED + b"\r\nX Y: 1"), "invalid_body"),  # no header
        (b"".join(part(NAMED.replace(b'"a"', b'"a%d"' % n)) for n in range(MAX_FIELDS + 1)), "too_many_fields"),
        (
            b"".join(part(NAMED + b'; filename="f"') for _ in range(MAX_FIELDS + 1)),
            "too_many_fields",
        ),
        (part(NAMED, b"x" * (MAX_VALUE_CHARS + 1)), "field_too_large"),
        (part(NAMED) + part(NAMED), "duplicate_field"),
        (part(NAMED.replace(b'"a"', b'"a\xff"')), "invalid_encoding"),
        (part(NAMED + b'; filename="\xff"'), "invalid_encoding"),
        (b"no boundary at all\r\n", "invalid_body"),
    ],
)
def test_a_multipart_body_beyond_its_limits_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_multipart(body + b"--x--\r\n", "multipart/form-data; boundary=x")
    assert refused.value.code == code
    assert refused.value.param


def test_a_charset_in_the_header_changes_nothing() -> None:
    # given UTF-8 under a header that claims otherwise / when it is read / then it is UTF-8 still
    body, content_type = multipart([("prompt", "ein Ball für Zoë")])
    assert read_multipart(body, f"{content_type}; charset=utf-16") == {"prompt": "ein Ball für Zoë"}


def test_brackets_in_multipart_are_nested() -> None:
    pairs: list[tuple[str, str | bytes]] = [("metadata[key]", "v"), ("seconds[]", "4"), ("seconds[]", "8")]
    assert read_multipart(*multipart(pairs)) == {"metadata": {"key": "v"}, "seconds": ["4", "8"]}
