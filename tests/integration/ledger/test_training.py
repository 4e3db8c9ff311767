"""What training adds to the ledger: rows that are kept once and bounded, speeds, recalls, held spawns."""

from dataclasses import replace

import pytest

from ledger import Kind, Ledger, State, TrainJob
from ledger.decisions import Decision, Receipt, RunInhouse, RunOnModal
from ledger.models import JobRecord, speed_key
from ledger.outcomes import Placed
from ledger.retries import Cause
from ledger.training import ROWS_KEPT
from tests.support.ledgers import ROOMY, claim_spawns, limited, move_clock

MODAL = RunOnModal(gpu="L4", reserve_usd_micros=1_000_000)


def _placed(ledger: Ledger, decision: Decision) -> JobRecord:
    job_id = ledger.jobs.submit(TrainJob(recipe="image_classifier"), source="client").job_id
    (claimed,) = ledger.placement.claim_queued(Kind.TRAIN, limit=1, lease_s=10)
    outcome = limited(ledger, ROOMY).placement.place(claimed, decision, receipt=Receipt("test", "test", "test"))
    assert isinstance(outcome, Placed), outcome
    return ledger.jobs.get(job_id)


def _started(ledger: Ledger) -> JobRecord:
    _placed(ledger, RunInhouse())
    record = ledger.attempts.start_inhouse(Kind.TRAIN, worker="w", lease_s=10, usd_nanos_per_s=1)
    assert record is not None
    return record


def _row(n: int, kind: str = "progress") -> dict[str, object]:
    return {"n": n, "kind": kind, "step": n, "steps": 10_000}


def test_rows_that_are_told_twice_are_kept_once_and_in_all_not_too_many(ledger: Ledger) -> None:
    record = _started(ledger)
    assert ledger.attempts.note_training(record.id, 1, [_row(1), _row(2)], progress=7) == 2
    assert ledger.attempts.note_training(record.id, 1, [_row(2), _row(3)]) == 1
    assert [row["n"] for row in ledger.attempts.training_rows(record.id)] == [1, 2, 3]
    assert ledger.jobs.get(record.id).progress == 7
    # Another attempt has numbers of its own
    ledger.attempts.note_training(record.id, 2, [_row(1)])
    assert [(row["attempt"], row["n"]) for row in ledger.attempts.training_rows(record.id)][-1] == (2, 1)
    ledger.attempts.note_training(record.id, 1, [_row(n) for n in range(4, 1000)])
    assert len(ledger.attempts.training_rows(record.id)) == ROWS_KEPT
    assert ledger.attempts.note_training("ftjob_" + "0" * 32, 1, [_row(1)]) == 0


def test_a_speed_is_learnt_and_the_newest_counts_a_third(ledger: Ledger) -> None:
    record, key = _started(ledger), speed_key("image_classifier", "inhouse")
    ledger.attempts.note_training(record.id, 1, [], speed=(key, 0.3))
    ledger.attempts.note_training(record.id, 1, [], speed=(key, 0.6))
    assert ledger.placement.training_speeds() == {key: pytest.approx(0.4)}


def test_a_run_that_gets_on_is_forgiven_what_strikes_it_from_outside(ledger: Ledger) -> None:
    # Given a job that has lost its worker as often as is forgiven
    record = _started(ledger)
    ledger.client.hset(f"{ledger.prefix}:job:{record.id}", mapping={"tries:lease_lost": "5", "tries:error": "2"})
    # When it tells of a loss curve, nothing changes; when of a checkpoint, the outer causes are forgotten
    ledger.attempts.note_training(record.id, 1, [_row(1)])
    assert ledger.client.hget(f"{ledger.prefix}:job:{record.id}", "tries:lease_lost") == "5"
    ledger.attempts.note_training(record.id, 1, [_row(2, "checkpoint")])
    tries = ledger.client.hmget(f"{ledger.prefix}:job:{record.id}", "tries:lease_lost", "tries:error")
    assert tries == [None, "2"]


def test_what_a_run_does_twice_is_counted(ledger: Ledger) -> None:
    # Given a run that was told of up to step 40, and that its container's successor began again at step 30
    record = _started(ledger)
    ledger.attempts.note_training(record.id, 1, [_row(1, "started") | {"step": 0}, _row(2) | {"step": 40}])
    again = [_row(3, "started") | {"step": 30}, _row(4) | {"step": 50}]
    # When its rows come, the last of them twice
    ledger.attempts.note_training(record.id, 1, again)
    ledger.attempts.note_training(record.id, 1, again)
    # Then it is one restart, and ten steps
    counters = ledger.counters()
    assert counters["train_restarts_total|gpu=inhouse|pool=inhouse"] == 1
    assert counters["train_steps_repeated_total|gpu=inhouse|pool=inhouse"] == 10
    # And another attempt, which loses twenty, is no restart
    ledger.attempts.note_training(record.id, 2, [_row(1, "started") | {"step": 30}])
    counters = ledger.counters()
    assert counters["train_restarts_total|gpu=inhouse|pool=inhouse"] == 1
    assert counters["train_steps_repeated_total|gpu=inhouse|pool=none"] == 20


def test_what_is_done_twice_is_counted_where_checkpoints_are_torn(ledger: Ledger) -> None:
    # Given a run whose folder held a torn checkpoint: it warns before it begins, and does not know yet where it is
    record = _started(ledger)
    started, warning, progress = ({"kind": kind, "step": 0} for kind in ("started", "warning", "progress"))
    ledger.attempts.note_training(
        record.id, 1, [warning | {"n": 1}, started | {"n": 2}, progress | {"n": 3, "step": 40}]
    )
    counters = ledger.counters()
    # Then that was no restart, and nothing was done twice
    assert not [name for name in counters if name.startswith("train_")]
    # When its container is taken at step 40, its newest checkpoint is torn, and it goes on from step 20
    ledger.attempts.note_training(record.id, 1, [warning | {"n": 4}, started | {"n": 5, "step": 20}])
    # Then twenty steps are lost, by one restart
    where = "gpu=inhouse|pool=inhouse"
    counters = ledger.counters()
    assert counters[f"train_restarts_total|{where}"] == 1
    assert counters[f"train_steps_repeated_total|{where}"] == 20
    # And once more at step 30, before it has come as far as it had: ten
    ledger.attempts.note_training(record.id, 1, [progress | {"n": 6, "step": 30}, started | {"n": 7, "step": 20}])
    counters = ledger.counters()
    assert (counters[f"train_restarts_total|{where}"], counters[f"train_steps_repeated_total|{where}"]) == (2, 30)


def test_a_segment_that_is_over_is_no_failure(ledger: Ledger) -> None:
    record = _started(ledger)
    ledger.attempts.fail(record.id, 1, cause=Cause.SEGMENT_ENDED, message="over", max_attempts=10_000, jitter=0.0)
    assert ledger.jobs.get(record.id).state is State.QUEUED
    assert ledger.jobs.attempt(record.id, 1)["outcome"] == "segment_ended"


def test_a_job_that_waits_is_recalled_and_one_that_runs_is_not(ledger: Ledger) -> None:
    waiting = _placed(ledger, RunInhouse())
    assert [record.id for record in ledger.placement.waiting_inhouse(Kind.TRAIN, limit=9)] == [waiting.id]
    assert not limited(ledger, ROOMY).placement.recall(replace(waiting, attempt=7), MODAL, reason="stale")
    assert limited(ledger, ROOMY).placement.recall(waiting, MODAL, reason="slack_used_up")
    assert ledger.jobs.get(waiting.id).state is State.QUEUED
    assert ledger.jobs.history(waiting.id)[-1].detail == "slack_used_up"
    assert ledger.placement.waiting_inhouse(Kind.TRAIN, limit=9) == []
    ledger.jobs.cancel(waiting.id)
    running = _started(ledger)
    assert not limited(ledger, ROOMY).placement.recall(running, MODAL, reason="too late")
    assert ledger.audit() == []


def test_a_job_that_a_limit_keeps_off_modal_is_not_recalled_for_nothing(ledger: Ledger) -> None:
    waiting = _placed(ledger, RunInhouse())
    # While an operator has turned spilling off, the breaker is open, or there is no room for its reservation
    ledger.money.set_override("off", who="ann", why="prices")
    assert not limited(ledger, ROOMY).placement.recall(waiting, MODAL, reason="slack_used_up")
    ledger.money.set_override("auto", who="ann", why="prices")
    ledger.client.hset(f"{ledger.prefix}:breaker", "phase", "open")
    assert not limited(ledger, ROOMY).placement.recall(waiting, MODAL, reason="slack_used_up")
    ledger.client.hset(f"{ledger.prefix}:breaker", "phase", "half_open")
    poor = replace(ROOMY, month_cap_usd_micros=MODAL.reserve_usd_micros - 1)
    assert not limited(ledger, poor).placement.recall(waiting, MODAL, reason="slack_used_up")
    # Then it keeps its place, and loses none of its attempts; and it goes when nothing keeps it
    assert ledger.jobs.get(waiting.id) == waiting
    assert limited(ledger, ROOMY).placement.recall(waiting, MODAL, reason="slack_used_up")


def test_memory_that_ran_out_in_house_is_remembered(ledger: Ledger) -> None:
    record = _started(ledger)
    assert record.outgrown_inhouse is None
    message = "GPU memory ran out at step 3"
    ledger.attempts.fail(record.id, 1, cause=Cause.OUT_OF_MEMORY, message=message, max_attempts=9, jitter=0.0)
    after = ledger.jobs.get(record.id)
    assert (after.state, after.outgrown_inhouse, after.outgrown_gpu) == (State.QUEUED, "cuda", None)


def test_a_claim_on_a_spawn_is_held_until_it_is_lost(ledger: Ledger) -> None:
    record = _placed(ledger, MODAL)
    assert not ledger.modal_calls.hold_spawn(record.id, 1, lease_s=5)
    (claimed,) = claim_spawns(ledger, worker="w", limit=1, lease_s=5)
    assert ledger.modal_calls.hold_spawn(claimed.id, 1, lease_s=60)
    assert ledger.maintenance.expire_leases(limit=9, max_attempts=9) == []
    ledger.jobs.cancel(record.id)
    assert not ledger.modal_calls.hold_spawn(claimed.id, 1, lease_s=5)


def test_a_lost_lease_ends_no_run_for_the_number_of_its_segments(ledger: Ledger) -> None:
    # Given a train job in its 26th attempt, whose worker does not renew any more
    record = _started(ledger)
    ledger.client.hset(f"{ledger.prefix}:job:{record.id}", "attempt", 26)
    move_clock(ledger, 60)
    # When leases are expired, with a bound for each kind
    bounds = {Kind.RENDER: 25, Kind.TRAIN: 10_000}
    (expired,) = ledger.maintenance.expire_leases(limit=9, max_attempts=bounds)
    # Then its own kind's bound counts, and not the renders'
    assert (expired.attempt, expired.outcome) == (26, "requeued")
    # And with one bound for all it would have failed
    again = _started(ledger)
    ledger.client.hset(f"{ledger.prefix}:job:{again.id}", "attempt", 26)
    move_clock(ledger, 120)
    assert [lease.outcome for lease in ledger.maintenance.expire_leases(limit=9, max_attempts=25)] == ["failed"]
