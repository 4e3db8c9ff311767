"""Containers that are kept warm are paid once: a round ahead while they wait, by their tail after a call, by calls."""

import pytest

from ledger import Kind, Ledger
from ledger.containers import ContainerUse, Usage
from ledger.models import Artifact
from ledger.outcomes import Refused
from tests.support.ledgers import MODAL, ROOMY, move_clock, place, submit

ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
#: A thousand micro-dollars a second: a second is easily read off.
RATE = 1_000_000
WINDOW_S, ROUND_S = 60.0, 30.0


def _keep(ledger: Ledger, *, idle: int, ceiling_usd_micros: int | None = None) -> Refused | None:
    """One round of the warm keeper, who sees so many of its containers idle."""
    return ledger.warming.pay(
        Kind.RENDER, MODAL.gpu, idle=idle, usd_nanos_per_s=RATE, round_s=ROUND_S, limits=ROOMY,
        ceiling_usd_micros=ceiling_usd_micros,
    )  # fmt: skip


def _call_ended(ledger: Ledger, container: str, *, started_s_ago: float, ran_s: float, first: bool = True) -> int:
    """A call ran in a container until now. What its job is charged, micro-dollars."""
    job_id = submit(ledger)
    place(ledger, MODAL)
    ledger.calls.claim_spawns(worker="o", limit=1, lease_s=10)
    ledger.calls.record_call(job_id, 1, call_id=f"fc-{job_id}", first_check_s=0, deadline_s=600)
    ledger.attempts.begin_delivery(job_id, 1)
    now_ms = ledger.placing.view().now_ms
    began_ms, ran_from_ms = now_ms - round(started_s_ago * 1000), now_ms - round(ran_s * 1000)
    use = ContainerUse(container, began_ms, now_ms, False, ran_from_ms, first)
    usage = Usage([use], usd_nanos_per_s=RATE, idle_window_s=WINDOW_S)
    ledger.attempts.complete(job_id, 1, artifact=ARTIFACT, measurements={}, usage=usage)
    return ledger.desk.get(job_id).cost_usd_micros


def _spent_usd_micros(ledger: Ledger) -> int:
    return ledger.placing.view().money.spent_usd_micros


#: The rounds and calls of a test take moments of their own.
_ABOUT_USD_MICROS = 500


def test_a_call_is_not_charged_for_the_time_that_its_container_was_kept_warm_for_it(ledger: Ledger) -> None:
    # Given a warm container that was paid for two rounds ahead
    for _ in range(2):
        assert _keep(ledger, idle=1) is None
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
    assert _keep(ledger, idle=1) is None
    assert _spent_usd_micros(ledger) == 20_000
    move_clock(ledger, WINDOW_S)
    ledger.sweeps.idle_containers(limit=5)
    assert _keep(ledger, idle=1) is None
    assert _spent_usd_micros(ledger) == 20_000 + 60_000 + 30_000
    # And the next call, a round later, pays for itself alone: 20 + 60 + 30 + 10 s
    move_clock(ledger, ROUND_S + 10)
    cost = _call_ended(ledger, "ta-1", started_s_ago=120, ran_s=10, first=False)
    assert cost == pytest.approx(10_000, abs=_ABOUT_USD_MICROS)
    assert _spent_usd_micros(ledger) == pytest.approx(120_000, abs=_ABOUT_USD_MICROS)
    assert ledger.audit(ROOMY) == []


def test_what_was_paid_ahead_is_credited_once(ledger: Ledger) -> None:
    # Given one warm container that is paid for, and two that began with it
    assert _keep(ledger, idle=1) is None
    move_clock(ledger, ROUND_S + 10)
    # When both are given a call: then one had waited for nothing, the other's waiting was not paid for
    costs = [_call_ended(ledger, name, started_s_ago=ROUND_S + 10, ran_s=10) for name in ("ta-1", "ta-2")]
    assert costs == [pytest.approx(10_000, abs=_ABOUT_USD_MICROS), pytest.approx(40_000, abs=_ABOUT_USD_MICROS)]


def test_a_days_ceiling_counts_what_is_paid(ledger: Ledger) -> None:
    assert _keep(ledger, idle=2, ceiling_usd_micros=100_000) is None
    assert _keep(ledger, idle=2, ceiling_usd_micros=100_000) == Refused("warm_ceiling")
    assert _spent_usd_micros(ledger) == 60_000
