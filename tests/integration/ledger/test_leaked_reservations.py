"""Dollars that nobody would settle are given back, and a job in quarantine loses and doubles none."""

from collections.abc import Callable

import pytest

from ledger import Ledger
from ledger.containers import ContainerUse, Usage
from tests.support.ledgers import MODAL, ROOMY, claim_spawns, limited, move_clock, place, submit

CHECK_S = 61


def _placed(ledger: Ledger, **fields: object) -> str:
    job_id = submit(ledger, **fields)
    place(ledger, MODAL)
    return job_id


def _called(ledger: Ledger, **fields: object) -> str:
    job_id = _placed(ledger, **fields)
    claim_spawns(ledger, worker="o", limit=1, lease_s=10)
    ledger.modal_calls.record_call(job_id, 1, call_id=f"fc-{job_id}", first_check_s=0, deadline_s=600)
    return job_id


def _reserved(ledger: Ledger) -> int:
    return int(ledger.client.hget(f"{ledger.prefix}:money", "reserved_usd_micros") or 0)


def _spent(ledger: Ledger) -> int:
    return limited(ledger, ROOMY).money.view().month.spent_usd_micros


def test_a_leaked_reservation_is_given_back_and_the_others_stay(ledger: Ledger) -> None:
    # Given three live attempts, of which one has lost its job in some unknown way
    kept, lost, also_kept = _called(ledger), _placed(ledger), _called(ledger)
    for index in ("modal", "waiting:modal", "nudges:overflow", "jobs:render"):
        ledger.client.zrem(f"{ledger.prefix}:{index}", lost)
    ledger.client.delete(f"{ledger.prefix}:job:{lost}")
    # When they are checked before their time, nothing happens; in their time, the lost one's dollars come back
    assert ledger.maintenance.leaked_reservations(limit=10) == ([], 0)
    move_clock(ledger, CHECK_S)
    assert ledger.maintenance.leaked_reservations(limit=10) == ([f"{lost}:1"], 3)
    assert _reserved(ledger) == 2 * MODAL.reserve_usd_micros
    assert ledger.counters()["leaked_reservations_total|reason=no_live_attempt"] == 1
    assert {kept, also_kept} == {row.job_id for row in ledger.money.live_calls(limit=9)[0]}


def test_checks_in_small_pages_pass_over_none_while_others_are_given_back(ledger: Ledger) -> None:
    # Given twenty reservations, of which each second one has leaked
    ids = [_placed(ledger) for _ in range(20)]
    for job_id in ids[::2]:
        ledger.client.delete(f"{ledger.prefix}:job:{job_id}")
    move_clock(ledger, CHECK_S)
    # When they are checked three at a time, and some are topped up and settled meanwhile
    found: list[str] = []
    checked = 0
    while True:
        leaked, number = ledger.maintenance.leaked_reservations(limit=3)
        found, checked = found + leaked, checked + number
        limited(ledger, ROOMY).modal_calls.top_up(ids[1], 1, reserve_usd_micros=1_000_000 + checked)
        if checked == 6:
            ledger.jobs.cancel(ids[19])
        if number < 3:
            break
    # Then each of those that leaked was found, once
    assert sorted(found) == sorted(f"{job_id}:1" for job_id in ids[::2])
    assert checked == 19


DAMAGES: dict[str, Callable[[Ledger, str], object]] = {
    "python cannot read it": lambda ledger, job: ledger.placement.quarantine(job, reason="its spec is no job"),
    "another schema": lambda ledger, job: ledger.client.hset(f"{ledger.prefix}:job:{job}", "schema", "9"),
    "no number of attempts": lambda ledger, job: ledger.client.hset(f"{ledger.prefix}:job:{job}", "attempt", "x"),
    "another type": lambda ledger, job: (
        ledger.client.delete(f"{ledger.prefix}:job:{job}"), ledger.client.rpush(f"{ledger.prefix}:job:{job}", "x"),
    ),
}  # fmt: skip


def _usage(ledger: Ledger, seconds: int) -> Usage:
    now_ms = ledger.placement.view().now_ms
    use = ContainerUse("ta-1", started_ms=now_ms - seconds * 1000, finished_ms=now_ms, gone=True, first_call=True)
    return Usage(usd_nanos_per_s=1_000_000, idle_window_s=60, containers=(use,))


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_call_of_a_job_in_quarantine_is_stopped_and_what_it_cost_is_booked_once(
    ledger: Ledger, damage: str
) -> None:
    # Given a call that runs, and a record that cannot be read any more
    job_id, healthy = _called(ledger, tenant="acme"), _called(ledger)
    DAMAGES[damage](ledger, job_id)
    ledger.modal_calls.claim_due(limit=5, lease_s=1)  # whoever touches it next puts it into quarantine
    assert job_id in ledger.jobs.quarantined()
    # When the check of its reservation is due at the latest, then its call is to be stopped, and its dollars stay
    move_clock(ledger, CHECK_S)
    assert ledger.maintenance.leaked_reservations(limit=10)[0] == []
    (cancel,) = ledger.modal_calls.claim_cancels(limit=5, again_in_s=1)
    assert (cancel.job_id, cancel.call_id) == (job_id, f"fc-{job_id}")
    assert _reserved(ledger) == 2 * MODAL.reserve_usd_micros
    # And when it has ended, its cost is booked for its tenant, and its reservation given back
    usage = _usage(ledger, 30)
    ledger.modal_calls.settle_cancel(cancel.job_id, cancel.attempt, usage=usage)
    assert (_spent(ledger), _reserved(ledger)) == (30_000, MODAL.reserve_usd_micros)
    assert limited(ledger, ROOMY).money.view().tenants["acme"].spent_usd_micros == 30_000
    # And however often it is said or looked for again, nothing is counted twice, and nothing left over
    ledger.modal_calls.settle_cancel(cancel.job_id, cancel.attempt, usage=usage)
    move_clock(ledger, CHECK_S)
    assert ledger.maintenance.leaked_reservations(limit=10)[0] == []
    assert ledger.modal_calls.claim_cancels(limit=5, again_in_s=1) == []
    assert (_spent(ledger), _reserved(ledger)) == (30_000, MODAL.reserve_usd_micros)
    assert [row.job_id for row in ledger.money.live_calls(limit=9)[0]] == [healthy]


@pytest.mark.parametrize("damage", ["python cannot read it", "another schema"])
def test_the_books_of_a_job_in_quarantine_agree_at_every_instant(ledger: Ledger, damage: str) -> None:
    job_id = _called(ledger)
    DAMAGES[damage](ledger, job_id)
    ledger.modal_calls.claim_due(limit=5, lease_s=1)
    assert ledger.audit(ROOMY) == []
    ledger.modal_calls.settle_cancel(job_id, 1, usage=_usage(ledger, 30))
    assert ledger.audit(ROOMY) == []


def test_a_spawn_that_answers_after_its_job_went_into_quarantine_is_stopped_by_its_id(ledger: Ledger) -> None:
    # Given an attempt that is being spawned when its job goes into quarantine
    job_id = _placed(ledger)
    claim_spawns(ledger, worker="o", limit=1, lease_s=10)
    ledger.placement.quarantine(job_id, reason="a test")
    # When the spawn answers
    assert not ledger.modal_calls.record_call(job_id, 1, call_id="fc-late", first_check_s=0, deadline_s=600)
    # Then this call is to be stopped, and is paid for
    (cancel,) = ledger.modal_calls.claim_cancels(limit=5, again_in_s=1)
    assert cancel.call_id == "fc-late"
    ledger.modal_calls.settle_cancel(job_id, 1, usage=_usage(ledger, 30))
    assert (_spent(ledger), _reserved(ledger)) == (30_000, 0)


def test_a_call_that_announces_itself_late_opens_the_books_of_a_job_in_quarantine_again(ledger: Ledger) -> None:
    # Given an attempt of a job in quarantine whose spawn never answered, and that was let go at no cost
    job_id = _placed(ledger)
    claim_spawns(ledger, worker="o", limit=1, lease_s=10)
    ledger.placement.quarantine(job_id, reason="a test")
    ledger.modal_calls.settle_cancel(job_id, 1)
    assert (_spent(ledger), _reserved(ledger)) == (0, 0)
    # When its call announces itself, then it is stopped, and is paid for
    announced_at = ledger.placement.view().now_ms / 1000
    said = ledger.modal_calls.stop_orphan(
        job_id, 1, call_id="fc-late", announced_at=announced_at, first_check_s=1, deadline_s=600
    )
    assert said == "stopping"
    ledger.modal_calls.settle_cancel(job_id, 1, usage=_usage(ledger, 30))
    assert _spent(ledger) == 30_000
    assert ledger.audit(ROOMY) == []
