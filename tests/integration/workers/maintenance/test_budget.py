"""When a budget is spent and the setting says so, the newest calls of low priority go, and their jobs wait."""

from ledger import Ledger, State
from ledger.decisions import RunOnModal
from ledger.nudges import Nudge
from tests.integration.workers.conftest import settings_for
from tests.support.ledgers import claim_spawns, limited_by, place, submit
from workers.maintenance.budget import cancel_at_stop

CALL = RunOnModal("H100", 300_000, usd_nanos_per_s=1_140_960)


def _live(ledger: Ledger, **fields: object) -> str:
    job_id = submit(ledger, **fields)
    place(ledger, CALL)
    for record in claim_spawns(ledger, worker="o", limit=1, lease_s=10):
        ledger.modal_calls.record_call(record.id, 1, call_id=f"fc-{record.id}", first_check_s=0, deadline_s=600)
    return job_id


def test_low_priority_calls_go_newest_first_when_a_budget_is_spent(ledger: Ledger) -> None:
    # Given four calls that have set aside a whole budget of 1.2 dollars, one of them a priority job's
    old, precious = _live(ledger, priority=2), _live(ledger, priority=9)
    middle, new = _live(ledger, priority=2), _live(ledger, priority=2)
    sent: list[Nudge] = []
    # When it is off, nothing happens
    settings = settings_for(ledger, month_cap_usd=1.2)
    assert cancel_at_stop(ledger, settings, send=sent.append) == 0
    # When it is on, the newest goes, which brings the budget below where it drains
    settings = settings_for(limited_by(ledger, settings), cancel_at_stop=True)
    assert cancel_at_stop(ledger, settings, send=sent.append) == 1
    assert ledger.jobs.get(new).state is State.QUEUED
    assert [nudge.queue for nudge in sent] == ["render"]
    # While its call is being stopped, no further one goes
    assert cancel_at_stop(ledger, settings, send=sent.append) == 0
    (stop,) = ledger.modal_calls.claim_cancels(limit=5, again_in_s=1)
    ledger.modal_calls.settle_cancel(stop.job_id, stop.attempt, cost_usd_micros=250_000)
    # What it had used by then is spent; so the next one goes too, and never the priority job's
    assert cancel_at_stop(ledger, settings, send=sent.append) == 1
    assert ledger.jobs.get(middle).state is State.QUEUED
    assert {ledger.jobs.get(job_id).state for job_id in (old, precious)} == {State.RUNNING}
    assert ledger.audit(ledger.money.limits()) == []


def test_only_the_spent_tenants_calls_go(ledger: Ledger) -> None:
    mine, _other = _live(ledger, tenant="acme"), _live(ledger, tenant="beta")
    settings = settings_for(ledger, tenant_month_caps_usd={"acme": 0.3}, cancel_at_stop=True)
    assert cancel_at_stop(limited_by(ledger, settings), settings, send=lambda _: None) == 1
    assert ledger.jobs.get(mine).state is State.QUEUED
