"""From a job in the ledger to what an engine takes."""

from engines.render.contract import RenderRequest
from infra.settings import Settings
from ledger.models import TRAINED_MODEL, JobRecord, RenderJob


class NoEngine(Exception):
    """This deployment has no engine for a job's kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(f"expected a kind of job that this deployment can run (render), got {kind}.")


def render_request(record: JobRecord, settings: Settings) -> RenderRequest:
    """What the render engine is asked for.

    Raises:
        NoEngine: the job is of another kind.
        InvalidRenderRequest: the engine does not take such a request.
    """
    job = record.job
    if not isinstance(job, RenderJob):
        raise NoEngine(str(record.kind))
    return RenderRequest(
        prompt=job.prompt,
        width=job.width,
        height=job.height,
        seconds=job.seconds,
        fps=job.fps,
        seed=job.seed,
        # A job may name a trained model (`dit:<train job>`); every other word is the customer's name for our engine.
        engine=job.model if job.model.startswith(TRAINED_MODEL) else settings.attempts.render_engine,
    )
