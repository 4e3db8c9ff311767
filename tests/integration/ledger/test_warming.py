"""Containers that are kept warm are paid once (a round ahead, by their tail after a call, by calls), and count once."""

from dataclasses import replace

import pytest

from ledger import Kind, Ledger
from ledger.containers import ContainerUse, Usage
from ledger.limits import Limits
from ledger.models import Artifact
from ledger.outcomes import Placed, Refused
from ledger.warming import WarmHeld, WarmPool, WarmTerms
from tests.support.ledgers import MODAL, RECEIPT, ROOMY, claim_spawns, limited, move_clock, place, submit

ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
#: A thousand micro-dollars a second: a second is easily read off.
RATE = 1_000_000
WINDOW_S, ROUND_S = 60.0, 30.0


def _pool(number: int, *, buffer: int = 0) -> WarmPool:
    return WarmPool(Kind.RENDER, MODAL.gpu, number, buffer, RATE)


def _keep(ledger: Ledger, number: int, *, ceiling_usd_micros: int | None = None) -> Refused | None:
    """One round of the warm keeper, who keeps so many containers up."""
    return limited(ledger, ROOMY).money.pay_warm(_pool(number), WarmTerms(ROUND_S, ceiling_usd_micros))


def _call_ended(ledger: Ledger, container: str, *, started_s_ago: float, ran_s: float, first: bool = True) -> int:
    """A call ran in a container until now. What its job is charged, micro-dollars."""
    job_id = submit(ledger)
    place(ledger, MODAL)
    claim_spawns(ledger, worker="o", limit=1, lease_s=10)
    ledger.modal_calls.record_call(job_id, 1, call_id=f"fc-{job_id}", first_check_s=0, deadline_s=600)
    ledger.attempts.begin_delivery(job_id, 1)
    now_ms = ledger.placement.view().now_ms
    began_ms, ran_from_ms = now_ms - round(started_s_ago * 1000), now_ms - round(ran_s * 1000)
    use = ContainerUse(container, began_ms, now_ms, False, ran_from_ms, first)
    usage = Usage([use], usd_nanos_per_s=RATE, idle_window_s=WINDOW_S)
    ledger.attempts.complete(job_id, 1, artifact=ARTIFACT, measurements={}, usage=usage)
    return ledger.jobs.get(job_id).cost_usd_micros


def _spent_usd_micros(ledger: Ledger) -> int:
    return ledger.placement.view().money.spent_usd_micros


#: The rounds and calls of a test take moments of their own.
_ABOUT_USD_MICROS = 500


def test_a_call_is_not_charged_for_the_time_that_its_container_was_kept_warm_for_it(ledger: Ledger) -> None:
    # Given a warm container that was paid for two rounds ahead
    for _ in range(2):
        assert _keep(ledger, 1) is None
        move_clock(ledger, ROUND_S)
    # When a call then runs in it for 20 s
    move_clock(ledger, 20)
    cost = _call_ended(ledger, "ta-1", started_s_ago=80, ran_s=20)
    # Then its 80 s cost 80 s in all
    assert cost == pytest.approx(20_000, abs=_ABOUT_USD_MICROS)
    assert _spent_usd_micros(ledger) == pytest.approx(80_000, abs=_ABOUT_USD_MICROS)
    assert ledger.audit(ROOMY) == []


def test_a_warm_container_that_idles_after_a_call_is_paid_by_its_tail_and_then_by_rounds_again(ledger: Ledger) -> None:
    # Given a container whose call has just ended, so that its tail is set aside
    _call_ended(ledger, "ta-1", started_s_ago=20, ran_s=20)
    # When the keeper goes round, then nothing is paid ahead; when the tail is over, a round is
    assert _keep(ledger, 1) is None
    assert _spent_usd_micros(ledger) == 20_000
    move_clock(ledger, WINDOW_S)
    ledger.maintenance.idle_containers(limit=5)
    assert _keep(ledger, 1) is None
    assert _spent_usd_micros(ledger) == 20_000 + 60_000 + 30_000
    # And the next call, a round later, pays for itself alone: 20 + 60 + 30 + 10 s
    move_clock(ledger, ROUND_S + 10)
    cost = _call_ended(ledger, "ta-1", started_s_ago=120, ran_s=10, first=False)
    assert cost == pytest.approx(10_000, abs=_ABOUT_USD_MICROS)
    assert _spent_usd_micros(ledger) == pytest.approx(120_000, abs=_ABOUT_USD_MICROS)
    assert ledger.audit(ROOMY) == []


def test_what_was_paid_ahead_is_credited_once(ledger: Ledger) -> None:
    # Given one warm container that is paid for, and two that began with it
    assert _keep(ledger, 1) is None
    move_clock(ledger, ROUND_S + 10)
    # When both are given a call: then one had waited for nothing, the other's waiting was not paid for
    costs = [_call_ended(ledger, name, started_s_ago=ROUND_S + 10, ran_s=10) for name in ("ta-1", "ta-2")]
    assert costs == [pytest.approx(10_000, abs=_ABOUT_USD_MICROS), pytest.approx(40_000, abs=_ABOUT_USD_MICROS)]


def test_a_days_ceiling_counts_what_is_paid(ledger: Ledger) -> None:
    assert _keep(ledger, 2, ceiling_usd_micros=100_000) is None
    assert _keep(ledger, 2, ceiling_usd_micros=100_000) == Refused("warm_ceiling")
    assert _spent_usd_micros(ledger) == 60_000


# --- under the caps on what is alive


def _hold(ledger: Ledger, pool: WarmPool, limits: Limits) -> WarmHeld | Refused:
    return limited(ledger, limits).money.hold_warm(pool, WarmTerms(ROUND_S))


def _alive(ledger: Ledger) -> tuple[int, int, int, int]:
    view = limited(ledger, ROOMY).money.view()
    return view.calls.used, view.containers.used, view.gpus.used, view.hour_rate.used


def test_warm_containers_count_before_modal_is_told_and_until_it_let_them_go(ledger: Ledger) -> None:
    assert _hold(ledger, _pool(3, buffer=1), ROOMY) == WarmHeld(3, 1)
    assert _alive(ledger) == (0, 4, 4, 4 * 3_600_000)
    # Nothing is paid yet; then a round of the buffer too
    assert _spent_usd_micros(ledger) == 0
    assert ledger.money.pay_warm(_pool(3, buffer=1), WarmTerms(ROUND_S)) is None
    assert _spent_usd_micros(ledger) == 4 * 30_000
    # Somebody who died before Modal was told has left them to whoever has the duty next
    assert ledger.money.kept_warm() == {(Kind.RENDER, MODAL.gpu): 0}
    assert _keep(ledger, 0) is None
    assert (_alive(ledger), ledger.money.kept_warm()) == ((0, 0, 0, 0), {})
    assert ledger.audit(ROOMY) == []


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (replace(ROOMY, max_gpus=2), "gpus_at_cap"),
        (replace(ROOMY, max_containers=2), "containers_at_cap"),
        (replace(ROOMY, hour_rate_cap_usd_micros=2 * 3_600_000), "hour_rate"),
    ],
)
def test_as_many_are_kept_as_fit_under_the_caps_and_the_buffer_goes_first(
    ledger: Ledger, limits: Limits, reason: str
) -> None:
    assert _hold(ledger, _pool(2, buffer=3), limits) == WarmHeld(2, 0, reason)
    assert _hold(ledger, _pool(50), limits) == WarmHeld(2, 0, reason)
    assert _alive(ledger)[1] == 2
    # And where another class has taken all of the room, none is
    assert _keep(ledger, 0) is None
    other = replace(MODAL, gpu="H200:2", usd_nanos_per_s=2 * RATE, gpus=2)
    for _ in range(2):
        submit(ledger)
        place(ledger, other)
    assert _hold(ledger, _pool(1), limits) == Refused(reason)
    assert ledger.audit(ROOMY) == []


def test_a_call_in_a_warm_container_counts_once(ledger: Ledger) -> None:
    # Given two warm containers, and no room for a third
    limits = replace(ROOMY, max_gpus=2, max_containers=2, hour_rate_cap_usd_micros=2 * 3_600_000)
    held = 2, 2, 2 * 3_600_000
    assert _hold(ledger, _pool(2), limits) == WarmHeld(2, 0)
    assert _keep(ledger, 2) is None
    # When two jobs are placed on their class, then each has one of them
    decision = replace(MODAL, usd_nanos_per_s=RATE)
    jobs = [submit(ledger) for _ in range(2)]
    for _ in jobs:
        assert isinstance(place(ledger, decision, limits=limits), Placed)
    assert _alive(ledger) == (2, *held)
    # And a third is refused
    submit(ledger)
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=60)
    assert limited(ledger, limits).placement.place(claimed, decision, receipt=RECEIPT) == Refused("hour_rate")
    # When one is cancelled before it was spawned, its container waits for the next
    ledger.jobs.cancel(jobs[0])
    assert _alive(ledger) == (1, *held)
    # And one whose call has ended idles with its tail, and is kept after it
    now_ms = ledger.placement.view().now_ms
    claim_spawns(ledger, worker="o", limit=1, lease_s=10)
    ledger.modal_calls.record_call(jobs[1], 1, call_id="fc-1", first_check_s=0, deadline_s=600)
    ledger.attempts.begin_delivery(jobs[1], 1)
    usage = Usage([ContainerUse("ta-1", now_ms - 1000, now_ms)], usd_nanos_per_s=RATE, idle_window_s=WINDOW_S)
    ledger.attempts.complete(jobs[1], 1, artifact=ARTIFACT, measurements={}, usage=usage)
    assert _alive(ledger) == (0, *held)
    move_clock(ledger, WINDOW_S + 1)
    ledger.maintenance.idle_containers(limit=5)
    assert _alive(ledger) == (0, *held)
    assert ledger.audit(limits) == []


def test_what_may_not_be_paid_is_not_held_and_what_is_there_counts_nevertheless(ledger: Ledger) -> None:
    terms = WarmTerms(ROUND_S)
    poor = replace(ROOMY, month_cap_usd_micros=50_000)
    assert limited(ledger, poor).money.hold_warm(_pool(2), terms) == Refused("month_budget")
    assert _alive(ledger)[1] == 0
    # Two that Modal keeps all the same
    assert limited(ledger, poor).money.pay_warm(_pool(2), terms) == Refused("month_budget")
    assert (_alive(ledger)[1], _spent_usd_micros(ledger)) == (2, 0)
