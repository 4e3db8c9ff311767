"""What the engine and its allocator say of a train job, for the placement."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engines.train.allocator import GpuOffer, check_fits
from engines.train.contract import TrainConfig
from engines.train.errors import DatasetProblem, DoesNotFit, TrainError
from ledger.models import TrainJob
from modal_apps.gpus import TRAIN_COUNTS, GpuClass, Resources, UnknownGpuClass, parse
from modal_apps.training_request import data_on_modal
from modal_apps.training_size import check_class, choose_class, training_class
from workers.placement.training import CannotRun, RunSize
from workers.training.configs import train_config


@dataclass(frozen=True)
class EngineSizes:
    """Implements `workers.placement.training.Sizes`.

    Attributes:
        allowed: GPU types that a job may take which names none.
        resources: cores and GiB beside one GPU, where they are not the catalogue's.
        data_bucket: the S3 bucket that the deployed trainer mounts; None: none.
    """

    allowed: Sequence[str]
    resources: Resources = field(default_factory=dict)
    data_bucket: str | None = None

    def run(self, job: TrainJob) -> RunSize:
        """How much there is to do.

        Raises:
            CannotRun: the engine does not take the job.
        """
        config = _config(job)
        return RunSize(config.recipe, config.batch_size * config.steps)

    def gpu_class(self, job: TrainJob, *, above_gib: float, without: Sequence[str]) -> GpuClass | None:
        """The class that the job named, or the cheapest that holds it; after an out-of-memory one with more memory.

        Raises:
            CannotRun: none holds it, or the one that it named is unknown, too small, or has another number of GPUs
                than the job says.
        """
        config = _config(job)
        try:
            if job.gpu is not None:
                named = _named(job, job.gpu, self.resources)
                if named.vram_gib > above_gib:
                    check_class(config, named)
                    return named
            if not self.allowed:
                return None
            return choose_class(
                config,
                allowed=self.allowed,
                counts=(job.gpus,) if job.gpus else TRAIN_COUNTS,
                above_gib=above_gib,
                without=without,
                resources=self.resources,
            )
        except (DoesNotFit, UnknownGpuClass) as error:
            raise CannotRun(str(error)) from error

    def fits(self, job: TrainJob, vram_gib: float) -> bool:
        """Whether it fits own GPUs of so much memory: as many as it asks for, whatever class it names on Modal."""
        config = train_config(job)
        try:
            check_fits(config, GpuOffer("own", vram_gib, config.gpus, 0.0))
        except DoesNotFit:
            return False
        return True

    def data_is_kept(self, job: TrainJob) -> str | None:
        """Why the data of a job cannot be read on Modal; None: it can."""
        try:
            data_on_modal(job.dataset, self.data_bucket)
        except DatasetProblem as problem:
            return str(problem)
        return None


def _named(job: TrainJob, name: str, resources: Resources) -> GpuClass:
    named = training_class(name, resources)
    if job.gpus is not None and job.gpus != named.count:
        raise CannotRun(
            f"expected gpu and gpus to say the same, got gpu = {name!r} and gpus = {job.gpus}. "
            f"Say the number in gpu alone, as in {named.type}:{job.gpus}."
        )
    return named


def _config(job: TrainJob) -> TrainConfig:
    try:
        count = parse(job.gpu).count if job.gpu else None
        return train_config(job, gpus=count)
    except (TrainError, UnknownGpuClass) as error:
        raise CannotRun(str(error)) from error
