"""OpenAI's own client drives us: create, poll, list, download, delete; and what it does when an answer is lost."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from ledger import nudges
from ledger.models import Kind, RenderJob
from ledger.states import State
from tests.support.api_server import KEY, OTHER_KEY, VIDEO, RunningApi
from tests.support.ledgers import start_inhouse

# OpenAI marks the whole Videos API as ending; the contract is what we serve.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture
def client(api: RunningApi) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{api.url}/v1", api_key=KEY, timeout=30) as client:
        yield client


def finish(api: RunningApi) -> None:
    """Run the next job to its end, as a GPU worker does."""
    record = start_inhouse(api.ledger)
    api.ledger.attempts.begin_delivery(record.id, record.attempt)
    api.ledger.attempts.complete(record.id, record.attempt, artifact=VIDEO, measurements={}, cost_usd_micros=1_500)


class LosingAnswers(httpx2.BaseTransport):
    """The network that loses the answers to the first so many requests, after the server has given them."""

    def __init__(self, lost: int) -> None:
        self._inner = httpx2.HTTPTransport()
        self.left = lost
        self.retry_counts: list[str] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.retry_counts.append(request.headers["x-stainless-retry-count"])
        response = self._inner.handle_request(request)
        if self.left:
            self.left -= 1
            response.read()
            response.close()
            raise httpx2.ReadError("the answer was lost", request=request)
        return response

    def close(self) -> None:
        self._inner.close()


@contextmanager
def files_server(seen: list[dict[str, str]]) -> Iterator[str]:
    """Where presigned addresses lead to in this test: another host, as far as a client can tell."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"mp4")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join(10)


def test_create_poll_download(api: RunningApi, client: OpenAI) -> None:
    # when
    with pytest.warns(DeprecationWarning, match="Sora API"):
        created = client.videos.create(prompt="a red ball", model="sora-2", seconds="8", size="1280x720")
    # then the job is in the ledger, whole, and a nudge was sent for it
    assert (created.status, created.seconds, created.size, created.model) == ("queued", "8", "1280x720", "sora-2")
    record = api.ledger.jobs.get(created.id)
    assert record.job == RenderJob(prompt="a red ball", model="sora-2", seconds=8, size="1280x720", tenant="default")
    assert api.nudger.sent.get(timeout=10) == nudges.decide(Kind.RENDER)

    # when a worker finishes it while the client polls
    worker = threading.Timer(0.2, finish, args=(api,))
    worker.start()
    done = client.videos.poll(created.id)
    worker.join()
    # then
    assert (done.status, done.progress, done.error) == ("completed", 100, None)
    assert done.created_at <= (done.completed_at or 0)
    assert done.model_extra is not None
    assert (done.model_extra["x_pool"], done.model_extra["x_attempt"]) == ("inhouse", 1)
    assert done.model_extra["x_cost_usd"] == 0.0015

    # when it is downloaded
    seen: list[dict[str, str]] = []
    with files_server(seen) as base:
        api.signer.base = base
        assert client.videos.download_content(created.id).read() == b"mp4"
        assert client.videos.download_content(created.id, variant="thumbnail").read() == b"mp4"
    # then the two files were asked for, and our key went to neither
    assert [request["path"].split("?")[0] for request in seen] == [
        f"/videos/{VIDEO.key}",
        f"/videos/{VIDEO.thumbnail_key}",
    ]
    assert not any("authorization" in request for request in seen)


def test_our_own_fields_travel_in_the_extra_body(api: RunningApi, client: OpenAI) -> None:
    created = client.videos.create(
        prompt="x",
        extra_body={"fps": 30, "seed": 7, "priority": 9, "deadline_s": 90, "burst": "never", "metadata": {"a": "1"}},
    )
    job = api.ledger.jobs.get(created.id).job
    assert isinstance(job, RenderJob)
    assert (job.fps, job.seed, job.priority, job.deadline_s, str(job.burst)) == (30, 7, 9, 90, "never")


def test_json_is_taken_too(client: OpenAI) -> None:
    created = client.videos.create(prompt="x", seconds="4", extra_headers={"Content-Type": "application/json"})
    assert created.status == "queued"


def test_iteration_goes_over_all_pages(client: OpenAI) -> None:
    made = [client.videos.create(prompt=f"number {n}").id for n in range(5)]
    assert [video.id for video in client.videos.list(limit=2)] == made[::-1]
    assert [video.id for video in client.videos.list(limit=2, order="asc")] == made
    first = client.videos.list(limit=2)
    assert (first.data[0].id, first.last_id, first.has_more) == (made[4], made[3], True)


def test_delete_cancels_a_job_that_is_alive_and_says_the_same_again(api: RunningApi, client: OpenAI) -> None:
    created = client.videos.create(prompt="x")
    for _ in range(2):
        answer = client.videos.delete(created.id)
        assert (answer.id, answer.deleted, answer.object) == (created.id, True, "video.deleted")
    assert api.ledger.jobs.get(created.id).state is State.CANCELLED
    # then a client that polls it ends, with a reason
    polled = client.videos.poll(created.id)
    assert polled.status == "failed"
    assert polled.error is not None
    assert polled.error.code == "cancelled"


def test_delete_keeps_a_video_that_is_finished_and_says_so(api: RunningApi, client: OpenAI) -> None:
    created = client.videos.create(prompt="x")
    finish(api)
    assert client.videos.delete(created.id).deleted is False
    assert client.videos.retrieve(created.id).status == "completed"


def test_errors_reach_the_client_with_their_parts(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.videos.create(prompt="x", seconds="99")  # type: ignore[arg-type]  # wrong on purpose
    assert (refused.value.param, refused.value.type, refused.value.code) == (
        "seconds", "invalid_request_error", "invalid_value",
    )  # fmt: skip
    assert refused.value.request_id is not None
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve("video_none")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").videos.create(prompt="x")
    with pytest.raises(openai.BadRequestError) as refused:
        client.videos.create(prompt="x", input_reference=("cat.png", b"\x89PNG", "image/png"))
    assert (refused.value.param, refused.value.code) == ("input_reference", "unsupported_field")


def test_another_tenants_video_does_not_exist(api: RunningApi, client: OpenAI) -> None:
    # given
    created = client.videos.create(prompt="mine")
    other = client.with_options(api_key=OTHER_KEY)
    before = api.keys()
    # when / then
    for attempt in (
        lambda: other.videos.retrieve(created.id),
        lambda: other.videos.delete(created.id),
        lambda: other.videos.download_content(created.id),
        lambda: other.videos.list(after=created.id),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()
    assert list(other.videos.list()) == []
    assert api.keys() == before
    assert api.ledger.jobs.get(created.id).state is State.QUEUED
    assert api.ledger.jobs.get(other.videos.create(prompt="theirs").id).tenant == "acme"


def test_a_download_too_early_is_refused_once(api: RunningApi) -> None:
    # given a client that counts its requests
    transport = LosingAnswers(0)
    with OpenAI(base_url=f"{api.url}/v1", api_key=KEY, http_client=httpx2.Client(transport=transport)) as client:
        created = client.videos.create(prompt="x")
        transport.retry_counts.clear()
        # when / then: the client, which retries a 409 by itself, does not
        with pytest.raises(openai.ConflictError) as refused:
            client.videos.download_content(created.id)
    assert refused.value.code == "video_not_ready"
    assert transport.retry_counts == ["0"]


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_answer_makes_no_second_job(api: RunningApi, lost: int) -> None:
    # given a network that loses answers
    transport = LosingAnswers(lost)
    with OpenAI(base_url=f"{api.url}/v1", api_key=KEY, http_client=httpx2.Client(transport=transport)) as client:
        # when the client sends its request again by itself
        created = client.videos.create(prompt="a red ball", seconds="4")
    # then
    assert transport.retry_counts == [str(n) for n in range(lost + 1)]
    assert [record.id for record in api.ledger.jobs.page(Kind.RENDER).records] == [created.id]


def test_two_equal_requests_on_purpose_are_two_jobs(api: RunningApi, client: OpenAI) -> None:
    ids = {client.videos.create(prompt="a red ball").id for _ in range(2)}
    assert {record.id for record in api.ledger.jobs.page(Kind.RENDER).records} == ids
    assert len(ids) == 2
