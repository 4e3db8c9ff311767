"""The in-house execution of one training attempt: what it raises becomes a value here."""

import structlog
from pydantic import ValidationError

from engines.train.errors import TrainCancelled
from infra.artifacts import ArtifactStoreUnavailable, Stored
from ledger.models import JobRecord
from ledger.retries import Cause
from modal_apps.training_errors import in_words
from workers.causes import cause_of
from workers.execution import Abandoned, Broken, Execution, Finished, inhouse_cost_usd_micros
from workers.gpu_memory import gpu_memory_bytes, peak_gpu_memory
from workers.leases import LeaseKeeper
from workers.requests import NoEngine
from workers.resources import Resources
from workers.training.inhouse import Interrupted, Trained, train_inhouse

log = structlog.get_logger(__name__)


def execute_train(open_ends: Resources, record: JobRecord, lease: LeaseKeeper) -> Execution:
    """Train a job to its end, from wherever its last attempt left it."""
    try:
        match train_inhouse(open_ends, record, lease):
            case Interrupted(step):
                message = f"its worker was asked to stop; the run was saved at step {step}"
                return Broken(Cause.PREEMPTED, message)
            case Trained() as trained:
                return _finished(trained, open_ends)
    except TrainCancelled:
        return Abandoned()
    except ArtifactStoreUnavailable as error:
        return Abandoned() if lease.is_lost() else Broken(Cause.DELIVERY, str(error))
    except Exception as error:  # noqa: BLE001 - whatever an engine raises becomes a value
        return _broken(error)


def _broken(error: Exception) -> Broken:
    match error:
        case NoEngine():
            return Broken(Cause.NO_ENGINE, str(error))
        case ValidationError():
            return Broken(Cause.INVALID_REQUEST, str(error))
    said = in_words(error)
    if said.cause == "error":
        log.error("engine.failed", exc_info=error)
    return Broken(cause_of(said.cause), said.message, said.retryable)


def _finished(trained: Trained, open_ends: Resources) -> Finished:
    peak = peak_gpu_memory(trained.measurements, gpu_memory_bytes())
    return Finished(
        result=Stored(trained.artifact),
        measurements={**trained.measurements, **peak, "seconds": trained.seconds},
        cost_usd_micros=inhouse_cost_usd_micros(trained.seconds, open_ends.settings.inhouse_usd_per_hour),
    )
