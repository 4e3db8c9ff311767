"""The in-house execution of one training attempt: what it raises becomes a value here."""

import structlog
from pydantic import ValidationError

from engines.train.errors import TrainCancelled
from infra.artifacts import ArtifactStoreUnavailable, Stored
from ledger.errors import ModelNotFound
from ledger.models import JobRecord
from ledger.retries import Cause
from modal_apps.training_errors import in_words
from workers.attempt.heartbeat import Heartbeat
from workers.attempt.results import Abandoned, Execution, Failure, Finished, inhouse_cost_usd_micros
from workers.causes import cause_of
from workers.gpu_memory import gpu_memory_bytes, peak_gpu_memory
from workers.requests import NoEngine
from workers.resources import Resources
from workers.training.inhouse import Interrupted, Trained, train_inhouse
from workers.training.wall_clock import train_wall_clock_s

log = structlog.get_logger(__name__)


class TrainExecutor:
    """Trains; see `workers.attempt.runner.Executor`."""

    def wall_clock_s(self, resources: Resources, record: JobRecord) -> float | None:
        """From the run's own size, where its recipe's speed in-house is known."""
        return train_wall_clock_s(resources, record)

    def execute(self, resources: Resources, record: JobRecord, heartbeat: Heartbeat) -> Execution:
        """Train a job to its end, from wherever its last attempt left it."""
        try:
            match train_inhouse(resources, record, heartbeat):
                case Interrupted(step):
                    message = f"its worker was asked to stop; the run was saved at step {step}"
                    return Failure(Cause.PREEMPTED, message)
                case Trained() as trained:
                    return _finished(trained, resources)
        except TrainCancelled:
            return Abandoned()
        except ArtifactStoreUnavailable as error:
            return Abandoned() if heartbeat.is_lost() else Failure(Cause.DELIVERY, str(error))
        except Exception as error:  # noqa: BLE001 - whatever an engine raises becomes a value
            return _failure(error)


def _failure(error: Exception) -> Failure:
    match error:
        case NoEngine():
            return Failure(Cause.NO_ENGINE, str(error))
        case ValidationError() | ModelNotFound():
            return Failure(Cause.INVALID_REQUEST, str(error))
    said = in_words(error)
    if said.cause == "error":
        log.error("engine.failed", exc_info=error)
    return Failure(cause_of(said.cause), said.message, said.retryable)


def _finished(trained: Trained, resources: Resources) -> Finished:
    peak = peak_gpu_memory(trained.measurements, gpu_memory_bytes())
    return Finished(
        result=Stored(trained.artifact),
        measurements={**trained.measurements, **peak, "seconds": trained.seconds},
        cost_usd_micros=inhouse_cost_usd_micros(trained.seconds, resources.settings.attempts.inhouse_usd_per_hour),
    )
