"""A job that would be refused a moment later is rejected by the API: 429 or 503, with Retry-After."""

import calendar
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import openai
import openai._base_client
import pytest
from openai import OpenAI

from ledger.models import Kind, RenderJob
from ledger.states import State
from tests.support.api_server import KEY, OTHER_KEY, RunningApi, running_api
from tests.support.redis_server import RedisServer
from workers.dispatch import Dispatcher
from workers.overflow.breaker import Breaker, Phase

# OpenAI marks the whole Videos API as ending; the contract is what we serve.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

#: A renderer's reservation is some $0.30; this is room for one.
ONE_CALL_USD = 0.5


@contextmanager
def strict(redis: RedisServer, **changed: object) -> Iterator[RunningApi]:
    """An API whose jobs are shed at once where Modal is wanted and may not be used."""
    with running_api(redis, **{"hold_timeout_s": 0, **changed}) as api:
        yield api


def client(api: RunningApi, *, key: str = KEY, max_retries: int = 2) -> OpenAI:
    return OpenAI(base_url=f"{api.url}/v1", api_key=key, timeout=30, max_retries=max_retries)


def dispatched(api: RunningApi, **fields: object) -> str:
    """The error code of the same job, had it slipped in: what a dispatcher does with it now; empty if it is placed."""
    job = RenderJob.model_validate({"prompt": "x", **fields})
    job_id = api.ledger.jobs.submit(job, source="client").job_id
    Dispatcher(api.ledger, api.nudger, api.settings).run(Kind.RENDER)  # type: ignore[arg-type]  # records nudges
    return api.ledger.jobs.get(job_id).error_code or ""


def month_left_s() -> float:
    now = time.gmtime()
    days = calendar.monthrange(now.tm_year, now.tm_mon)[1]
    return calendar.timegm((now.tm_year, now.tm_mon, days, 24, 0, 0)) - time.time()


def test_a_spent_budget_makes_the_client_fail_at_once(redis_server: RedisServer) -> None:
    # given a month's budget that is spent, no in-house slot, and OpenAI's client with its retries
    with strict(redis_server, month_cap_usd=0) as api, client(api) as asking:
        api.ledger.placement.view()  # (the limits of its environment are filled by now)
        before, began = api.keys(), time.monotonic()
        # when a video is asked for
        with pytest.raises(openai.RateLimitError) as refused:
            asking.videos.create(prompt="x")
        # then it fails at once, with the end of the month as the time to come back, in OpenAI's shape
        assert time.monotonic() - began < 2
        assert refused.value.response.headers["x-request-id"]
        assert int(refused.value.response.headers["retry-after"]) == pytest.approx(month_left_s(), abs=10)
        assert (refused.value.code, refused.value.type) == ("budget_exhausted", "insufficient_quota")
        # and nothing is left of it but its count, and no nudge was sent
        assert api.keys() == before | {f"{api.ledger.prefix}:counters": "hash"}
        assert api.ledger.counters() == {"rejected_total|kind=render|reason=month_budget": 1}
        assert api.nudger.sent.empty()
        # and a dispatcher would have refused it with the same word
        assert dispatched(api) == "budget_exhausted"


def test_one_tenants_budget_is_not_anothers(redis_server: RedisServer) -> None:
    # given a tenant without a dollar left
    with strict(redis_server, tenant_month_caps_usd={"acme": 0}) as api:
        with client(api, key=OTHER_KEY) as acme, client(api) as other:
            # when it and another ask / then only it is refused, and is told that it is its own budget
            with pytest.raises(openai.RateLimitError, match="Your budget for this month is spent"):
                acme.videos.create(prompt="x")
            assert other.videos.create(prompt="x").status == "queued"
        assert dispatched(api, tenant="acme") == "budget_exhausted"


def test_where_there_is_no_room_the_client_waits_as_long_as_it_is_told(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a Modal that is turned off for twenty seconds
    slept: list[float] = []
    with strict(redis_server) as api, client(api) as asking:
        api.ledger.money.set_override("off", who="ada", why="", for_s=20)
        assert dispatched(api, burst="always") == "overloaded"

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            api.ledger.money.set_override("auto", who="ada", why="")

        monkeypatch.setattr(openai._base_client, "time", SimpleNamespace(**{**vars(time), "sleep": sleep}))
        # when a video is asked for, and the operator relents while the client waits
        video = asking.videos.create(prompt="x", extra_body={"burst": "always"})
        # then the client has waited as long as it was told, and its second try is accepted
        assert video.status == "queued"
        assert slept == [pytest.approx(20, abs=1)]


def test_an_open_breaker_is_a_503_until_its_next_probe(redis_server: RedisServer) -> None:
    # given a breaker that probes Modal again in forty seconds
    with strict(redis_server) as api, client(api, max_retries=0) as asking:
        probe_at_ms = api.ledger.placement.view().now_ms + 40_000
        breaker = Breaker(Phase.OPEN, reason="token_refused", probe_at_ms=probe_at_ms)
        api.ledger.modal_calls.move_breaker(version=0, phase="open", reason="token_refused", memory=breaker.to_json())
        # when a video is asked for
        with pytest.raises(openai.InternalServerError) as refused:
            asking.videos.create(prompt="x")
        # then it is told to come back then; why Modal is away is not for outside
        assert refused.value.status_code == 503
        assert int(refused.value.response.headers["retry-after"]) == pytest.approx(40, abs=2)
        assert refused.value.code == "overloaded"
        assert "token" not in refused.value.message
        assert dispatched(api) == "overloaded"


def test_a_full_modal_is_a_503(redis_server: RedisServer) -> None:
    # given as many calls as may be
    with strict(redis_server, max_modal_attempts=1) as api, client(api, max_retries=0) as asking:
        dispatched(api)
        # when another is asked for / then there is no room
        with pytest.raises(openai.InternalServerError) as refused:
            asking.videos.create(prompt="x")
        assert refused.value.status_code == 503
        assert 5 <= int(refused.value.response.headers["retry-after"]) <= 600
        assert dispatched(api) == "overloaded"


def test_a_job_that_can_run_in_house_is_never_rejected(redis_server: RedisServer) -> None:
    # given no budget, but a live slot
    with strict(redis_server, month_cap_usd=0) as api, client(api) as asking:
        api.ledger.attempts.slot_lives([Kind.RENDER], worker="gpu-1", lease_s=60)
        # when jobs are asked for that need not go to Modal / then they are accepted
        assert asking.videos.create(prompt="x").status == "queued"
        assert asking.videos.create(prompt="x", extra_body={"burst": "never"}).status == "queued"
        # and one that must is not
        with pytest.raises(openai.RateLimitError):
            asking.videos.create(prompt="x", extra_body={"burst": "always"})


def test_a_job_that_may_wait_is_accepted_and_says_why_it_waits(redis_server: RedisServer) -> None:
    # given no budget, and jobs that are held for a while rather than refused
    with running_api(redis_server, month_cap_usd=0, hold_timeout_s=600) as api, client(api) as asking:
        # when one is asked for, and decided about
        video = asking.videos.create(prompt="x")
        Dispatcher(api.ledger, api.nudger, api.settings).run(Kind.RENDER)  # type: ignore[arg-type]  # records nudges
        # then it is queued to every client, and our own field says what it waits for
        found = asking.videos.retrieve(video.id)
        assert (found.status, found.error) == ("queued", None)
        assert found.model_extra is not None
        assert (found.model_extra["x_state"], found.model_extra["x_held_reason"]) == ("held", "month_budget")


def test_what_was_accepted_before_is_given_back_however_full_it_is_now(redis_server: RedisServer) -> None:
    # given a job that was accepted under a key, and one whose answer was lost
    with strict(redis_server) as api:
        key = {"Idempotency-Key": "k"}
        first = api.http.post("/v1/videos", json={"prompt": "x"}, headers=key).json()["id"]
        second = api.post(prompt="y").json()["id"]
        # when Modal is turned off, and both are sent again
        api.ledger.money.set_override("off", who="ada", why="")
        replayed = api.http.post("/v1/videos", json={"prompt": "x"}, headers=key)
        again = api.http.post("/v1/videos", json={"prompt": "y"}, headers={"x-stainless-retry-count": "1"})
        # then the same jobs are given back, and a new one is refused
        assert (replayed.status_code, replayed.json()["id"]) == (200, first)
        # (without a slot, `auto` waits in-house while Modal is off; `always` is refused)
        assert (again.status_code, again.json()["id"]) == (200, second)
        fresh = api.http.post("/v1/videos", json={"prompt": "z", "burst": "always"}, headers={"Idempotency-Key": "z"})
        assert fresh.status_code == 503


def test_the_door_and_the_ledger_agree_near_the_cap(redis_server: RedisServer) -> None:
    # given room for exactly so many calls
    with strict(redis_server, month_cap_usd=ONE_CALL_USD, drain_ratio=1) as api:
        answers = []
        for _ in range(4):
            # when a job is asked for, and decided about
            answer = api.post(prompt="x", burst="always")
            answers.append(answer.status_code)
            Dispatcher(api.ledger, api.nudger, api.settings).run(Kind.RENDER)  # type: ignore[arg-type]  # records nudges
        # then each job that the API accepted was placed, and it accepted as many as fit
        records = api.ledger.jobs.page(Kind.RENDER, limit=10).records
        assert {record.state for record in records} == {State.PLACED}
        assert answers == [200] * len(records) + [429] * (4 - len(records))
        assert 0 < len(records) < 4
