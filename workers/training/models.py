"""A trained model for a render: the best checkpoint of a train job, brought to this host once."""

import os

from engines.render.dit.model import CHECKPOINTS_VARIABLE
from engines.train.checkpoints import job_folder, newest_whole
from engines.train.contract import DIFFUSION_TRANSFORMER
from engines.train.errors import CheckpointProblem
from ledger import JobNotFound
from ledger.states import State
from workers.resources import Resources
from workers.training.configs import created_on
from workers.training.scratch import touch
from workers.training.store import CheckpointStore


class NoTrainedModel(Exception):
    """The job that a render names has left no model to render with."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        super().__init__(f"expected a completed {DIFFUSION_TRANSFORMER} job, got {job_id[:80]!r}: {reason}.")


def bring_model(resources: Resources, job_id: str) -> None:
    """Have the best checkpoint of a train job where the `dit` engine looks for it.

    Raises:
        NoTrainedModel: there is no such job, or it has not completed.
        ArtifactStoreUnavailable: S3 did not give it.
    """
    try:
        record = resources.ledger.jobs.get(job_id)
    except JobNotFound as error:
        raise NoTrainedModel(job_id, "there is no such job") from error
    if record.state is not State.COMPLETED:
        raise NoTrainedModel(job_id, f"it is {record.state}")
    root = resources.settings.train.folder / "models"
    os.environ[CHECKPOINTS_VARIABLE] = str(root)
    folder = job_folder(root, DIFFUSION_TRANSFORMER, created_on(record), job_id)
    touch(folder)
    if newest_whole(folder, lambda _: None) is not None:
        return
    store = CheckpointStore(resources.artifacts)
    best = store.best(job_id)
    if best is None:
        raise NoTrainedModel(job_id, "no checkpoint is left of it")
    try:
        store.fetch(best, folder)
    except CheckpointProblem as problem:
        raise NoTrainedModel(job_id, str(problem)) from problem
