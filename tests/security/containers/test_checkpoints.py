"""A training container's answer is read strictly too, and names a checkpoint of its own job only."""

from typing import Any

import pytest

from infra.artifacts import ArtifactStore
from ledger import Kind, Ledger, TrainJob
from ledger.decisions import Receipt, RunInhouse
from modal_apps.envelope import BadEnvelope, Envelope, Timings
from overspill.dev.s3_service import S3Service
from tests.integration.workers.conftest import settings_for
from tests.support.overflow import NoNudger
from workers.overflow.answers import segment_answer
from workers.resources import Resources
from workers.training.configs import created_on
from workers.training.onmodal import TrainOnModal

VALUE: dict[str, Any] = {
    "outcome": "finished", "checkpoint": "image_classifier/2026-11-22/x/step-7", "step": 7, "steps_run": 7,
    "metrics": {"loss": 0.5}, "examples_per_s": 1.0, "seconds": 2.0, "peak_gpu_memory_bytes": None,
}  # fmt: skip


def _read(value: dict[str, Any]) -> Any:
    return segment_answer(Envelope(Timings(1.0, 2.0, 3.0), "ta-1", cold_start=True, peak_memory_bytes=1, value=value))


@pytest.mark.parametrize(
    "changed",
    [
        {"outcome": "won"}, {"outcome": ["finished"]}, {"checkpoint": None}, {"checkpoint": "step-7"},
        {"checkpoint": "a/b/step-" + "9" * 5_000}, {"checkpoint": "a/b/step-7\n"}, {"checkpoint": "a/b/step-\u0667"},
        {"step": True}, {"step": 10**400}, {"steps_run": 1.5}, {"metrics": [1]}, {"metrics": {1: 1.0}},
        {"metrics": {str(number): 1.0 for number in range(10_000)}}, {"examples_per_s": float("nan")},
        {"examples_per_s": -1.0}, {"examples_per_s": 10**400}, {"seconds": float("inf")}, {"seconds": "2"},
        {"peak_gpu_memory_bytes": 10**400},
    ],
)  # fmt: skip
def test_an_odd_answer_is_a_bad_envelope(changed: dict[str, Any]) -> None:
    assert _read(VALUE).value == VALUE
    with pytest.raises(BadEnvelope):
        _read({**VALUE, **changed})
    for part in VALUE:
        with pytest.raises(BadEnvelope):
            _read({name: one for name, one in VALUE.items() if name != part})


def test_a_metric_that_says_nothing_is_left_out() -> None:
    odd = {"loss": float("nan"), "deep": [1], "flag": True, "huge": float("inf"), "good": 1, "\ud83d": 2.0}
    assert _read({**VALUE, "metrics": odd}).value["metrics"] == {"good": 1.0, "?": 2.0}


class _NoVolume:
    """Is not asked."""


@pytest.mark.parametrize(
    "folder", ["image_classifier/{day}/ftjob_other", "../image_classifier/{day}/{job}", "classifiers/{job}", "/{job}"]
)
def test_a_checkpoint_of_another_job_is_not_taken(ledger: Ledger, s3: S3Service, folder: str) -> None:
    # Given a training job at work
    settings = settings_for(ledger, s3)
    job_id = ledger.jobs.submit(TrainJob.model_validate({"recipe": "image_classifier"}), source="client").job_id
    (claimed,) = ledger.placement.claim_queued(Kind.TRAIN, limit=1, lease_s=10)
    ledger.placement.place(claimed, RunInhouse(), receipt=Receipt("test", "test", "test"))
    record = ledger.jobs.get(job_id)
    resources = Resources(settings, ledger, ArtifactStore(settings), NoNudger(settings))
    volume: Any = _NoVolume()
    # When its container names a checkpoint that lies elsewhere, then nothing is read there
    named = folder.format(day=created_on(record).isoformat(), job=job_id)
    with pytest.raises(KeyError, match="own folder"):
        TrainOnModal(resources, volume).finish(record, {**VALUE, "checkpoint": f"{named}/step-7"})
