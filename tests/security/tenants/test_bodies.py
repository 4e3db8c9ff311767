"""Bodies as people's tools send them, and as attackers do: decoded as they say, or refused by name, and never dear."""

import base64
import gzip
import quopri
import time
from pathlib import Path
from typing import Any

import pytest

from api.errors import BadRequest
from api.forms import Upload, read_json, read_multipart
from ledger import RenderJob
from modal_apps.training_request import read_config_file
from tests.support.api_server import RunningApi

FORM = "multipart/form-data; boundary=x"
PROMPT = "Ein Ball für Zoë = rund"


def part(value: bytes, *headers: str, name: str = "prompt") -> bytes:
    lines = [f'Content-Disposition: form-data; name="{name}"', *headers]
    return b"--x\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + value + b"\r\n"


def form(*parts: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    return before + b"".join(parts) + b"--x--\r\n" + after


BASE64 = base64.encodebytes(PROMPT.encode()).replace(b"\n", b"\r\n")
QUOTED = quopri.encodestring(PROMPT.encode())


@pytest.mark.parametrize(
    "body",
    [
        form(part(BASE64, "Content-Transfer-Encoding: base64")),
        form(part(BASE64, "content-transfer-encoding: BASE64 ")),
        form(part(QUOTED, "Content-Transfer-Encoding: quoted-printable")),
        form(part(PROMPT.encode(), "Content-Transfer-Encoding: 8bit")),
        form(part(PROMPT.encode("latin-1"), "Content-Type: text/plain; charset=ISO-8859-1")),
        form(part(PROMPT.encode("utf-16"), 'Content-Type: text/plain; charset="utf-16"')),
        form(
            part(base64.b64encode(PROMPT.encode("cp1252")), "Content-Type: text/plain; charset=windows-1252",
                 "Content-Transfer-Encoding: base64")
        ),
        form(part(b"iso-8859-1", name="_charset_"), part(PROMPT.encode("latin-1"))),
        form(part(PROMPT.encode()), before=b"This is a multi-part message in MIME format.\r\n"),
        form(part(PROMPT.encode()), before=b"\r\n"),
        form(part(PROMPT.encode()), after=b"an epilogue\r\n--x\r\n"),
    ],
)  # fmt: skip
def test_a_part_is_what_it_says_it_is(body: bytes) -> None:
    assert read_multipart(body, FORM) == {"prompt": PROMPT}


@pytest.mark.parametrize(
    ("header", "value", "named"),
    [
        ("Content-Transfer-Encoding: base64", b"not base64!", "Content-Transfer-Encoding"),
        ("Content-Transfer-Encoding: quoted-printable", b"100 = 1", "Content-Transfer-Encoding"),
        ("Content-Transfer-Encoding: x-uuencode", b"begin", "Content-Transfer-Encoding"),
        ("Content-Transfer-Encoding: gzip", b"x", "Content-Transfer-Encoding"),
        ("Content-Type: text/plain; charset=utf-7", b"+AGE-", "Content-Type"),
        ("Content-Type: text/plain; charset=zlib", b"x", "Content-Type"),
        ("Content-Type: text/plain; charset=idna", b"x", "Content-Type"),
    ],
)
def test_what_is_not_read_is_refused_by_the_headers_name(header: str, value: bytes, named: str) -> None:
    with pytest.raises(BadRequest, match=named) as refused:
        read_multipart(form(part(value, header)), FORM)
    assert (refused.value.code, refused.value.param) == ("unsupported_encoding", "prompt")


@pytest.mark.parametrize(
    "body",
    [
        form(part(b"x", 'Content-Disposition: form-data; name="seed"')),  # the header twice
        form(part(b"x", " folded: yes")),
        b"--x\r\nContent-Disposition: form-data; name=prompt\n\nx\r\n--x--\r\n",  # bare line feeds
        form(part(b"x")).replace(b"--x--", b"--x-"),
    ],
)
def test_a_part_that_can_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_multipart(body, FORM)


def test_what_looks_like_a_boundary_within_a_text_is_text() -> None:
    text = "a\r\n--xy\r\n --x--\r\n--x--y\r\nb --x"
    assert read_multipart(form(part(text.encode())), FORM) == {"prompt": text}


def test_a_file_with_an_encoded_name_is_a_file() -> None:
    body = b"--x\r\nContent-Disposition: form-data; name=\"p\"; filename*=UTF-8''cat.png\r\n\r\n123\r\n--x--\r\n"
    assert read_multipart(body, FORM) == {"p": Upload("", 3)}


@pytest.mark.parametrize(
    "request_",
    [
        {"content": b'\xef\xbb\xbf{"prompt": "a ball"}', "headers": {"content-type": "application/json"}},
        {"content": '{"prompt": "\ufeffa ball"}'.encode(), "headers": {"content-type": "application/json"}},
        {"data": {"prompt": "\ufeffa ball"}},
        {"files": {"prompt": (None, "\ufeffa ball".encode())}},
    ],
)
def test_a_byte_order_mark_is_no_part_of_anything(api: RunningApi, request_: dict[str, Any]) -> None:
    answer = api.http.post("/v1/videos", **request_)
    assert (answer.status_code, answer.json()["prompt"]) == (200, "a ball")


def test_nor_of_a_config_file_or_a_prompt_that_does_not_come_by_http(tmp_path: Path) -> None:
    for name, text in (("job.toml", 'recipe = "image_classifier"'), ("job.json", '{"recipe": "image_classifier"}')):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_config_file(tmp_path / name) == {"recipe": "image_classifier"}
    assert RenderJob(prompt="\ufeffa ball").prompt == "a ball"
    with pytest.raises(ValueError, match="white space"):
        RenderJob(prompt="\ufeff")


def test_a_compressed_body_is_refused_by_its_header(api: RunningApi) -> None:
    answer = api.http.post(
        "/v1/videos",
        content=gzip.compress(b'{"prompt": "x"}'),
        headers={"content-type": "application/json", "content-encoding": "gzip"},
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (415, "Content-Encoding")


MEBIBYTE = 1_048_576
DEAR = {
    "tiny parts": (form(*[part(b"", name="a")] * (MEBIBYTE // 60)), "too_many_fields"),
    "tiny files": (form(*[part(b"", "X: y", name="a")] * (MEBIBYTE // 70)), "too_many_fields"),
    "parts without headers": (b"--x\r\n\r\n\r\n" * (MEBIBYTE // 9) + b"--x--", "invalid_body"),
    "half boundaries": (form(part(b"\r\n--" * (MEBIBYTE // 4))), "field_too_large"),
    "spaces after a boundary": (b"--x" + b" " * MEBIBYTE + b"y\r\n--x--", "invalid_body"),
    "empty lists": (b'{"prompt": [' + b"[]," * (MEBIBYTE // 3) + b"[]]}", "too_many_values"),
    "empty objects": (b'{"prompt": "x", "m": [' + b"{}," * (MEBIBYTE // 3) + b"{}]}", "too_many_values"),
    "names": (b'{"prompt": "x"' + b"".join(b',"%d":1' % n for n in range(100_000)) + b"}", "too_many_values"),
    "depth": (b'{"prompt": ' + b"[" * MEBIBYTE, "nested_too_deeply"),
    "escaped quotes": (b'{"prompt": "' + b'\\"' * (MEBIBYTE // 2), "invalid_json"),
    "escaped quotes, cut": (b'{"prompt": "' + b'\\"' * (MEBIBYTE // 2) + b"\\", "invalid_json"),
}


@pytest.mark.parametrize("name", DEAR)
def test_a_body_of_many_tiny_things_is_refused_before_it_costs_anything(name: str) -> None:
    body, code = DEAR[name]
    began = time.process_time()
    with pytest.raises(BadRequest) as refused:
        read_multipart(body, FORM) if body.startswith(b"--x") else read_json(body)
    assert refused.value.code == code
    assert time.process_time() - began < 0.5


def test_a_long_prompt_full_of_brackets_is_a_prompt(api: RunningApi) -> None:
    assert api.post(prompt='[{,:"\\' * 5_000).status_code == 200


def test_a_listing_reads_no_long_specs(api: RunningApi) -> None:
    # given a hundred prompts that are as long as may be, of characters of four bytes, and a short one
    long = "🎈" * 32_000
    for _ in range(100):
        assert api.post(prompt=long).status_code == 200
    assert api.post(prompt="short").status_code == 200
    # when they are listed
    before = api.ledger.client.info("stats")["total_net_output_bytes"]
    answer = api.http.get("/v1/videos", params={"limit": 100})
    # then neither the answer nor what Redis was asked for is large, and a cut prompt says so
    assert len(answer.content) < 1_000_000
    assert api.ledger.client.info("stats")["total_net_output_bytes"] - before < 1_000_000
    first, second = answer.json()["data"][:2]
    assert (first["prompt"], "x_prompt_is_cut" in first) == ("short", False)
    assert (second["prompt"], second["x_prompt_is_cut"]) == (long[:256], True)
    assert (second["size"], second["seconds"]) == ("720x1280", "4")
    # and the job itself has it whole
    assert api.http.get(f"/v1/videos/{second['id']}").json()["prompt"] == long
