"""Each cap speaks by its own name, draining keeps the rest for priority jobs, and top-ups ask the same caps."""

from dataclasses import replace

import pytest

from ledger import Kind, Ledger, State
from ledger.containers import ContainerUse, Usage
from ledger.decisions import Hold, RunOnModal
from ledger.limits import Limits
from ledger.models import Artifact
from ledger.outcomes import Held, Placed, PlaceOutcome, Refused, Stale, ToppedUp
from tests.support.ledgers import RECEIPT, ROOMY, claim_spawns, limited, move_clock, submit

ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
#: A thousand micro-dollars a second, 3.60 dollars an hour.
RATE = 1_000_000
ONE = RunOnModal("H100", 100_000, usd_nanos_per_s=RATE)
FOUR = RunOnModal("A100-80GB:4", 100_000, usd_nanos_per_s=2 * RATE, gpus=4)


def _try(ledger: Ledger, decision: RunOnModal, limits: Limits, **fields: object) -> tuple[str, PlaceOutcome]:
    job_id = submit(ledger, **fields)
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=60)
    return job_id, limited(ledger, limits).placement.place(claimed, decision, receipt=RECEIPT)


def _usage(now_ms: int, seconds: float, *, name: str = "ta-1", gone: bool = False) -> Usage:
    use = ContainerUse(name, int(now_ms - seconds * 1000), now_ms, gone)
    return Usage([use], usd_nanos_per_s=RATE, idle_window_s=60)


def _complete(ledger: Ledger, job_id: str, usage: Usage | None = None, cost: int = 0) -> None:
    for record in claim_spawns(ledger, worker="o", limit=10, lease_s=10):
        ledger.modal_calls.record_call(
            record.id, record.attempt, call_id=f"fc-{record.id}", first_check_s=0, deadline_s=600
        )
    ledger.attempts.begin_delivery(job_id, 1)
    ledger.attempts.complete(job_id, 1, artifact=ARTIFACT, measurements={}, cost_usd_micros=cost, usage=usage)


@pytest.mark.parametrize(
    ("limits", "second", "reason"),
    [
        (replace(ROOMY, month_cap_usd_micros=199_999), ONE, "month_budget"),
        (replace(ROOMY, day_cap_usd_micros=199_999), ONE, "day_budget"),
        (replace(ROOMY, tenant_cap_usd_micros=199_999), ONE, "tenant_budget"),
        (replace(ROOMY, tenant_cap_usd_micros=10**9, tenant_caps_usd_micros={"default": 1}), ONE, "tenant_budget"),
        (replace(ROOMY, kind_caps_usd_micros={"render": 199_999}), ONE, "kind_budget"),
        (replace(ROOMY, hour_rate_cap_usd_micros=7_199_999), ONE, "hour_rate"),
        (replace(ROOMY, max_gpus=4), FOUR, "gpus_at_cap"),
        (replace(ROOMY, max_containers=1), ONE, "containers_at_cap"),
        (replace(ROOMY, max_modal_attempts=1), ONE, "modal_calls_at_cap"),
    ],
)
def test_each_cap_refuses_by_its_name_and_changes_nothing(
    ledger: Ledger, limits: Limits, second: RunOnModal, reason: str
) -> None:
    # Given one call that is alive, under caps that have room for no second one
    _try(ledger, ONE, ROOMY)
    before = limited(ledger, ROOMY).money.view()
    # When a second one is to be placed, then its cap refuses it
    job_id, outcome = _try(ledger, second, limits)
    assert outcome == Refused(reason)
    assert ledger.counters()[f"spill_refused_total|kind=render|reason={reason}"] == 1
    # And nothing was set aside, and the claim still stands
    assert replace(limited(ledger, ROOMY).money.view(), now_ms=before.now_ms) == before
    assert ledger.jobs.get(job_id).state is State.QUEUED
    # And another tenant, or the same one under wider caps, goes through
    if reason.startswith("tenant") and limits.tenant_cap_usd_micros == 199_999:
        assert isinstance(_try(ledger, second, limits, tenant="other")[1], Placed)


def test_exactly_at_the_cap_fits(ledger: Ledger) -> None:
    limits = Limits(
        month_cap_usd_micros=200_000,
        max_modal_attempts=2,
        day_cap_usd_micros=200_000,
        hour_rate_cap_usd_micros=10_800_000,
        tenant_cap_usd_micros=200_000,
        kind_caps_usd_micros={"render": 200_000},
        max_gpus=5,
        max_containers=2,
    )
    for decision in (ONE, FOUR):
        assert isinstance(_try(ledger, decision, limits)[1], Placed)
    assert ledger.audit(limits) == []
    view = limited(ledger, limits).money.view()
    assert (view.gpus.used, view.containers.used, view.hour_rate.used) == (5, 2, 10_800_000)
    assert (view.month.left_usd_micros, view.tenants["default"].left_usd_micros) == (0, 0)


def test_a_shed_job_says_that_it_was_about_dollars_and_its_message_which_cap(ledger: Ledger) -> None:
    job_id = submit(ledger)
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=60)
    hold = Hold("tenant_budget", again_in_s=1, timeout_s=1)
    assert limited(ledger, ROOMY).placement.place(claimed, hold, receipt=RECEIPT) == Held()
    move_clock(ledger, 2)
    ledger.maintenance.due_held(limit=5)
    record = ledger.jobs.get(job_id)
    assert record.error_code == "budget_exhausted"
    assert "tenant_budget" in (record.error_message or "")


# --- an idle container is counted until somebody takes it


def test_an_idle_container_counts_until_its_tail_is_over(ledger: Ledger) -> None:
    limits = replace(ROOMY, max_containers=1)
    job_id, _ = _try(ledger, ONE, limits)
    _complete(ledger, job_id, _usage(ledger.placement.view().now_ms, 10))
    # Another class cannot use it, so it would be a second container
    assert _try(ledger, FOUR, limits)[1] == Refused("containers_at_cap")
    move_clock(ledger, 61)
    ledger.maintenance.idle_containers(limit=10)
    assert limited(ledger, limits).money.view().containers.used == 0


def test_a_new_attempt_of_its_class_takes_the_idle_container_and_both_count_once(ledger: Ledger) -> None:
    limits = replace(ROOMY, max_containers=1, max_gpus=1, hour_rate_cap_usd_micros=3_600_000)
    job_id, _ = _try(ledger, ONE, limits)
    _complete(ledger, job_id, _usage(ledger.placement.view().now_ms, 10))
    second, outcome = _try(ledger, ONE, limits)
    assert isinstance(outcome, Placed)
    assert ledger.audit(limits) == []
    # And a third would be one more
    assert _try(ledger, ONE, limits)[1] == Refused("hour_rate")
    # When the call that was to take it never ran, it idles for another
    ledger.jobs.cancel(second)
    view = limited(ledger, limits).money.view()
    assert (view.calls.used, view.containers.used) == (0, 1)
    assert ledger.counters()["idle_not_taken_total|gpu=H100|kind=render"] == 1
    assert ledger.audit(limits) == []


# --- draining


def test_while_a_budget_drains_only_priority_jobs_spill(ledger: Ledger) -> None:
    limits = replace(ROOMY, month_cap_usd_micros=1_000_000, drain_ratio=0.9, drain_priority=7)
    _try(ledger, replace(ONE, reserve_usd_micros=900_000), limits)
    assert _try(ledger, replace(ONE, reserve_usd_micros=1_000), limits, priority=6)[1] == Refused("month_drain")
    assert isinstance(_try(ledger, replace(ONE, reserve_usd_micros=1_000), limits, priority=7)[1], Placed)
    assert _try(ledger, ONE, limits, priority=9)[1] == Refused("month_budget")


def test_each_stage_is_said_once_for_each_scope_and_period(ledger: Ledger) -> None:
    limits = replace(ROOMY, month_cap_usd_micros=200_000, day_cap_usd_micros=10**9, drain_ratio=0.9)
    first, _ = _try(ledger, ONE, limits)
    second, _ = _try(ledger, ONE, limits)
    # It falls and rises again within the month
    ledger.jobs.cancel(second)
    _try(ledger, ONE, limits)
    counters = ledger.counters()
    stages = {name: value for name, value in counters.items() if name.startswith("money_stages_total")}
    assert stages == {
        "money_stages_total|scope=month|stage=warn_50": 1,
        "money_stages_total|scope=month|stage=stop": 1,
    }
    events = [row["event"] for _, row in ledger.client.xrange(f"{ledger.prefix}:events")]  # type: ignore[union-attr, misc]  # redis-py is untyped here
    assert events.count("money.stage") == 2
    # A new month begins anew
    move_clock(ledger, 32 * 86_400)
    ledger.jobs.cancel(first)
    _try(ledger, ONE, limits)
    assert ledger.counters()["money_stages_total|scope=month|stage=stop"] == 2


def test_what_does_not_fit_while_it_drains_is_the_end_of_a_budget_and_a_large_wish_is_not(ledger: Ledger) -> None:
    limits = replace(ROOMY, month_cap_usd_micros=1_000_000)
    _try(ledger, ONE, limits)
    assert _try(ledger, replace(ONE, reserve_usd_micros=950_000), limits)[1] == Refused("month_budget")
    assert "money_stages_total|scope=month|stage=stop" not in ledger.counters()
    _try(ledger, replace(ONE, reserve_usd_micros=850_000), limits)
    assert _try(ledger, ONE, limits)[1] == Refused("month_budget")
    assert ledger.counters()["money_stages_total|scope=month|stage=stop"] == 1


# --- top-ups


def test_a_top_up_raises_the_reservation_and_never_lowers_it(ledger: Ledger) -> None:
    job_id, _ = _try(ledger, ONE, ROOMY)
    assert limited(ledger, ROOMY).modal_calls.top_up(job_id, 1, reserve_usd_micros=250_000) == ToppedUp(250_000)
    assert limited(ledger, ROOMY).modal_calls.top_up(job_id, 1, reserve_usd_micros=10) == ToppedUp(250_000)
    view = limited(ledger, ROOMY).money.view()
    assert view.month.reserved_usd_micros == view.tenants["default"].reserved_usd_micros == 250_000
    assert ledger.audit(ROOMY) == []


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (replace(ROOMY, month_cap_usd_micros=200_000), "month_budget"),
        (replace(ROOMY, day_cap_usd_micros=200_000), "day_budget"),
        (replace(ROOMY, tenant_caps_usd_micros={"default": 200_000}), "tenant_budget"),
        (replace(ROOMY, kind_caps_usd_micros={"render": 200_000}), "kind_budget"),
    ],
)
def test_a_top_up_that_passes_a_cap_is_refused_whole(ledger: Ledger, limits: Limits, reason: str) -> None:
    job_id, _ = _try(ledger, ONE, limits)
    assert limited(ledger, limits).modal_calls.top_up(job_id, 1, reserve_usd_micros=200_000) == ToppedUp(200_000)
    assert limited(ledger, limits).modal_calls.top_up(job_id, 1, reserve_usd_micros=200_001) == Refused(reason)
    assert limited(ledger, limits).money.view().month.reserved_usd_micros == 200_000
    assert ledger.counters()[f"top_ups_total|kind=render|outcome={reason}"] == 1


def test_a_top_up_of_what_has_ended_is_stale(ledger: Ledger) -> None:
    job_id, _ = _try(ledger, ONE, ROOMY)
    assert limited(ledger, ROOMY).modal_calls.top_up(job_id, 2, reserve_usd_micros=200_000) == Stale()
    ledger.jobs.cancel(job_id)
    assert limited(ledger, ROOMY).modal_calls.top_up(job_id, 1, reserve_usd_micros=200_000) == Stale()
    assert limited(ledger, ROOMY).money.view().month.reserved_usd_micros == 0


def test_how_well_a_cost_was_foreseen_is_told_by_what_was_set_aside_at_first(ledger: Ledger) -> None:
    # Given a call that is topped up ahead of its cost
    job_id, _ = _try(ledger, ONE, ROOMY)
    limited(ledger, ROOMY).modal_calls.top_up(job_id, 1, reserve_usd_micros=250_000)
    # When it cost twice what was foreseen / then that is said, although what was set aside in the end covered it
    _complete(ledger, job_id, cost=200_000)
    ratios = "prediction_error_ratio|kind=render|pool=modal|sum"
    assert ledger.client.hget(f"{ledger.prefix}:counters", ratios) == "2000000"
    assert not [name for name in ledger.counters() if name.startswith("reservation_exceeded")]


# --- a settlement above its reservation is booked as it is, and never hidden


def test_a_cap_that_a_settlement_passes_is_counted_by_how_much(ledger: Ledger) -> None:
    limits = replace(ROOMY, month_cap_usd_micros=150_000, day_cap_usd_micros=10**9)
    job_id, _ = _try(ledger, ONE, limits)
    _complete(ledger, job_id, cost=170_000)
    counters = ledger.counters()
    assert counters["overshoot_usd_micros_total|scope=month"] == 20_000
    assert "overshoot_usd_micros_total|scope=day" not in counters
    assert counters["reservation_exceeded_usd_micros_total|gpu=H100|kind=render"] == 70_000
    events = [row for _, row in ledger.client.xrange(f"{ledger.prefix}:events") if row["event"] == "money.overshoot"]  # type: ignore[union-attr, misc]  # redis-py is untyped here
    assert [event["detail"] for event in events] == ["month: passed by 20000 micro-dollars more"]
    assert limited(ledger, limits).money.view().month.spent_usd_micros == 170_000
