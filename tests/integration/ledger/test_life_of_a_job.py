"""The way of a job through the real scripts on a real Redis, in-house and on Modal."""

import pytest

from ledger import IdempotencyConflict, JobNotFound, Kind, Ledger, Pool, State
from ledger.decisions import Hold, RunInhouse, Shed
from ledger.models import Artifact, RenderJob
from ledger.outcomes import AlreadyEnded, Cancelled, Completed, Delivering, Failed, Held, Lost, Renewed, Requeued, Stale
from ledger.retries import RULES, Cause, RetryRule
from tests.support.ledgers import MODAL, RECEIPT, ROOMY, claim_spawns, limited, move_clock, place, start_inhouse, submit

ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=3, sha256="00")


def _finish(ledger: Ledger, job_id: str, attempt: int, cost: int = 0) -> Completed | Stale:
    return ledger.attempts.complete(job_id, attempt, artifact=ARTIFACT, measurements={}, cost_usd_micros=cost)


def test_in_house_from_submission_to_artifact(ledger: Ledger) -> None:
    # Given a job
    job_id = submit(ledger)
    assert ledger.jobs.get(job_id).state is State.QUEUED
    # When it is placed, run, delivered and completed
    record = start_inhouse(ledger)
    assert (record.id, record.attempt, record.pool, record.worker) == (job_id, 1, Pool.INHOUSE, "gpu-1")
    assert ledger.attempts.renew(job_id, 1, lease_s=10, progress=40) == Renewed()
    assert ledger.jobs.get(job_id).progress == 40
    assert ledger.attempts.begin_delivery(job_id, 1) == Delivering()
    assert ledger.attempts.renew(job_id, 1, lease_s=10) == Renewed()
    assert _finish(ledger, job_id, 1, cost=500) == Completed()
    # Then it points to its artifact, its history is whole, and it is a member of nothing alive
    done = ledger.jobs.get(job_id)
    assert (done.state, done.artifact, done.cost_usd_micros, done.progress) == (State.COMPLETED, ARTIFACT, 500, 100)
    assert [event.state for event in ledger.jobs.history(job_id)] == [
        "queued", "placed", "running", "delivering", "completed",
    ]  # fmt: skip
    assert len(ledger.jobs.receipts(job_id)) == 1
    view = ledger.placement.view().of(Kind.RENDER)
    assert (view.queued, view.waiting_inhouse, view.active_inhouse) == (0, 0, 0)
    assert ledger.counters()["jobs_total|kind=render|outcome=completed|pool=inhouse"] == 1
    for name in ("leases", "nudges:render", "nudges:inhouse.render"):
        assert ledger.client.zcard(f"{ledger.prefix}:{name}") == 0


def test_on_modal_money_is_reserved_and_settled(ledger: Ledger) -> None:
    job_id = submit(ledger)
    place(ledger, MODAL)
    assert ledger.placement.view().money.reserved_usd_micros == 1_000_000
    assert ledger.placement.view().modal_attempts == 1
    (spawn,) = claim_spawns(ledger, worker="o", limit=10, lease_s=10)
    assert spawn.id == job_id
    assert spawn.gpu == "H100"
    assert ledger.modal_calls.record_call(job_id, 1, call_id="fc-1", first_check_s=0, deadline_s=60)
    (due,) = ledger.modal_calls.claim_due(limit=10, lease_s=10).calls
    assert (due.job_id, due.call_id) == (job_id, "fc-1")
    assert ledger.modal_calls.claim_due(limit=10, lease_s=10).calls == []
    assert ledger.attempts.begin_delivery(job_id, 1) == Delivering()
    assert _finish(ledger, job_id, 1, cost=250_000) == Completed()
    assert _finish(ledger, job_id, 1, cost=250_000) == Completed(already=True)
    view = ledger.placement.view()
    assert (view.money.reserved_usd_micros, view.money.spent_usd_micros, view.modal_attempts) == (0, 250_000, 0)


def test_modal_never_counts_into_the_in_house_depth(ledger: Ledger) -> None:
    for _ in range(3):
        submit(ledger)
        place(ledger, MODAL)
    view = ledger.placement.view().of(Kind.RENDER)
    assert (view.waiting_inhouse, view.active_inhouse) == (0, 0)


def test_priority_comes_first_then_age(ledger: Ledger) -> None:
    ids = [submit(ledger, priority=priority) for priority in (5, 9, 0, 5)]
    claimed = ledger.placement.claim_queued(Kind.RENDER, limit=10, lease_s=10)
    assert [claim.record.id for claim in claimed] == [ids[1], ids[0], ids[3], ids[2]]


def test_a_lapsed_claim_is_taken_by_another_and_the_first_cannot_place(ledger: Ledger) -> None:
    # Given a dispatcher that stalls past its claim
    submit(ledger)
    (slow,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5)
    assert ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5) == []
    move_clock(ledger, 6)
    # When another claims the job
    (fast,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5)
    # Then the first one's decision changes nothing
    assert limited(ledger, ROOMY).placement.place(slow, RunInhouse(), receipt=RECEIPT) == Stale()
    assert ledger.placement.view().of(Kind.RENDER).waiting_inhouse == 0
    assert limited(ledger, ROOMY).placement.place(fast, RunInhouse(), receipt=RECEIPT).__class__.__name__ == "Placed"


def test_a_dead_worker_loses_its_lease_and_its_late_result_is_refused(ledger: Ledger) -> None:
    job_id = submit(ledger)
    start_inhouse(ledger, worker="dead")
    assert ledger.maintenance.expire_leases(limit=10, max_attempts=3) == []
    move_clock(ledger, 11)
    (expired,) = ledger.maintenance.expire_leases(limit=10, max_attempts=3)
    assert (expired.job_id, expired.cause, expired.outcome) == (job_id, "lease_lost", "requeued")
    # The stale holder can change nothing
    assert isinstance(ledger.attempts.renew(job_id, 1, lease_s=10), Lost)
    assert isinstance(ledger.attempts.begin_delivery(job_id, 1), Stale)
    assert isinstance(_finish(ledger, job_id, 1), Stale)
    # And also not while the second attempt runs
    second = start_inhouse(ledger, worker="alive")
    assert second.attempt == 2
    assert isinstance(_finish(ledger, job_id, 1), Stale)
    assert ledger.attempts.begin_delivery(job_id, 2) == Delivering()
    assert _finish(ledger, job_id, 2) == Completed()


def test_renewal_moves_the_lease(ledger: Ledger) -> None:
    job_id = submit(ledger)
    start_inhouse(ledger, lease_s=10)
    for _ in range(3):
        move_clock(ledger, 8)
        assert ledger.attempts.renew(job_id, 1, lease_s=10) == Renewed()
        assert ledger.maintenance.expire_leases(limit=10, max_attempts=3) == []


def test_attempts_are_bounded(ledger: Ledger) -> None:
    job_id = submit(ledger)
    for attempt in (1, 2, 3):
        move_clock(ledger, 60)
        record = start_inhouse(ledger)
        assert record.attempt == attempt
        outcome = ledger.attempts.fail(job_id, attempt, cause=Cause.CRASH, message="boom", max_attempts=3, jitter=0.5)
        assert isinstance(outcome, Failed if attempt == 3 else Requeued)
    record = ledger.jobs.get(job_id)
    assert (record.state, record.error_code, record.error_message) == (State.FAILED, "crash", "boom")


def test_each_cause_has_its_own_bound_and_is_counted_apart(ledger: Ledger) -> None:
    # Given a job that has used up all retries of one cause
    job_id = submit(ledger)
    rule = RULES[Cause.OUT_OF_MEMORY]
    causes = [Cause.OUT_OF_MEMORY, Cause.LEASE_LOST] * rule.retries + [Cause.OUT_OF_MEMORY]
    for number, cause in enumerate(causes, start=1):
        move_clock(ledger, 3600)
        start_inhouse(ledger)
        outcome = ledger.attempts.fail(job_id, number, cause=cause, message="", max_attempts=99, jitter=0)
        # Then other causes did not count against it, and one more of its own ends the job
        assert isinstance(outcome, Failed if number == len(causes) else Requeued)
    assert ledger.jobs.get(job_id).error_code == "out_of_memory"
    assert ledger.audit() == []


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_the_pause_is_the_one_that_python_says(ledger: Ledger, jitter: float) -> None:
    job_id = submit(ledger)
    rule = RetryRule(5, first_s=10, longest_s=25)
    for nth in (1, 2, 3):
        start_inhouse(ledger)
        ledger.attempts.fail(job_id, nth, cause=Cause.CRASH, message="", max_attempts=9, jitter=jitter, rule=rule)
        move_clock(ledger, rule.pause_s(nth, jitter) - 0.5)
        assert ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5) == []
        move_clock(ledger, 0.6)


def test_a_retry_waits_for_its_back_off(ledger: Ledger) -> None:
    job_id = submit(ledger)
    start_inhouse(ledger)
    ledger.attempts.fail(
        job_id, 1, cause=Cause.CRASH, message="", max_attempts=3, jitter=1, rule=RetryRule(1, first_s=30)
    )
    assert ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5) == []
    move_clock(ledger, 31)
    assert len(ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5)) == 1


@pytest.mark.parametrize("state", ["queued", "claimed", "waiting", "running", "delivering", "held"])
def test_cancel_from_every_in_house_state(ledger: Ledger, state: str) -> None:
    job_id = submit(ledger)
    match state:
        case "queued":
            pass
        case "claimed":
            ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5)
        case "waiting":
            place(ledger, RunInhouse())
        case "held":
            (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5)
            hold = Hold("modal_calls_at_cap", again_in_s=5, timeout_s=60)
            assert limited(ledger, ROOMY).placement.place(claimed, hold, receipt=RECEIPT) == Held()
        case _:
            start_inhouse(ledger)
            if state == "delivering":
                ledger.attempts.begin_delivery(job_id, 1)
    assert isinstance(ledger.jobs.cancel(job_id), Cancelled)
    assert ledger.jobs.get(job_id).state is State.CANCELLED
    assert ledger.jobs.cancel(job_id) == AlreadyEnded("cancelled")
    assert ledger.attempts.start_inhouse(Kind.RENDER, worker="w", lease_s=5) is None
    assert isinstance(_finish(ledger, job_id, 1), Stale)
    left = [
        key for key in ledger.client.scan_iter(f"{ledger.prefix}:*")
        if ledger.client.type(key) == "zset" and not any(part in key for part in (":jobs:", ":tenant:", ":done:"))
    ]  # fmt: skip
    assert left == []


def test_a_call_that_is_cancelled_while_it_is_spawned_is_stopped_later(ledger: Ledger) -> None:
    # Given a spawn on its way
    job_id = submit(ledger)
    place(ledger, MODAL)
    claim_spawns(ledger, worker="o", limit=1, lease_s=10)
    # When the job is cancelled before the call's id is known
    ledger.jobs.cancel(job_id)
    # Then the reservation stands, and the late id makes the call one to be stopped
    assert ledger.placement.view().money.reserved_usd_micros == 1_000_000
    assert not ledger.modal_calls.record_call(job_id, 1, call_id="fc-late", first_check_s=0, deadline_s=60)
    (stop,) = ledger.modal_calls.claim_cancels(limit=10, again_in_s=5)
    assert (stop.job_id, stop.attempt, stop.call_id) == (job_id, 1, "fc-late")
    ledger.modal_calls.settle_cancel(job_id, 1, cost_usd_micros=70)
    ledger.modal_calls.settle_cancel(job_id, 1, cost_usd_micros=70)
    view = ledger.placement.view()
    assert (view.money.reserved_usd_micros, view.money.spent_usd_micros, view.modal_attempts) == (0, 70, 0)


def test_a_spawn_that_is_not_yet_taken_is_cancelled_at_once(ledger: Ledger) -> None:
    job_id = submit(ledger)
    place(ledger, MODAL)
    ledger.jobs.cancel(job_id)
    assert claim_spawns(ledger, worker="o", limit=1, lease_s=10) == []
    assert ledger.placement.view().money.reserved_usd_micros == 0


def test_held_jobs_are_looked_at_again_and_shed_in_the_end(ledger: Ledger) -> None:
    job_id = submit(ledger)
    for again in (True, True, False):
        (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5)
        hold = Hold("month_budget", again_in_s=5, timeout_s=12)
        assert limited(ledger, ROOMY).placement.place(claimed, hold, receipt=RECEIPT) == Held()
        move_clock(ledger, 5.5)
        nudges, shed = ledger.maintenance.due_held(limit=10)
        assert (len(nudges), shed) == ((1, []) if again else (0, [job_id]))
    record = ledger.jobs.get(job_id)
    assert (record.state, record.error_code) == (State.FAILED, "budget_exhausted")


def test_a_shed_job_has_failed_with_its_reason(ledger: Ledger) -> None:
    job_id = submit(ledger)
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5)
    limited(ledger, ROOMY).placement.place(claimed, Shed("deadline_impossible", "too soon"), receipt=RECEIPT)
    assert ledger.jobs.get(job_id).error_code == "deadline_impossible"


def test_an_idempotency_key_gives_the_same_job_back(ledger: Ledger) -> None:
    job = RenderJob(prompt="once")
    first = ledger.jobs.submit(job, source="api", idempotency_key="k")
    again = ledger.jobs.submit(job, source="api", idempotency_key="k")
    assert (first.created, again.created, again.job_id) == (True, False, first.job_id)
    with pytest.raises(IdempotencyConflict):
        ledger.jobs.submit(RenderJob(prompt="other"), source="api", idempotency_key="k")
    other_tenant = RenderJob(prompt="once", tenant="b")
    assert ledger.jobs.submit(other_tenant, source="api", idempotency_key="k").created


def test_a_lost_nudge_falls_due_again(ledger: Ledger) -> None:
    submit(ledger)
    assert ledger.maintenance.overdue_nudges(limit=10) == []
    move_clock(ledger, 6)
    ((nudge, number),) = ledger.maintenance.overdue_nudges(limit=10)
    assert (nudge.queue, number) == ("render", 1)
    assert ledger.maintenance.overdue_nudges(limit=10) == []


def test_one_process_at_a_time_leads(ledger: Ledger) -> None:
    assert ledger.maintenance.lead("a-duty", owner="a", lease_s=10)
    assert not ledger.maintenance.lead("a-duty", owner="b", lease_s=10)
    ledger.maintenance.resign("a-duty", owner="a")
    assert ledger.maintenance.lead("a-duty", owner="b", lease_s=10)


def test_slots_live_as_long_as_their_lease(ledger: Ledger) -> None:
    ledger.attempts.slot_lives([Kind.RENDER], worker="gpu-1", lease_s=10)
    ledger.attempts.slot_lives([Kind.RENDER], worker="gpu-2", lease_s=30)
    assert ledger.placement.view().of(Kind.RENDER).live_slots == 2
    move_clock(ledger, 11)
    assert ledger.placement.view().of(Kind.RENDER).live_slots == 1
    ledger.attempts.slot_leaves([Kind.RENDER], worker="gpu-2")
    assert ledger.placement.view().of(Kind.RENDER).live_slots == 0


def test_listing_pages_by_time_for_one_tenant(ledger: Ledger) -> None:
    mine = []
    for number in range(5):
        mine.append(submit(ledger, prompt=f"p{number}", tenant="me"))
        submit(ledger, tenant="you")
        move_clock(ledger, 0.01)
    page = ledger.jobs.page(Kind.RENDER, tenant="me", limit=2)
    assert [record.id for record in page.records] == mine[:-3:-1]
    assert page.has_more
    rest = ledger.jobs.page(Kind.RENDER, tenant="me", limit=10, after=page.records[-1].id)
    assert [record.id for record in rest.records] == mine[2::-1]
    assert not rest.has_more
    assert ledger.jobs.page(Kind.RENDER, after="video_nope", limit=3).records == []


def test_an_unknown_job_is_said_to_be_unknown(ledger: Ledger) -> None:
    with pytest.raises(JobNotFound):
        ledger.jobs.get("video_nope")
    with pytest.raises(JobNotFound):
        ledger.jobs.cancel("video_nope")


def test_every_key_shares_one_hash_tag(ledger: Ledger) -> None:
    job_id = submit(ledger)
    place(ledger, MODAL)
    ledger.jobs.cancel(job_id)
    keys = list(ledger.client.scan_iter("*"))
    assert keys
    assert all(key.startswith("{") and "}:" in key for key in keys)


def test_an_idempotency_key_survives_an_upgrade(ledger: Ledger) -> None:
    # Given a job whose digest a version wrote that covered defaults too
    job = RenderJob(prompt="a red ball", seconds=8)
    first = ledger.jobs.submit(job, source="client", idempotency_key="k")
    ledger.client.hset(f"{ledger.prefix}:job:{first.job_id}", "digest", job.first_digest())
    # When its client tries again after the upgrade, then it gets its job
    assert ledger.jobs.submit(job, source="client", idempotency_key="k").job_id == first.job_id
    # And another request with that key is still refused
    with pytest.raises(IdempotencyConflict):
        ledger.jobs.submit(RenderJob(prompt="a red ball", seconds=9), source="client", idempotency_key="k")


def test_a_retry_without_a_key_survives_an_upgrade(ledger: Ledger) -> None:
    # Given a job that an older version accepted, under the digest of that version
    job = RenderJob(prompt="a red ball", seconds=8)
    first = ledger.jobs.submit(job, source="client", retry_window_s=60)
    key = f"{ledger.prefix}:retry:default:"
    ledger.client.rename(key + job.digest(), key + job.first_digest())
    ledger.client.hset(f"{ledger.prefix}:job:{first.job_id}", "digest", job.first_digest())
    # When its client says after the upgrade that it sent this before, then it gets its job
    assert ledger.jobs.was_accepted(job, idempotency_key=None, is_retry=True)
    again = ledger.jobs.submit(job, source="client", is_retry=True, retry_window_s=60)
    assert (again.job_id, again.created) == (first.job_id, False)


def test_a_digest_covers_what_was_sent_and_not_the_defaults() -> None:
    # Given a version that knows one optional field more
    class Newer(RenderJob):
        negative_prompt: str | None = None

    asked = {"prompt": "a red ball", "seconds": "4"}
    # When both digest the same request, then the digests are equal, however its defaults were spelled
    assert Newer.model_validate(asked).digest() == RenderJob.model_validate(asked).digest()
    assert RenderJob(prompt="a red ball").digest() == RenderJob.model_validate(asked).digest()
    # And a request that uses the field is another one
    assert Newer(prompt="a red ball", negative_prompt="rain").digest() != RenderJob(prompt="a red ball").digest()
    assert RenderJob(prompt="a red ball", tenant="acme").digest() != RenderJob(prompt="a red ball").digest()


def test_delivery_keeps_the_time_at_which_the_attempt_started(ledger: Ledger) -> None:
    # Given a job that runs in-house
    job_id = submit(ledger)
    place(ledger, RunInhouse())
    ledger.attempts.start_inhouse(Kind.RENDER, worker="g", lease_s=60, usd_nanos_per_s=0)
    started = ledger.client.zscore(f"{ledger.prefix}:active:inhouse:render", job_id)
    # When it delivers five seconds later, then the score is still when it started
    move_clock(ledger, 5)
    ledger.attempts.begin_delivery(job_id, 1)
    assert ledger.client.zscore(f"{ledger.prefix}:active:inhouse:render", job_id) == started
