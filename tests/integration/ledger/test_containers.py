"""Containers come to dollars exactly once: starts, waits between calls and idle tails, in whatever order calls end."""

import pytest

from ledger import Ledger
from ledger.containers import ContainerUse, Usage
from ledger.models import Artifact
from ledger.retries import Cause
from tests.support.ledgers import MODAL, ROOMY, claim_spawns, move_clock, place, submit

ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
#: A thousand micro-dollars a second: a second is easily read off.
RATE = 1_000_000
WINDOW_S = 60.0


def _use(name: str, started_s: float, finished_s: float, *, gone: bool = False) -> ContainerUse:
    return ContainerUse(name, int(started_s * 1000), int(finished_s * 1000), gone)


def _call(ledger: Ledger) -> str:
    job_id = submit(ledger)
    place(ledger, MODAL)
    claim_spawns(ledger, worker="o", limit=1, lease_s=10)
    ledger.modal_calls.record_call(job_id, 1, call_id=f"fc-{job_id}", first_check_s=0, deadline_s=600)
    return job_id


def _complete(ledger: Ledger, job_id: str, *uses: ContainerUse) -> int:
    ledger.attempts.begin_delivery(job_id, 1)
    usage = Usage(uses, usd_nanos_per_s=RATE, idle_window_s=WINDOW_S)
    ledger.attempts.complete(job_id, 1, artifact=ARTIFACT, measurements={}, usage=usage)
    return ledger.jobs.get(job_id).cost_usd_micros


def _money(ledger: Ledger) -> tuple[int, int]:
    view = ledger.placement.view().money
    return view.spent_usd_micros, view.reserved_usd_micros


def test_a_call_pays_its_container_from_its_start_and_the_tail_is_reserved_then_booked(ledger: Ledger) -> None:
    # Given a container that began at 100 s, and a call that ended at 112 s
    cost = _complete(ledger, _call(ledger), _use("ta-1", 100, 112))
    # Then the call pays 12 s, and 60 s of idling are reserved
    assert cost == 12_000
    assert _money(ledger) == (12_000, 60_000)
    assert ledger.audit(ROOMY) == []
    # And booked when they are over
    assert ledger.maintenance.idle_containers(limit=10) == 0
    move_clock(ledger, WINDOW_S + 1)
    assert ledger.maintenance.idle_containers(limit=10) == 1
    assert _money(ledger) == (72_000, 0)
    assert ledger.audit(ROOMY) == []


@pytest.mark.parametrize("late_first", [False, True])
def test_two_calls_of_one_container_pay_it_once_in_either_order(ledger: Ledger, late_first: bool) -> None:
    first, second = _call(ledger), _call(ledger)
    early, late = (first, _use("ta-1", 100, 110)), (second, _use("ta-1", 100, 130))
    total = sum(_complete(ledger, *pair) for pair in ((late, early) if late_first else (early, late)))
    # 30 s in all: the start, both calls and the wait between them
    assert total == 30_000
    move_clock(ledger, WINDOW_S + 1)
    ledger.maintenance.idle_containers(limit=10)
    assert _money(ledger) == (90_000, 0)


def test_a_call_that_is_concluded_after_the_tail_was_booked_pays_only_what_is_not_paid(ledger: Ledger) -> None:
    first, second = _call(ledger), _call(ledger)
    _complete(ledger, first, _use("ta-1", 100, 110))
    move_clock(ledger, WINDOW_S + 1)
    ledger.maintenance.idle_containers(limit=10)
    # Paid is up to 170 s. A follower that was away tells of a call until 200 s.
    assert _complete(ledger, second, _use("ta-1", 100, 200)) == 30_000
    assert _money(ledger) == (70_000 + 30_000, 60_000)
    assert ledger.audit(ROOMY) == []


def test_a_call_that_moved_pays_both_containers_and_one_tail(ledger: Ledger) -> None:
    cost = _complete(ledger, _call(ledger), _use("ta-1", 100, 105, gone=True), _use("ta-2", 105, 115))
    assert cost == 15_000
    assert _money(ledger) == (15_000, 60_000)


def test_a_stopped_call_pays_until_it_was_stopped_and_one_that_never_began_pays_nothing(ledger: Ledger) -> None:
    for uses, cost in (((_use("ta-1", 100, 107, gone=True),), 7_000), ((), 0)):
        before = _money(ledger)[0]
        job_id = _call(ledger)
        ledger.jobs.cancel(job_id)
        assert _money(ledger)[1] > 0
        usage = Usage(uses, usd_nanos_per_s=RATE, idle_window_s=WINDOW_S)
        ledger.modal_calls.settle_cancel(job_id, 1, usage=usage)
        ledger.modal_calls.settle_cancel(job_id, 1, usage=usage)
        assert _money(ledger) == (before + cost, 0)
        assert ledger.audit(ROOMY) == []


def test_a_failed_call_pays_too(ledger: Ledger) -> None:
    job_id = _call(ledger)
    usage = Usage((_use("ta-1", 100, 103),), usd_nanos_per_s=RATE, idle_window_s=WINDOW_S)
    ledger.attempts.fail(job_id, 1, cause=Cause.OUT_OF_MEMORY, message="", max_attempts=9, jitter=0, usage=usage)
    assert _money(ledger) == (3_000, 60_000)
    assert ledger.audit(ROOMY) == []
