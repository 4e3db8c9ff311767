"""A tenant may have so much at once, whichever way its jobs come in; others notice nothing."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from ledger import BurstMode, Ledger, RenderJob
from ledger.errors import TenantQuotaExceeded
from ledger.quotas import TenantQuota
from ledger.retries import Cause, RetryRule
from tests.support.api_server import OTHER_KEY, RunningApi, running_api
from tests.support.ledgers import fresh_ledger, move_clock, start_inhouse
from tests.support.redis_server import RedisServer
from tests.support.settings import ledger_settings_of

QUOTAS = {"default": {"priority": 4, "burst": "auto", "jobs": 3, "spec_bytes": 40_000, "jobs_per_minute": 6}}


@pytest.fixture
def bound(redis_server: RedisServer) -> Iterator[Ledger]:
    with fresh_ledger(redis_server.url(), tenant_quotas=QUOTAS) as ledger:
        yield ledger


def submit(ledger: Ledger, key: str | None = None, **fields: Any) -> str:
    job = RenderJob.model_validate({"prompt": "x", **fields})
    return ledger.jobs.submit(job, source="celery", idempotency_key=key).job_id


def test_a_full_tenant_waits_and_others_do_not(bound: Ledger) -> None:
    # given a tenant with as many jobs as it may have
    ids = [submit(bound, f"k{n}") for n in range(3)]
    keys = set(bound.client.scan_iter(f"{bound.prefix}:job:*"))
    # when it sends one more / then that is refused, and leaves a count
    with pytest.raises(TenantQuotaExceeded) as refused:
        submit(bound)
    assert (refused.value.what, refused.value.retry_after_s > 0) == ("jobs", True)
    assert set(bound.client.scan_iter(f"{bound.prefix}:job:*")) == keys
    assert bound.counters()["rejected_total|kind=render|reason=tenant_jobs"] == 1
    # and one that it has sent before is the same, and another tenant's is accepted
    assert submit(bound, "k0") == ids[0]
    submit(bound, tenant="acme")


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_what_ends_makes_room(bound: Ledger, end: str) -> None:
    ids = [submit(bound) for _ in range(3)]
    if end == "cancelled":
        bound.jobs.cancel(ids[0])
        bound.jobs.cancel(ids[0])
    else:
        record = start_inhouse(bound)
        bound.attempts.fail(
            record.id, record.attempt, cause=Cause.ERROR, message="", max_attempts=1, jitter=0, rule=RetryRule(0)
        )
    submit(bound)
    with pytest.raises(TenantQuotaExceeded):
        submit(bound)
    for job_id in bound.client.hkeys(f"{bound.prefix}:open"):
        bound.jobs.cancel(str(job_id))
    for sums in ("open_jobs", "open_bytes"):
        assert bound.client.hget(f"{bound.prefix}:{sums}", "default") == "0"


def test_bytes_are_counted_as_they_are_kept(bound: Ledger) -> None:
    submit(bound, prompt="é" * 15_000)
    with pytest.raises(TenantQuotaExceeded, match="spec_bytes"):
        submit(bound, prompt="é" * 15_000)
    submit(bound, prompt="short")


def test_a_rate_is_one_on_average_and_a_minutes_worth_at_once(redis_server: RedisServer) -> None:
    with fresh_ledger(redis_server.url(), tenant_quota={"jobs_per_minute": 6}) as ledger:
        for _ in range(6):
            submit(ledger)
        with pytest.raises(TenantQuotaExceeded) as refused:
            submit(ledger)
        assert (refused.value.what, 8 <= refused.value.retry_after_s <= 10) == ("jobs_per_minute", True)
        move_clock(ledger, refused.value.retry_after_s)
        submit(ledger)
        with pytest.raises(TenantQuotaExceeded):
            submit(ledger)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({"priority": 9, "burst": "always"}, (4, BurstMode.AUTO)),
        ({"priority": 4, "burst": "auto"}, (4, BurstMode.AUTO)),
        ({"priority": 0, "burst": "never"}, (0, BurstMode.NEVER)),
        ({}, (4, BurstMode.AUTO)),
    ],
)
def test_priority_and_burst_have_a_ceiling(
    bound: Ledger, asked: dict[str, object], given: tuple[int, BurstMode]
) -> None:
    record = bound.jobs.get(submit(bound, **asked))
    assert (record.priority, record.burst) == given
    capped = TenantQuota.model_validate(QUOTAS["default"]).capped(RenderJob.model_validate({"prompt": "x", **asked}))
    assert (capped.priority, capped.burst) == given
    other = bound.jobs.get(submit(bound, tenant="acme", **asked))
    assert (other.priority, other.burst) == (asked.get("priority", 5), asked.get("burst", "auto"))


def test_a_client_without_settings_is_bound_by_the_ledgers(bound: Ledger) -> None:
    bound.jobs.announce_quotas()
    settings = {"ledger_url": bound.settings.url.get_secret_value(), "ledger_prefix": bound.prefix}
    with Ledger(ledger_settings_of(settings)) as client:
        for _ in range(3):
            assert client.jobs.get(submit(client, priority=9)).priority == 4
        with pytest.raises(TenantQuotaExceeded):
            submit(client)
    # when the operator takes the bounds away
    with Ledger(ledger_settings_of({**settings, "tenant_quotas": {}})) as free:
        free.jobs.announce_quotas()
    with Ledger(ledger_settings_of(settings)) as client:
        assert client.jobs.get(submit(client, priority=9)).priority == 9


@pytest.mark.parametrize("kept", ["", "no json", "[]", "7", '{"burst": "sometimes", "extra": 1}'])
def test_a_quota_that_cannot_be_read_stops_nobody(redis_server: RedisServer, kept: str) -> None:
    with fresh_ledger(redis_server.url()) as ledger:
        ledger.client.hset(f"{ledger.prefix}:quotas", "*", kept)
        submit(ledger)


@pytest.fixture(scope="module")
def full_api(redis_server: RedisServer) -> Iterator[RunningApi]:
    with running_api(redis_server, tenant_quotas=QUOTAS) as api:
        yield api


def test_the_door_answers_429_with_retry_after(full_api: RunningApi) -> None:
    answers = [full_api.post(prompt="x", priority=9, burst="always") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert (answers[0].json()["x_priority"], answers[0].json()["x_burst"]) == (4, "auto")
    error = answers[3].json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "tenant_quota_exceeded")
    assert int(answers[3].headers["retry-after"]) > 0
    theirs = httpx.post(
        f"{full_api.url}/v1/videos",
        json={"prompt": "x", "priority": 9},
        headers={"Authorization": f"Bearer {OTHER_KEY}"},
    )
    assert (theirs.status_code, theirs.json()["x_priority"]) == (200, 9)
    assert full_api.http.get("/v1/videos").status_code == 200


@pytest.mark.parametrize("quota", [{"priority": 10}, {"jobs": 0}, {"jobs_per_minute": -1}, {"burst": "x"}, {"job": 1}])
def test_a_wrong_quota_is_refused_at_start(quota: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ledger_settings_of({"tenant_quotas": {"acme": quota}})
