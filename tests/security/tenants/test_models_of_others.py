"""A job may use what its own tenant has trained, and nobody learns whether another tenant's job is there."""

import json
from typing import Any

import pytest

from infra.artifacts import ArtifactStore
from ledger import Kind, Ledger, RenderJob, State, TrainJob
from ledger.decisions import RunInhouse
from ledger.errors import ModelNotFound
from ledger.models import Job
from ledger.states import Pool
from tests.integration.workers.conftest import RecordingNudger, settings_for
from tests.support.api_server import RunningApi
from tests.support.ledgers import MODAL, RECEIPT, place, submit
from tests.support.settings import changed
from workers.inhouse import run_next
from workers.overflow.breaker import BreakerRules, Gate
from workers.overflow.spawner import Spawner
from workers.resources import Resources

NOWHERE = "ftjob_" + "0" * 32


def trained(ledger: Ledger, tenant: str, recipe: str = "diffusion_transformer") -> str:
    """A train job of a tenant; whether it has ended changes nothing about whose it is."""
    job = TrainJob.model_validate({"recipe": recipe, "tenant": tenant})
    return ledger.jobs.submit(job, source="client").job_id


def job_that_uses(kind: Kind, used_id: str) -> Job:
    if kind is Kind.RENDER:
        return RenderJob(prompt="a red circle", seconds=1, size="320x180", model=f"dit:{used_id}")
    return TrainJob(recipe="diffusion_transformer", classifier=used_id)


def test_anothers_model_is_refused_at_the_door_in_the_words_of_one_that_does_not_exist(api: RunningApi) -> None:
    # given a neighbour's train job, one of one's own, and other things that are no train jobs of one's own
    theirs, mine = trained(api.ledger, "acme"), trained(api.ledger, "default")
    render = submit(api.ledger)
    api.ledger.client.set(f"{api.ledger.prefix}:job:string", "no record")
    before = api.keys()
    # when they are named
    answers = {
        name: api.post(prompt="x", model=f"dit:{name}") for name in (theirs, NOWHERE, render, "", "../x", "string")
    }
    # then all are refused alike, without a trace
    assert {answer.status_code for answer in answers.values()} == {400}
    assert len({answer.text for answer in answers.values()}) == 1
    assert answers[theirs].json()["error"] | {"message": ""} == {
        "message": "", "type": "invalid_request_error", "param": "model", "code": "model_not_found"
    }  # fmt: skip
    assert api.keys() == before
    # and one's own is accepted
    assert api.post(prompt="x", model=f"dit:{mine}").status_code == 200


@pytest.mark.parametrize("kind", Kind)
def test_the_ledger_refuses_it_whoever_submits(ledger: Ledger, kind: Kind) -> None:
    theirs, mine = trained(ledger, "acme", "image_classifier"), trained(ledger, "default", "image_classifier")
    for used_id in (theirs, NOWHERE):
        with pytest.raises(ModelNotFound) as refused:
            ledger.jobs.submit(job_that_uses(kind, used_id), source="celery")
        assert str(refused.value) == str(ModelNotFound(used_id))
    assert ledger.jobs.submit(job_that_uses(kind, mine), source="client").created


def test_a_key_of_idempotency_gives_back_a_job_whose_model_is_gone_by_now(ledger: Ledger) -> None:
    job = job_that_uses(Kind.RENDER, trained(ledger, "default"))
    first = ledger.jobs.submit(job, source="api", idempotency_key="k")
    ledger.client.delete(f"{ledger.prefix}:job:{job.uses}")
    assert ledger.jobs.submit(job, source="api", idempotency_key="k").job_id == first.job_id


def accepted_before_it_was_checked(ledger: Ledger, kind: Kind, used_id: str) -> str:
    """A job as an older version accepted it: the ledger holds it, whatever it uses."""
    harmless = RenderJob(prompt="x") if kind is Kind.RENDER else TrainJob(recipe="diffusion_transformer")
    job_id = ledger.jobs.submit(harmless, source="api").job_id
    spec = job_that_uses(kind, used_id).model_dump_json()
    ledger.client.hset(f"{ledger.prefix}:job:{job_id}", "spec", spec)
    return job_id


def claim_and_place(ledger: Ledger, kind: Kind, job_id: str, pool: Pool) -> None:
    claimed = next(one for one in ledger.placement.claim_queued(kind, limit=10, lease_s=10) if one.record.id == job_id)
    decision = RunInhouse() if pool is Pool.INHOUSE else MODAL
    ledger.placement.place(claimed, decision, receipt=RECEIPT)


@pytest.mark.parametrize("kind", Kind)
def test_an_own_gpu_worker_looks_for_itself(resources: Resources, ledger: Ledger, kind: Kind) -> None:
    messages = []
    for used_id in (trained(ledger, "acme", "image_classifier"), NOWHERE):
        job_id = accepted_before_it_was_checked(ledger, kind, used_id)
        claim_and_place(ledger, kind, job_id, Pool.INHOUSE)
        values = changed(resources.settings, train_engine="torch")
        worker = Resources(values, ledger, resources.artifacts, resources.nudger)
        assert run_next(worker, kind, worker="w").outcome == "failed"
        record = ledger.jobs.get(job_id)
        assert (record.state, record.error_code) == (State.FAILED, "invalid_request")
        messages.append((record.error_message or "").replace(used_id, "ID"))
    assert messages[0] == messages[1]


class _Modal:
    """Remembers what was spawned."""

    def __init__(self) -> None:
        self.spawned: list[str] = []

    async def spawn(self, *_: object, attempt_of: tuple[str, int], **__: object) -> str:
        self.spawned.append(attempt_of[0])
        return "fc-1"

    spawn_train = spawn


@pytest.mark.parametrize("kind", Kind)
def test_nothing_of_it_is_spawned_on_modal(ledger: Ledger, kind: Kind) -> None:
    job_id = accepted_before_it_was_checked(ledger, kind, trained(ledger, "acme", "image_classifier"))
    claim_and_place(ledger, kind, job_id, Pool.MODAL)
    values = settings_for(ledger)
    workers = Resources(values, ledger, ArtifactStore(values), RecordingNudger())  # type: ignore[arg-type]  # one method
    modal: Any = _Modal()
    Spawner(workers, modal, Gate(ledger, BreakerRules())).run(worker="o")
    record = ledger.jobs.get(job_id)
    assert modal.spawned == []
    assert (record.state, record.error_code) == (State.FAILED, "invalid_request")
    assert ledger.placement.view().money.reserved_usd_micros == 0


def test_the_operators_own_engine_is_nobodys_to_ask_about(ledger: Ledger) -> None:
    # given a deployment that renders by a model which a tenant has trained, by the operator's word
    job_id = submit(ledger, size="320x180", seconds=1)
    place(ledger, MODAL)
    values = settings_for(ledger, render_engine=f"dit:{trained(ledger, 'acme')}")
    workers = Resources(values, ledger, ArtifactStore(values), RecordingNudger())  # type: ignore[arg-type]  # one method
    modal: Any = _Modal()
    Spawner(workers, modal, Gate(ledger, BreakerRules())).run(worker="o")
    assert modal.spawned == [job_id]
    assert json.loads(ledger.jobs.get(job_id).spec)["model"] == "procedural"
