"""From a train job in the ledger to what the engine takes."""

import datetime as dt
import importlib.util

from engines.train.contract import TrainConfig
from infra.settings import Settings
from ledger.models import NOT_IN_TRAIN_CONFIG, JobRecord, TrainJob
from workers.requests import NoEngine

#: A job that does not say how many GPUs runs on one; the allocator gives it more where its model needs them.
_GPUS = 1


def train_job(record: JobRecord) -> TrainJob:
    """What was asked for.

    Raises:
        NoEngine: the job is of another kind.
    """
    job = record.job
    if not isinstance(job, TrainJob):
        raise NoEngine(str(record.kind))
    return job


def train_config(job: TrainJob, *, gpus: int | None = None) -> TrainConfig:
    """The engine's config of a job; `gpus` where the job leaves them open.

    Raises:
        InvalidTrainConfig: the engine does not take it.
    """
    fields = job.model_dump(mode="python", exclude=set(NOT_IN_TRAIN_CONFIG), exclude_none=True)
    fields.setdefault("gpus", gpus or _GPUS)
    return TrainConfig.from_wire(fields)


def created_on(record: JobRecord) -> dt.date:
    """The day of a job's creation, UTC: the same for all its attempts."""
    return dt.datetime.fromtimestamp(record.created_ms / 1000, dt.UTC).date()


def engine_is_on(settings: Settings) -> bool:
    """Whether this deployment trains: the setting says so, or leaves it to whether torch is installed here."""
    match settings.train.engine:
        case "off":
            return False
        case "torch":
            return True
        case "auto":
            return importlib.util.find_spec("torch") is not None
