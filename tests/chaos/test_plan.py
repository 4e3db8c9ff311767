"""The plan is a pure function of its arguments, and deals every kind of fault."""

from collections import Counter

import pytest

from ledger import Kind
from ledger.models import parse_job
from tests.chaos.plan import WEIGHTS, Door, Fault, make_plan

LEASE_S = 10.0


def _plan(seed: int = 7, *, jobs: int = 1000, faults: int = 200) -> object:
    return make_plan(seed, jobs=jobs, faults=faults, lease_s=LEASE_S)


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert _plan(7) == _plan(7)
    assert _plan(7) != _plan(8)


def test_there_are_exactly_as_many_jobs_and_faults_as_were_asked_for() -> None:
    for jobs, faults in ((0, 0), (1, 1), (60, 12), (1000, 200)):
        plan = make_plan(3, jobs=jobs, faults=faults, lease_s=LEASE_S)
        assert (len(plan.jobs), len(plan.faults)) == (jobs, faults)
        assert [job.number for job in plan.jobs] == list(range(1, jobs + 1))


def test_steps_are_in_order_and_within_the_length() -> None:
    plan = make_plan(5, jobs=300, faults=60, lease_s=LEASE_S)
    for steps in (plan.jobs, plan.faults):
        times = [step.at_s for step in steps]
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] <= plan.length_s


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_fault_is_dealt_as_soon_as_there_is_room_for_it(seed: int) -> None:
    plan = make_plan(seed, jobs=0, faults=len(Fault), lease_s=LEASE_S)
    assert Counter(step.fault for step in plan.faults) == Counter(Fault)
    assert set(WEIGHTS) == set(Fault)


def test_a_stop_lasts_longer_than_a_lease_and_a_clock_jumps_no_further_than_one() -> None:
    plan = make_plan(9, jobs=0, faults=300, lease_s=LEASE_S)
    stops = [step.lasts_s for step in plan.faults if step.fault.startswith("stop_")]
    jumps = [step.amount for step in plan.faults if step.fault is Fault.JUMP_CLOCK]
    assert stops
    assert min(stops) > LEASE_S
    assert jumps
    assert 0 < min(jumps) <= max(jumps) <= LEASE_S * 1000


def test_a_workers_clock_jumps_up_to_an_hour_ahead_or_back() -> None:
    plan = make_plan(9, jobs=0, faults=2000, lease_s=LEASE_S)
    jumps = [step.amount for step in plan.faults if step.fault is Fault.JUMP_WORKER_CLOCK]
    assert min(jumps) < 0 < max(jumps)
    assert max(map(abs, jumps)) <= 3_600_000


def test_the_number_of_jobs_changes_nothing_about_which_faults_strike() -> None:
    few = make_plan(7, jobs=10, faults=50, lease_s=LEASE_S).faults
    many = make_plan(7, jobs=1000, faults=50, lease_s=LEASE_S).faults
    assert [(step.fault, step.victim, step.amount) for step in few] == [
        (step.fault, step.victim, step.amount) for step in many
    ]


def test_every_planned_job_is_one_that_the_system_takes() -> None:
    plan = make_plan(7, jobs=500, faults=0, lease_s=LEASE_S)
    for job in plan.jobs:
        parse_job(Kind(job.kind), job.fields)
    assert {(job.door, job.kind) for job in plan.jobs} == {
        (Door.API, "render"), (Door.CLIENT, "render"), (Door.CELERY, "render"),
        (Door.CLIENT, "train"), (Door.CELERY, "train"),
    }  # fmt: skip
    assert {job.fields["burst"] for job in plan.jobs} == {"never", "auto", "always"}
    prompts = [job.fields["prompt"] for job in plan.jobs if job.kind == "render"]
    assert len(set(prompts)) == len(prompts)
