"""What went wrong, as an answer in OpenAI's shape."""

import json

import pytest
from starlette.exceptions import HTTPException

from api.errors import ApiError, BadRequest, Conflict, translate
from ledger.errors import IdempotencyConflict, JobNotFound, LedgerFull, LedgerUnavailable


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (BadRequest("x", code="c", param="p"), 400, "invalid_request_error", "c"),
        (JobNotFound("video_1"), 404, "invalid_request_error", "not_found"),
        (HTTPException(404), 404, "invalid_request_error", "unknown_path"),
        (HTTPException(405, headers={"Allow": "GET"}), 405, "invalid_request_error", "method_not_allowed"),
        (HTTPException(418, "teapot"), 400, "invalid_request_error", "bad_request"),
        (HTTPException(502), 500, "server_error", "internal_error"),
        (IdempotencyConflict("k", "video_1"), 409, "invalid_request_error", "idempotency_key_reused"),
        (LedgerUnavailable("redis.internal:6379", "gone"), 503, "server_error", "ledger_unavailable"),
        (LedgerFull("redis.internal:6379"), 503, "server_error", "ledger_full"),
        (RuntimeError("a bug with a secret"), 500, "server_error", "internal_error"),
    ],
)
def test_each_error_has_the_shape(error: Exception, status: int, kind: str, code: str) -> None:
    # when
    response = translate(error).response()
    body = json.loads(bytes(response.body))
    # then
    assert response.status_code == status
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert (body["error"]["type"], body["error"]["code"]) == (kind, code)
    assert "redis.internal" not in body["error"]["message"]
    assert "secret" not in body["error"]["message"]


@pytest.mark.parametrize(
    ("error", "after"),
    [(LedgerUnavailable("a", "b", 0.2), "1"), (LedgerUnavailable("a", "b"), "2"), (LedgerFull("a"), "30")],
)
def test_what_may_be_tried_again_says_when(error: Exception, after: str) -> None:
    assert translate(error).headers["Retry-After"] == after


def test_a_conflict_is_never_retried() -> None:
    assert Conflict("x", code="c", headers={"a": "b"}).headers == {"x-should-retry": "false", "a": "b"}


def test_a_name_from_outside_is_short_and_can_be_written() -> None:
    error = ApiError("x", code="c", param="\ud800" + "n" * 500)
    assert error.param is not None
    assert len(error.param) == 80
    json.loads(bytes(error.response().body))
