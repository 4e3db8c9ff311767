"""Each check can fail: a run that is well, and one thing wrong with it at a time."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.bill import BillOf, compare
from tests.chaos.checks import Evidence, judge, lost_by_celery
from tests.chaos.injector import Strike
from tests.chaos.observations import JobFacts, LedgerFacts, ModalFacts, ObjectFacts
from tests.chaos.plan import Door, Fault, Plan, PlannedFault, PlannedJob
from tests.chaos.report import last_line
from tests.chaos.submitter import Receipt

KEY = "render/video_1/2/video.mp4"
ARTIFACT = {"key": KEY, "thumbnail_key": None, "size_bytes": 9, "sha256": "abc"}


def _event(state: str, event: str = "") -> dict[str, str]:
    return {"event": event or f"job.{state}", "state": state}


def _job(job_id: str, state: str, *, prompt: str, artifact: Mapping[str, object] | None = None) -> JobFacts:
    fields = {
        "kind": "render",
        "state": state,
        "attempt": "2",
        "spec": json.dumps({"prompt": prompt, "seconds": 1, "fps": 8}),
    }
    if artifact:
        fields["artifact"] = json.dumps(artifact)
    attempt = {"pool": "inhouse", "outcome": state}
    return JobFacts(job_id, fields, [_event("queued"), _event(state)], {1: attempt, 2: attempt})


@pytest.fixture
def well() -> Evidence:
    """A run of two jobs and one fault in which everything held."""
    one = _job("video_1", "completed", prompt="job 1", artifact=ARTIFACT)
    two = _job("video_2", "cancelled", prompt="job 2")
    ledger = LedgerFacts(
        jobs={one.id: one, two.id: two},
        idempotency={"default:celery:chaos-1-2": "video_2"},
        events=[],
        reserved_usd_micros=0,
        reservations=[],
        spent_modal_usd_micros=0,
        cancels=[],
    )
    modal = ModalFacts(calls=[], containers=[])
    fault = PlannedFault(1, 0, Fault.CANCEL, 0)
    return Evidence(
        plan=Plan(
            1,
            (
                PlannedJob(1, 0, Door.API, "render", keyed=True, fields={"prompt": "job 1"}),
                PlannedJob(2, 0, Door.CELERY, "render", keyed=True, fields={"prompt": "job 2"}),
            ),
            (fault,),
        ),
        receipts={1: Receipt(1, Door.API, "video_1"), 2: Receipt(2, Door.CELERY, task_id="chaos-1-2")},
        strikes=[Strike(fault, "video_2", 1)],
        ledger=ledger,
        objects={KEY: ObjectFacts(KEY, 9, "abc", 8)},
        modal=modal,
        audit=[],
        bill=compare(ledger, modal, of=BillOf.CALLS),
        bill_tolerance_percent=1,
    )


def _broken(evidence: Evidence) -> list[str]:
    return [check.name for check in judge(evidence).checks if not check.holds]


def _with_jobs(evidence: Evidence, *jobs: JobFacts) -> Evidence:
    return replace(
        evidence, ledger=replace(evidence.ledger, jobs={**evidence.ledger.jobs, **{job.id: job for job in jobs}})
    )


def test_a_run_in_which_all_is_well(well: Evidence) -> None:
    verdict = judge(well)
    assert verdict.well
    assert last_line(well, verdict) == "chaos: seed 1, 2 jobs, 1 faults, 0 lost, 0 double, 0 leaked, bill within 0.0 %"


def test_an_accepted_job_that_is_gone_is_lost(well: Evidence) -> None:
    gone = replace(well, receipts={**well.receipts, 1: Receipt(1, Door.API, "video_gone")})
    assert _broken(gone) == ["accepted jobs lost"]
    assert judge(gone).lost == 1


def test_an_accepted_job_that_has_not_ended_is_lost(well: Evidence) -> None:
    stuck = _job("video_2", "running", prompt="job 2")
    verdict = judge(_with_jobs(well, stuck))
    assert verdict.lost == 1
    assert [check.jobs for check in verdict.checks if not check.holds] == [("video_2",), ("video_2",)]


def test_a_bare_message_that_the_ledger_never_had_is_told_apart_and_not_lost(well: Evidence) -> None:
    never = replace(well, ledger=replace(well.ledger, idempotency={}))
    assert judge(never).lost == 0
    assert lost_by_celery(never) == ["chaos-1-2"]


def test_two_ends_are_double(well: Evidence) -> None:
    one = well.ledger.jobs["video_1"]
    verdict = judge(_with_jobs(well, replace(one, history=[*one.history, _event("completed")])))
    assert verdict.double == 1
    assert not verdict.well


def test_what_is_told_of_a_call_after_the_end_is_no_second_end(well: Evidence) -> None:
    one = well.ledger.jobs["video_1"]
    told = [*one.history, _event("completed", "call.orphan_found")]
    assert judge(_with_jobs(well, replace(one, history=told))).well


def test_one_wish_that_became_two_jobs_is_double(well: Evidence) -> None:
    verdict = judge(_with_jobs(well, _job("video_3", "failed", prompt="job 1")))
    assert verdict.double == 2


@pytest.mark.parametrize(
    "modal",
    [
        ModalFacts([{"call_id": "fc-1", "state": "running", "inputs": []}], []),
        ModalFacts([], [{"task_id": "ta-1", "running_inputs": ["in-1"], "seconds": 0}]),
    ],
)
def test_a_call_that_runs_or_a_container_that_is_busy_is_leaked(well: Evidence, modal: ModalFacts) -> None:
    assert judge(replace(well, modal=modal)).leaked == 1
    assert _broken(replace(well, modal=modal)) == ["Modal calls or containers leaked"]


@pytest.mark.parametrize(
    "found",
    [
        ObjectFacts(KEY, 8, "abc", 8),
        ObjectFacts(KEY, 9, "abd", 8),
        ObjectFacts(KEY, 9, "abc", 7),
        ObjectFacts(KEY, 9, "abc", 0),
    ],
)
def test_an_artifact_that_is_not_what_was_recorded_is_not_whole(well: Evidence, found: ObjectFacts) -> None:
    assert _broken(replace(well, objects={KEY: found})) == ["artifacts that are not whole"]


FOLDER = "train/ftjob_1/1/step-12"
METADATA, WEIGHTS = f"{FOLDER}/metadata.json", f"{FOLDER}/model.safetensors"


@pytest.fixture
def trained(well: Evidence) -> Evidence:
    """A run with a train job too: its first attempt reached the last step and died, its second one published that."""
    fields = {"kind": "train", "state": "completed", "attempt": "2", "spec": json.dumps({"steps": 12, "seed": 3})}
    artifact = json.dumps({"key": METADATA, "thumbnail_key": None, "size_bytes": 5, "sha256": "abc"})
    job = JobFacts("ftjob_1", {**fields, "artifact": artifact}, [_event("queued"), _event("completed")], {})
    objects = {METADATA: ObjectFacts(METADATA, 2, "abc", step=12), WEIGHTS: ObjectFacts(WEIGHTS, 3)}
    other = "train/ftjob_1/1/step-8/metadata.json"
    objects[other] = ObjectFacts(other, 2)
    return replace(_with_jobs(well, job), objects={**well.objects, **objects})


def test_a_checkpoint_and_those_before_it_are_well(trained: Evidence) -> None:
    assert _broken(trained) == []


@pytest.mark.parametrize(
    "found",
    [
        ObjectFacts(METADATA, 2, "abd", step=12),  # other metadata than was recorded
        ObjectFacts(METADATA, 2, "abc", step=None),  # a file is not what the metadata says
        ObjectFacts(METADATA, 2, "abc", step=8),  # not the last step
        ObjectFacts(METADATA, 3, "abc", step=12),  # more or less than was recorded
    ],
)
def test_a_checkpoint_that_is_not_what_was_recorded_is_not_whole(trained: Evidence, found: ObjectFacts) -> None:
    broken = replace(trained, objects={**trained.objects, METADATA: found})
    assert _broken(broken) == ["artifacts that are not whole"]


def test_a_checkpoint_of_nobody_is_left_over(trained: Evidence) -> None:
    key = "train/ftjob_9/1/step-4/metadata.json"
    littered = replace(trained, objects={**trained.objects, key: ObjectFacts(key, 1)})
    assert _broken(littered) == ["objects that are not a lost attempt's"]


def test_an_artifact_without_its_object(well: Evidence) -> None:
    assert _broken(replace(well, objects={})) == ["completed jobs without their object"]


def test_an_artifact_of_an_attempt_that_lost(well: Evidence) -> None:
    older = KEY.replace("/2/", "/1/")
    job = _job("video_1", "completed", prompt="job 1", artifact={**ARTIFACT, "key": older})
    moved = replace(_with_jobs(well, job), objects={older: ObjectFacts(older, 9, "abc", 8)})
    assert _broken(moved) == ["artifacts of another attempt than the last"]


def test_an_artifact_of_a_job_that_did_not_complete(well: Evidence) -> None:
    other = "render/video_2/2/video.mp4"
    job = _job("video_2", "cancelled", prompt="job 2", artifact={**ARTIFACT, "key": other})
    assert "artifacts published for other jobs" in _broken(_with_jobs(well, job))


@pytest.mark.parametrize(
    ("key", "holds"),
    [
        ("render/video_1/1/video.mp4", True),  # an attempt that lost
        ("render/video_2/2/video.mp4", True),  # of a job that was cancelled
        ("render/video_1/2/other.mp4", False),  # of the attempt that won, and nobody points to it
        ("render/video_9/1/video.mp4", False),  # of nobody
    ],
)
def test_only_attempts_that_lost_leave_objects_behind(well: Evidence, key: str, holds: bool) -> None:
    littered = replace(well, objects={**well.objects, key: ObjectFacts(key, 1)})
    assert ("objects that are not a lost attempt's" not in _broken(littered)) is holds


@pytest.mark.parametrize(
    "change", [{"reserved_usd_micros": 1}, {"reservations": ["video_1:1"]}, {"cancels": ["video_1:1"]}]
)
def test_money_that_is_still_set_aside(well: Evidence, change: dict[str, Any]) -> None:
    assert _broken(replace(well, ledger=replace(well.ledger, **change))) == [
        "reservations are zero, nothing is to be stopped"
    ]


def test_what_audit_found(well: Evidence) -> None:
    assert _broken(replace(well, audit=["1 video_1 something"])) == ["audit() is empty, every time"]


def test_a_bill_beyond_its_tolerance(well: Evidence) -> None:
    bill = replace(well.bill, ledger=1020, attempts=1020, inputs=1000)
    (check,) = [c for c in judge(replace(well, bill=bill)).checks if not c.holds]
    assert check.figure.startswith("+2.0 %")
    assert judge(replace(well, bill=bill, bill_tolerance_percent=2)).well


def test_a_ledger_whose_attempts_do_not_add_up(well: Evidence) -> None:
    bill = replace(well.bill, ledger=1000, attempts=999, inputs=1000)
    assert not judge(replace(well, bill=bill)).well


def test_a_fault_that_found_nothing_to_strike(well: Evidence) -> None:
    missed = [replace(well.strikes[0], missed="nothing there")]
    assert _broken(replace(well, strikes=missed)) == ["every fault struck"]
    assert _broken(replace(well, strikes=[])) == ["every fault struck"]


def _with_records(evidence: Evidence, *jobs: JobFacts, aside: Mapping[str, str]) -> Evidence:
    """A run in which `video_8` was written by a newer version, and `video_9` cannot be read."""
    fault = PlannedFault(2, 0, Fault.NEWER_RECORD, 0)
    struck = _with_jobs(evidence, *jobs)
    return replace(
        struck,
        plan=replace(struck.plan, faults=(*struck.plan.faults, fault)),
        strikes=[*struck.strikes, Strike(fault, "two queued jobs", 1, jobs=("video_8", "video_9"))],
        ledger=replace(struck.ledger, quarantined=aside),
    )


def test_a_newer_record_is_done_and_an_unreadable_one_is_set_aside_and_nothing_else(well: Evidence) -> None:
    name = "records of another version are read or set aside, alone"
    newer, unreadable = _job("video_8", "failed", prompt="n"), _job("video_9", "queued", prompt="u")
    assert judge(_with_records(well, newer, unreadable, aside={"video_9": "spec"})).well
    stuck = _job("video_8", "queued", prompt="n")
    assert name in _broken(_with_records(well, stuck, unreadable, aside={"video_9": "spec"}))
    assert _broken(_with_records(well, newer, unreadable, aside={})) == [name]
    assert _broken(_with_records(well, newer, unreadable, aside={"video_9": "spec", "video_1": "why"})) == [name]
