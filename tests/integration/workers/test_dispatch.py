"""Dispatch on a real ledger: decisions are committed with receipts; a hard limit turns Modal into a hold."""

import json

import pytest

from ledger import Kind, Ledger, State, TrainJob
from ledger.models import JobRecord
from ledger.view import ClusterView
from tests.integration.workers.conftest import RecordingNudger, settings_for
from tests.support.ledgers import limited_by, move_clock, submit
from workers.dispatch import Dispatcher
from workers.maintenance.recall import recall_trains
from workers.placement.policy import Verdict
from workers.resources import Resources


def _dispatcher(ledger: Ledger, **fields: object) -> tuple[Dispatcher, RecordingNudger]:
    nudger = RecordingNudger()
    settings = settings_for(ledger, **fields)
    return Dispatcher(limited_by(ledger, settings), nudger, settings), nudger  # type: ignore[arg-type]  # the port


def test_a_burst_is_split_at_the_watermark_and_each_attempt_gets_its_nudge(ledger: Ledger) -> None:
    ledger.attempts.slot_lives([Kind.RENDER], worker="g", lease_s=60)
    for _ in range(7):
        submit(ledger)
    dispatcher, nudger = _dispatcher(ledger, high_watermark=3, low_watermark=1)
    assert dispatcher.run(Kind.RENDER) == {"placed_inhouse": 3, "placed_modal": 4}
    assert [nudge.queue for nudge in nudger.sent] == ["inhouse.render"] * 3 + ["overflow"] * 4
    assert ledger.placement.view().of(Kind.RENDER).spill.active


def test_a_spent_budget_holds_and_then_sheds_with_an_honest_reason(ledger: Ledger) -> None:
    # Given a budget for one call, and no in-house slot
    dispatcher, _ = _dispatcher(
        ledger, month_cap_usd=0.4, render_call_estimate_s=180, hold_again_s=5, hold_timeout_s=12
    )
    first, second = submit(ledger), submit(ledger, priority=4)
    # When two jobs come, then one is placed and the other held, with a receipt that says both
    assert dispatcher.run(Kind.RENDER) == {"placed_modal": 1, "held": 1}
    held = ledger.jobs.get(second)
    assert (held.state, held.held_reason) == (State.HELD, "month_budget")
    (receipt,) = ledger.jobs.receipts(second)
    assert (receipt["rule"], receipt["signals"]["wanted"]) == ("month_budget", "no_live_slot")
    # It is looked at again, and again held
    move_clock(ledger, 6)
    ledger.maintenance.due_held(limit=10)
    assert dispatcher.run(Kind.RENDER) == {"held": 1}
    # Until its time is over
    move_clock(ledger, 20)
    assert ledger.maintenance.due_held(limit=10) == ([], [second])
    record = ledger.jobs.get(second)
    assert (record.state, record.error_code) == (State.FAILED, "budget_exhausted")
    assert ledger.jobs.get(first).state is State.PLACED
    assert ledger.audit(ledger.money.limits()) == []


def test_held_jobs_go_on_when_there_is_room_again(ledger: Ledger) -> None:
    dispatcher, _ = _dispatcher(ledger, max_modal_attempts=1)
    first, second = submit(ledger), submit(ledger, priority=4)
    assert dispatcher.run(Kind.RENDER) == {"placed_modal": 1, "held": 1}
    ledger.jobs.cancel(first)
    move_clock(ledger, 6)
    ledger.maintenance.due_held(limit=10)
    assert dispatcher.run(Kind.RENDER) == {"placed_modal": 1}
    assert ledger.jobs.get(second).state is State.PLACED


def test_a_held_job_is_not_held_past_its_deadline(ledger: Ledger) -> None:
    dispatcher, _ = _dispatcher(ledger, max_modal_attempts=0, hold_timeout_s=900)
    job_id = submit(ledger, deadline_s=30)
    assert dispatcher.run(Kind.RENDER) == {"held": 1}
    move_clock(ledger, 31)
    assert ledger.maintenance.due_held(limit=10) == ([], [job_id])
    assert ledger.jobs.get(job_id).error_code == "deadline_impossible"


def test_a_train_job_that_may_not_go_to_modal_waits_for_own_gpus_and_goes_when_it_may(
    ledger: Ledger, resources: Resources
) -> None:
    # Given no budget for Modal, and no own GPU that is alive
    job = TrainJob(recipe="image_classifier", deadline_s=60)
    poor, _ = _dispatcher(ledger, month_cap_usd=0)
    job_id = ledger.jobs.submit(job, source="client").job_id
    # When a train job comes, then it is not held until it is shed: it waits for own GPUs
    assert poor.run(Kind.TRAIN) == {"placed_inhouse": 1}
    (receipt,) = ledger.jobs.receipts(job_id)
    assert (receipt["rule"], receipt["signals"]["wanted"]) == ("month_budget", "no_live_slot")
    # And it is left there while spilling is off, though its slack is used up
    ledger.money.set_override("off", who="ann", why="prices")
    recall_trains(resources)
    assert ledger.jobs.get(job_id).state is State.PLACED
    # And take it away when nothing keeps it off Modal any more
    ledger.money.set_override("auto", who="ann", why="prices")
    limited_by(ledger, settings_for(ledger))
    recall_trains(resources)
    assert ledger.jobs.get(job_id).state is State.QUEUED
    rich, nudger = _dispatcher(ledger)
    assert rich.run(Kind.TRAIN) == {"placed_modal": 1}
    assert [nudge.queue for nudge in nudger.sent] == ["overflow"]


def _damage_spec(ledger: Ledger, job_id: str, spec: str) -> None:
    ledger.client.hset(f"{ledger.prefix}:job:{job_id}", "spec", spec)


def test_a_job_that_a_newer_client_wrote_is_placed_like_the_others(ledger: Ledger) -> None:
    # Given a slot, and a first job whose spec has a field that this version does not know
    ledger.attempts.slot_lives([Kind.RENDER], worker="g", lease_s=60)
    newer, other = submit(ledger, priority=9), submit(ledger)
    spec = json.loads(ledger.jobs.get(newer).spec)
    _damage_spec(ledger, newer, json.dumps({**spec, "negative_prompt": "rain"}))
    dispatcher, _ = _dispatcher(ledger)
    # When they are decided about, then both are placed, and what is known of the first is read
    assert dispatcher.run(Kind.RENDER) == {"placed_inhouse": 2}
    assert ledger.jobs.get(newer).job.model_dump()["prompt"] == "a red ball"
    assert ledger.jobs.get(other).state is State.PLACED


@pytest.mark.parametrize(
    "spec", ["{", "[]", "null", '{"prompt": 7}', '{"prompt": "x", "seconds": 1e99}', "[" * 100_000]
)
def test_a_spec_that_cannot_be_read_is_set_aside_alone(ledger: Ledger, spec: str) -> None:
    # Given a first job whose spec is no job, and a healthy one behind it
    ledger.attempts.slot_lives([Kind.RENDER], worker="g", lease_s=60)
    broken, healthy = submit(ledger, priority=9), submit(ledger)
    _damage_spec(ledger, broken, spec)
    dispatcher, _ = _dispatcher(ledger)
    # When they are decided about, then the healthy one is placed, and the other is in quarantine with its reason
    assert dispatcher.run(Kind.RENDER) == {"quarantined": 1, "placed_inhouse": 1}
    assert ledger.jobs.get(healthy).state is State.PLACED
    assert "spec" in ledger.jobs.quarantined()[broken]
    # And it does not come again
    move_clock(ledger, 60)
    assert dispatcher.run(Kind.RENDER) == {}


def test_an_error_about_one_job_does_not_stop_those_behind_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a policy that raises about the first of two jobs
    ledger.attempts.slot_lives([Kind.RENDER], worker="g", lease_s=60)
    first, second = submit(ledger, priority=9), submit(ledger)
    dispatcher, _ = _dispatcher(ledger)
    decide = dispatcher._policy.decide

    def faulty(record: JobRecord, view: ClusterView) -> Verdict:
        if record.id == first:
            raise ZeroDivisionError
        return decide(record, view)

    monkeypatch.setattr(type(dispatcher._policy), "decide", lambda _, record, view: faulty(record, view))
    # When they are decided about, then the second is placed, and the first waits for its claim to lapse
    assert dispatcher.run(Kind.RENDER) == {"not_decided": 1, "placed_inhouse": 1}
    assert ledger.jobs.get(second).state is State.PLACED
    assert ledger.jobs.get(first).state is State.QUEUED


@pytest.mark.parametrize("damage", ["spec", "tenant", "attempt"])
def test_a_waiting_train_job_that_cannot_be_read_stops_no_other_from_being_recalled(
    ledger: Ledger, resources: Resources, damage: str
) -> None:
    # Given two train jobs that wait for own GPUs and should go to Modal, of which the first cannot be read
    ids = [ledger.jobs.submit(TrainJob(recipe="image_classifier", deadline_s=60), source="client").job_id for _ in "ab"]
    poor, _ = _dispatcher(ledger, month_cap_usd=0)
    assert poor.run(Kind.TRAIN) == {"placed_inhouse": 2}
    broken, healthy = ids
    key = f"{ledger.prefix}:job:{broken}"
    if damage == "spec":
        ledger.client.hset(key, "spec", "{")
    else:
        ledger.client.hdel(key, damage)
    # When they are thought about, now that there is a budget, then the other is decided about again
    limited_by(ledger, settings_for(ledger))
    recall_trains(resources)
    assert ledger.jobs.get(healthy).state is State.QUEUED
