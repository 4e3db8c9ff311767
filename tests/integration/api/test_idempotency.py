"""The same request again: once with a key, once as a repetition, and never across tenants or bodies."""

import threading

import httpx
import pytest

from api.submission import RETRY_WINDOW_S, submit_once
from ledger.models import Kind, RenderJob
from tests.support.api_server import OTHER_KEY, RunningApi
from tests.support.ledgers import move_clock

AGAIN = {"x-stainless-retry-count": "1"}


def post(api: RunningApi, prompt: str = "a ball", **headers: str) -> httpx.Response:
    return api.http.post(
        "/v1/videos", json={"prompt": prompt}, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def jobs(api: RunningApi) -> int:
    return len(api.ledger.jobs.page(Kind.RENDER).records)


def test_the_same_key_is_the_same_job(api: RunningApi) -> None:
    first, second = post(api, Idempotency_Key="k1"), post(api, Idempotency_Key="k1")
    assert first.json() == second.json()
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert jobs(api) == 1


def test_a_key_at_the_same_instant_from_many_sides_is_one_job(api: RunningApi) -> None:
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(post(api, Idempotency_Key="k1"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert jobs(api) == 1


def test_a_key_with_another_body_is_a_conflict_that_is_not_retried(api: RunningApi) -> None:
    post(api, Idempotency_Key="k1")
    before = api.keys()
    answer = post(api, prompt="another", Idempotency_Key="k1")
    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["param"] == "Idempotency-Key"
    assert api.keys() == before


def test_a_key_is_a_tenants_own(api: RunningApi) -> None:
    mine = post(api, Idempotency_Key="k1").json()["id"]
    theirs = post(api, Idempotency_Key="k1", Authorization=f"Bearer {OTHER_KEY}").json()["id"]
    assert mine != theirs


def test_a_repetition_gets_the_newest_equal_job(api: RunningApi) -> None:
    post(api)
    newest = post(api).json()["id"]
    post(api, prompt="something else")
    assert post(api, **AGAIN).json()["id"] == newest
    assert jobs(api) == 3


def test_a_repetition_finds_its_job_behind_many_others(api: RunningApi) -> None:
    first = post(api).json()["id"]
    for n in range(150):
        api.ledger.jobs.submit(RenderJob(prompt=f"number {n}"), source="client")
    assert post(api, **AGAIN).json()["id"] == first


@pytest.mark.parametrize(
    ("prompt", "key"), [("a ball", OTHER_KEY), ("another", None)], ids=["another tenant", "another body"]
)
def test_a_repetition_of_nothing_is_a_new_job(api: RunningApi, prompt: str, key: str | None) -> None:
    first = post(api).json()["id"]
    headers = {**AGAIN, **({"Authorization": f"Bearer {key}"} if key else {})}
    assert post(api, prompt=prompt, **headers).json()["id"] != first


def test_a_key_counts_more_than_a_repetition(api: RunningApi) -> None:
    first = post(api).json()["id"]
    assert post(api, **AGAIN, Idempotency_Key="k9").json()["id"] != first


def test_a_repetition_does_not_look_back_beyond_the_window(api: RunningApi) -> None:
    # given a job from before the window
    job = RenderJob(prompt="a ball")
    old = api.ledger.jobs.submit(job, source="api").job_id
    created_ms = api.ledger.jobs.get(old).created_ms
    move_clock(api.ledger, RETRY_WINDOW_S + 1)
    # when / then
    late_ms = created_ms + (RETRY_WINDOW_S + 1) * 1000
    new = submit_once(api.ledger.jobs, job, idempotency_key=None, is_retry=True, now_ms=late_ms)
    assert new.created
    assert new.record.id != old
