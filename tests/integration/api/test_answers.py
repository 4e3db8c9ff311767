"""What every answer carries, and what is left when something breaks inside."""

import json
import re
from collections.abc import Callable, Iterator

import httpx
import pytest
from structlog.testing import capture_logs

from api.messages import public_error
from ledger.retries import Cause
from ledger.states import State
from tests.support.api_server import KEY, VIDEO, RunningApi
from tests.support.ledgers import start_inhouse


def finish(api: RunningApi) -> None:
    record = start_inhouse(api.ledger)
    api.ledger.attempts.begin_delivery(record.id, record.attempt)
    api.ledger.attempts.complete(record.id, record.attempt, artifact=VIDEO, measurements={}, cost_usd_micros=0)


def let_it_be_logged(api: RunningApi) -> None:
    """A request's line follows its answer; the next request is served after it."""
    api.http.get("/healthz")


def test_a_pending_job_says_when_to_look_again_from_the_first_answer_on(api: RunningApi) -> None:
    video_id = api.post(prompt="x", seconds=8).json()["id"]
    first = api.http.get(f"/v1/videos/{video_id}")
    assert re.fullmatch(r"\d+", first.headers["openai-poll-after-ms"])
    assert 500 <= int(first.headers["openai-poll-after-ms"]) <= 15_000
    start_inhouse(api.ledger)
    running = api.http.get(f"/v1/videos/{video_id}")
    assert running.json()["status"] == "in_progress"
    assert "openai-poll-after-ms" in running.headers
    assert "openai-poll-after-ms" in api.http.get(f"/v1/videos/{video_id}/content").headers


def test_a_finished_job_says_where_its_video_is(api: RunningApi) -> None:
    video_id = api.post(prompt="x").json()["id"]
    finish(api)
    done = api.http.get(f"/v1/videos/{video_id}")
    assert "openai-poll-after-ms" not in done.headers
    for variant, key in ((None, VIDEO.key), ("video", VIDEO.key), ("thumbnail", VIDEO.thumbnail_key)):
        answer = api.http.get(f"/v1/videos/{video_id}/content", params={"variant": variant} if variant else {})
        assert answer.status_code == 302
        assert answer.headers["location"] == f"{api.signer.base}/videos/{key}?signature=abc"


def test_a_failed_job_has_no_video_and_says_why(api: RunningApi) -> None:
    video_id = api.post(prompt="x").json()["id"]
    record = start_inhouse(api.ledger)
    api.ledger.attempts.fail(
        record.id, record.attempt, cause=Cause.OUT_OF_MEMORY, message="too big", max_attempts=1, jitter=0.5
    )
    assert api.http.get(f"/v1/videos/{video_id}").json()["error"] == public_error("out_of_memory")
    answer = api.http.get(f"/v1/videos/{video_id}/content")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "out_of_memory"
    assert api.ledger.jobs.get(video_id).state is State.FAILED


def test_request_ids_differ_and_are_on_every_answer(api: RunningApi) -> None:
    ids = [api.http.get(path).headers["x-request-id"] for path in ("/healthz", "/readyz", "/v1/videos", "/x")]
    assert len(set(ids)) == 4


def test_a_bug_is_a_500_in_the_shape_with_an_id_that_is_in_the_log(api: RunningApi) -> None:
    # given
    video_id = api.post(prompt="x").json()["id"]
    finish(api)
    api.signer.broken = True
    # when
    with capture_logs() as lines:
        answer = api.http.get(f"/v1/videos/{video_id}/content")
        let_it_be_logged(api)
    # then
    assert answer.status_code == 500
    assert answer.headers["x-request-id"]
    assert answer.json()["error"] == {
        "message": "Something broke on our side. Quote the x-request-id of this answer to us.",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }
    assert [line["event"] for line in lines][:2] == ["request.crashed", "request.answered"]


@pytest.mark.parametrize(
    "act",
    [
        lambda api: api.post(prompt="the-secret-prompt"),
        lambda api: api.post(prompt="the-secret-prompt", seconds="bad"),
        lambda api: api.http.post(
            "/v1/videos", json={"prompt": "the-secret-prompt"}, headers={"Authorization": "Bearer hush"}
        ),
        lambda api: api.http.post(
            "/v1/videos", content=b"the-secret-prompt", headers={"content-type": "application/json"}
        ),
    ],
)
def test_neither_keys_nor_prompts_are_logged(api: RunningApi, act: Callable[[RunningApi], httpx.Response]) -> None:
    with capture_logs() as lines:
        act(api)
        let_it_be_logged(api)
    text = json.dumps(lines, default=str)
    assert "/v1/videos" in text
    for secret in ("the-secret-prompt", KEY, "hush"):
        assert secret not in text


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing(api: RunningApi) -> None:
    # given a body that stops coming
    def cut() -> Iterator[bytes]:
        yield b'{"prompt": '
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        api.http.post("/v1/videos", content=cut(), headers={"content-type": "application/json"})
    # then
    assert api.http.get("/healthz").status_code == 200
    assert api.keys() == {}
