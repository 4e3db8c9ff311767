"""The in-house execution of one render."""

import time

import structlog
from pydantic import ValidationError

from engines.render.dit.errors import NoModel
from engines.render.errors import InvalidRenderRequest, RenderCancelled, RenderOutOfMemory, UnknownEngine
from engines.render.registry import get_engine
from infra.artifacts import ArtifactStoreUnavailable, Video
from ledger.errors import ModelNotFound
from ledger.models import TRAINED_MODEL, JobRecord
from ledger.retries import Cause
from workers.attempt.heartbeat import Heartbeat
from workers.attempt.results import Abandoned, Execution, Failure, Finished, inhouse_cost_usd_micros
from workers.gpu_memory import gpu_memory_bytes, peak_gpu_memory
from workers.requests import NoEngine, check_used_model, render_request
from workers.resources import Resources
from workers.training.models import NoTrainedModel, bring_model

log = structlog.get_logger(__name__)


#: What a render raises, and what it is to the ledger. What is not here is the engine's own error.
_CAUSES: tuple[tuple[tuple[type[Exception], ...], Cause], ...] = (
    (
        (InvalidRenderRequest, UnknownEngine, ValidationError, NoModel, NoTrainedModel, ModelNotFound),
        Cause.INVALID_REQUEST,
    ),
    ((NoEngine,), Cause.NO_ENGINE),
    ((RenderOutOfMemory, MemoryError), Cause.OUT_OF_MEMORY),
    ((ArtifactStoreUnavailable,), Cause.DELIVERY),
)


class RenderExecutor:
    """Runs renders; see `workers.attempt.runner.Executor`."""

    def wall_clock_s(self, resources: Resources, record: JobRecord) -> float | None:
        """Nothing foresees a render's time better than the setting."""
        return None

    def execute(self, resources: Resources, record: JobRecord, heartbeat: Heartbeat) -> Execution:
        """Run the engine. What it raises becomes a value here; nothing of the engine's gets any further."""
        started = time.monotonic()
        try:
            request = render_request(record, resources.settings)
            check_used_model(resources.ledger, record)
            if request.engine.startswith(TRAINED_MODEL):
                with heartbeat.paused():
                    bring_model(resources, request.engine.removeprefix(TRAINED_MODEL))
            engine = get_engine(request.engine)
            result = engine.render(request, on_progress=heartbeat.note_progress, is_cancelled=heartbeat.is_lost)
        except RenderCancelled:
            return Abandoned()
        except Exception as error:  # noqa: BLE001 - nothing of the engine's gets any further
            return _failure(error)
        seconds = time.monotonic() - started
        measured = vars(result.measurements)
        return Finished(
            result=Video(result.mp4, result.thumbnail_webp, result.sha256),
            measurements={**measured, **peak_gpu_memory(measured, gpu_memory_bytes()), "seconds": seconds},
            cost_usd_micros=inhouse_cost_usd_micros(seconds, resources.settings.attempts.inhouse_usd_per_hour),
        )


def _failure(error: Exception) -> Failure:
    cause = next((cause for kinds, cause in _CAUSES if isinstance(error, kinds)), None)
    if cause is None:
        log.error("engine.failed", exc_info=error)
        return Failure(Cause.ERROR, f"{type(error).__name__}: {error}")
    return Failure(cause, str(error))
