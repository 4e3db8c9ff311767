"""The in-house execution of one training attempt: what it raises becomes a value here."""

from collections.abc import Mapping

import structlog
from pydantic import ValidationError

from engines.train.errors import TrainCancelled
from ledger.models import JobRecord
from ledger.retries import Cause
from modal_apps.training_errors import in_words
from workers.artifacts import ArtifactStoreUnavailable, Stored
from workers.execution import Abandoned, Broken, Execution, Finished, inhouse_cost_usd_micros
from workers.leases import LeaseKeeper
from workers.requests import NoEngine
from workers.resources import Resources
from workers.training.inhouse import LeaseLost, train_inhouse

log = structlog.get_logger(__name__)

#: The words of a training run's error, and what they are to the ledger.
TRAIN_CAUSES: Mapping[str, Cause] = {
    "invalid_request": Cause.INVALID_REQUEST,
    "dataset_problem": Cause.DATASET_PROBLEM,
    "checkpoint_problem": Cause.CHECKPOINT_PROBLEM,
    "volume_full": Cause.VOLUME_FULL,
    "out_of_memory": Cause.OUT_OF_MEMORY,
    "training_diverged": Cause.TRAINING_DIVERGED,
    "cancelled": Cause.PREEMPTED,
    "crash": Cause.CRASH,
    "no_engine": Cause.NO_ENGINE,
    "error": Cause.ERROR,
}


def execute_train(open_ends: Resources, record: JobRecord, lease: LeaseKeeper) -> Execution:
    """Train a job to its end, from wherever its last attempt left it."""
    try:
        trained = train_inhouse(open_ends, record, lease)
    except (LeaseLost, TrainCancelled):
        return Abandoned()
    except NoEngine as error:
        return Broken(Cause.NO_ENGINE, str(error))
    except ValidationError as error:
        return Broken(Cause.INVALID_REQUEST, str(error))
    except ArtifactStoreUnavailable as error:
        return Abandoned() if lease.is_lost() else Broken(Cause.DELIVERY, str(error))
    except Exception as error:
        said = in_words(error)
        if said.cause == "error":
            log.exception("engine.failed")
        return Broken(TRAIN_CAUSES.get(said.cause, Cause.ERROR), said.message, said.retryable)
    return Finished(
        result=Stored(trained.artifact),
        measurements={**trained.measurements, "seconds": trained.seconds},
        cost_usd_micros=inhouse_cost_usd_micros(trained.seconds, open_ends.settings.inhouse_usd_per_hour),
    )
