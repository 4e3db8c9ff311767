"""The counters equal what the records add up to, and a difference is found."""

import pytest

from ledger import Kind, Ledger
from ledger.decisions import RunInhouse, Shed
from ledger.retries import Cause
from monitoring.reconcile import differences
from tests.support.activity import ARTIFACT, decide, everything, fail, run_inhouse, start_inhouse, submit
from tests.support.ledgers import move_clock


def test_counters_equal_the_records_after_everything(ledger: Ledger) -> None:
    # given at least one of everything, twice, with idle containers whose time is over
    everything(ledger)
    everything(ledger)
    move_clock(ledger, 5)
    ledger.maintenance.idle_containers(limit=500)
    # then every counter that can be counted again is what was counted
    assert [str(one) for one in differences(ledger)] == []
    assert ledger.audit() == []


@pytest.mark.parametrize(
    "field",
    [
        "jobs_total|kind=render|outcome=completed|pool=inhouse",
        "attempts_total|gpu=inhouse|kind=render|outcome=completed|pool=inhouse",
        "decisions_total|decision=inhouse|kind=render|rule=test_runinhouse",
        "transitions_total|from=queued|kind=render|to=placed",
        "cost_usd_micros_total|component=execution|gpu=inhouse|kind=render|pool=inhouse",
        "job_wait_seconds|kind=render|pool=inhouse|le=1",
    ],
)
def test_one_count_too_many_is_found(ledger: Ledger, field: str) -> None:
    # given a job, and a counter that somebody else has raised
    run_inhouse(ledger, Kind.RENDER)
    assert differences(ledger) == []
    ledger.client.hincrby(f"{ledger.prefix}:counters", field, 1)
    # then that counter, and no other, is said to differ
    (found,) = differences(ledger)
    assert found.metric == field.split("|", maxsplit=1)[0]
    assert found.counted - 1 == found.recorded > 0


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ("job_placed", ["decisions_total", "placements_total", "transitions_total"]),
        ("job_started", ["job_wait_seconds", "transitions_total"]),
        (
            "job_completed",
            ["attempts_total", "deadlines_met_total", "job_total_seconds", "jobs_total", "transitions_total"],
        ),
        ("job_failed", ["failures_total", "jobs_total", "transitions_total"]),
        ("job_cancelled", ["jobs_total", "transitions_total"]),
    ],
)
def test_one_change_too_many_is_found_in_all_that_it_counts(ledger: Ledger, change: str, counts: list[str]) -> None:
    # given a job that completed and ones that ended otherwise, and a change of state that somebody else has counted
    run_inhouse(ledger, Kind.RENDER, deadline_s=600)
    submit(ledger, Kind.RENDER)
    decide(ledger, Kind.RENDER, Shed("deadline_impossible", "too soon"))
    ledger.jobs.cancel(submit(ledger, Kind.RENDER))
    assert differences(ledger) == []
    key = f"{ledger.prefix}:counters"
    (field,) = (name for name in ledger.client.hkeys(key) if name.startswith(f"{change}|"))
    ledger.client.hincrby(key, field, 1)
    # then everything that it stands for is said to differ, and nothing else
    found = differences(ledger)
    assert sorted(one.metric for one in found) == counts
    assert {one.counted - one.recorded for one in found} == {1}


@pytest.mark.parametrize("metric", ["job_wait_seconds", "job_run_seconds", "job_total_seconds"])
def test_a_sum_that_is_a_millisecond_wrong_is_found(ledger: Ledger, metric: str) -> None:
    # given a job that waited for three seconds, ran for five on its second attempt, and a sum that somebody has changed
    submit(ledger, Kind.RENDER)
    decide(ledger, Kind.RENDER, RunInhouse())
    move_clock(ledger, 3)
    first = start_inhouse(ledger, Kind.RENDER)
    fail(ledger, first.id, first.attempt, Cause.LEASE_LOST)
    move_clock(ledger, 60)
    decide(ledger, Kind.RENDER, RunInhouse())
    record = start_inhouse(ledger, Kind.RENDER)
    move_clock(ledger, 5)
    ledger.attempts.begin_delivery(record.id, record.attempt)
    ledger.attempts.complete(record.id, record.attempt, artifact=ARTIFACT, measurements={}, cost_usd_micros=400)
    assert differences(ledger) == []
    ledger.client.hincrby(f"{ledger.prefix}:counters", f"{metric}|kind=render|pool=inhouse|sum", 1_000)
    # then that sum, and nothing else, is said to differ
    (found,) = differences(ledger)
    assert (found.metric, found.counted - found.recorded) == (f"{metric}_sum", 1_000)
    assert found.recorded >= 3_000_000


def test_jobs_that_were_retired_are_no_difference(ledger: Ledger) -> None:
    # given a job that ended long ago and was forgotten
    run_inhouse(ledger, Kind.RENDER)
    move_clock(ledger, 100)
    assert len(ledger.maintenance.retire(Kind.RENDER, older_than_s=10, bucket="b", limit=10).ids) == 1
    # then its counts stand, and are no difference
    assert differences(ledger) == []
    # but a count that is missing still is
    run_inhouse(ledger, Kind.RENDER)
    run_inhouse(ledger, Kind.RENDER)
    ledger.client.hset(f"{ledger.prefix}:counters", "submitted_total|kind=render|source=client", 1)
    assert [one.metric for one in differences(ledger)] == ["submitted_total"]
