"""Wrong requests: each gets a 4xx in OpenAI's shape that names the field, and leaves not one key in Redis."""

from typing import Any

import httpx
import pytest

from tests.support.api_server import RunningApi, running_api
from tests.support.redis_server import RedisServer

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
MULTIPART = {"content-type": "multipart/form-data; boundary=x"}


def part(name: str, value: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value + b"\r\n"


def fields(**changed: Any) -> dict[str, Any]:
    return {"json": {"prompt": "a ball", **changed}}


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "no prompt": ({"json": {"seconds": "4"}}, 400, "prompt"),
    "prompt empty": (fields(prompt=""), 400, "prompt"),
    "prompt too long": (fields(prompt="x" * 32_001), 400, "prompt"),
    "prompt a lone surrogate": ({"content": b'{"prompt": "\\ud800"}', "headers": JSON}, 400, "prompt"),
    "size not offered": (fields(size="1x1"), 400, "size"),
    "seconds 0": (fields(seconds=0), 400, "seconds"),
    "seconds -1": (fields(seconds="-1"), 400, "seconds"),
    "seconds 1e9": (fields(seconds=1e9), 400, "seconds"),
    "seconds 1e999": ({"content": b'{"prompt": "x", "seconds": 1e999}', "headers": JSON}, 400, "seconds"),
    "seconds abc": (fields(seconds="abc"), 400, "seconds"),
    "seconds abc in a form": ({"data": {"prompt": "x", "seconds": "abc"}}, 400, "seconds"),
    "seconds abc in multipart": ({"files": {"prompt": (None, "x"), "seconds": (None, "abc")}}, 400, "seconds"),
    "a picture": ({"data": {"prompt": "x"}, "files": {"input_reference": b"\x89PNG"}}, 400, "input_reference"),
    "a picture's address": (
        {"files": {"prompt": (None, "x"), "input_reference[image_url]": (None, "u")}}, 400, "input_reference"
    ),
    "a picture that is too large": (
        {"files": {"prompt": (None, "x"), "input_reference": b"\0" * 3_000_000}}, 400, "input_reference"
    ),
    "not JSON": ({"content": b"prompt=x", "headers": JSON}, 400, "body"),
    "JSON, no object": ({"json": ["prompt"]}, 400, "body"),
    "empty": ({"content": b"", "headers": JSON}, 400, "body"),
    "deep JSON": ({"content": b'{"prompt":' + b"[" * 100_000, "headers": JSON}, 400, "body"),
    "JSON, a field twice": ({"content": b'{"prompt": "a", "prompt": "b"}', "headers": JSON}, 400, "prompt"),
    "form, a field twice": ({"content": b"prompt=a&prompt=b", "headers": FORM}, 400, "prompt"),
    "multipart, a field twice": (
        {"content": part("prompt", b"a") + part("prompt", b"b") + b"--x--\r\n", "headers": MULTIPART}, 400, "prompt"
    ),
    "JSON not UTF-8": ({"content": b'{"prompt": "\xff"}', "headers": JSON}, 400, "body"),
    "form not UTF-8": ({"content": b"prompt=%ff", "headers": FORM}, 400, "prompt"),
    "multipart not UTF-8": ({"content": part("prompt", b"\xff") + b"--x--\r\n", "headers": MULTIPART}, 400, "prompt"),
    "multipart cut short": ({"content": part("prompt", b"a"), "headers": MULTIPART}, 400, "body"),
    "multipart, no boundary": (
        {"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, 400, "Content-Type"
    ),
    "of another type": ({"content": b"<x/>", "headers": {"content-type": "text/xml"}}, 415, "Content-Type"),
    "of no type": ({"content": b"{}"}, 415, "Content-Type"),
    "too large": (fields(prompt="x" * 1_100_000), 413, "body"),
    "far too large": (fields(prompt="x" * 20_000_000), 413, "body"),
    "key too long": ({**fields(), "headers": {"Idempotency-Key": "k" * 256}}, 400, "Idempotency-Key"),
    "no key": ({**fields(), "headers": {"Authorization": ""}}, 401, "Authorization"),
    "wrong key": ({**fields(), "headers": {"Authorization": "Bearer wrong"}}, 401, "Authorization"),
    "wrong key and a bad body": (
        {"content": b"x", "headers": {**JSON, "Authorization": "Bearer wrong"}}, 401, "Authorization"
    ),
}  # fmt: skip


def assert_refused(answer: httpx.Response, status: int, param: str | None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["code"]
    assert error["message"]
    assert error["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_submission_is_refused_and_leaves_no_trace(api: RunningApi, name: str) -> None:
    # given a ledger with one job in it
    assert api.post(prompt="good").status_code == 200
    api.nudger.sent.get(timeout=10)
    before = api.keys()
    counters = api.ledger.counters()
    # when
    request, status, param = WRONG[name]
    answer = api.http.post("/v1/videos", **request)
    # then
    assert_refused(answer, status, param)
    assert api.keys() == before
    assert api.ledger.counters() == counters
    assert api.nudger.sent.empty()


@pytest.mark.parametrize(
    ("method", "path", "status", "param"),
    [
        ("GET", "/v1/videos/video_00000000000000000000000000000000", 404, "video_id"),
        ("GET", "/v1/videos/%F0%9F%8E%A5", 404, "video_id"),
        ("GET", "/v1/videos/%00", 404, "video_id"),
        ("GET", "/v1/videos/%FF", 404, "video_id"),
        ("GET", "/v1/videos/" + "a" * 5000, 404, "video_id"),
        ("DELETE", "/v1/videos/video_none", 404, "video_id"),
        ("GET", "/v1/videos/video_none/content", 404, "video_id"),
        ("GET", "/v1/videos/video_none/content?variant=spritesheet", 400, "variant"),
        ("GET", "/v1/videos?limit=101", 400, "limit"),
        ("GET", "/v1/videos?limit=-1", 400, "limit"),
        ("GET", "/v1/videos?limit=x", 400, "limit"),
        ("GET", "/v1/videos?order=up", 400, "order"),
        ("GET", "/v1/videos?after=video_none", 404, "after"),
        ("GET", "/v1/nothing", 404, None),
        ("GET", "/v1/videos/", 404, "video_id"),
        ("PUT", "/v1/videos", 405, None),
        ("POST", "/v1/videos/edits", 405, None),
        ("POST", "/v1/videos/video_1/remix", 404, None),
    ],
)
def test_a_wrong_question_is_refused(api: RunningApi, method: str, path: str, status: int, param: str | None) -> None:
    answer = api.http.request(method, path)
    if path == "/v1/videos/":
        param = answer.json()["error"]["param"]  # no id at all: whether that is a path or an id is all the same
    assert_refused(answer, status, param)
    assert api.keys() == {}


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/videos/video_1", "/v1/videos/video_1/content"])
def test_every_route_asks_for_the_key(api: RunningApi, path: str) -> None:
    assert_refused(api.http.get(path, headers={"Authorization": "Bearer nope"}), 401, "Authorization")


def test_strict_mode_refuses_an_unknown_field_by_name(redis_server: RedisServer) -> None:
    with running_api(redis_server, api_unknown_fields="refuse") as api:
        for request in (fields(zoom=2), {"files": {"prompt": (None, "x"), "zoom[a]": (None, "2")}}):
            assert_refused(api.http.post("/v1/videos", **request), 400, "zoom")
        assert api.keys() == {}
        assert api.post(prompt="good").status_code == 200


def test_without_auth_anyone_is_the_default_tenant(redis_server: RedisServer) -> None:
    with running_api(redis_server, api_auth="off", api_keys="") as api:
        answer = httpx.post(f"{api.url}/v1/videos", json={"prompt": "x"})
        assert api.ledger.jobs.get(answer.json()["id"]).tenant == "default"
