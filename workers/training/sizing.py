"""What the engine and its allocator say of a train job, for the placement."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engines.train.contract import TrainConfig
from engines.train.errors import DoesNotFit, TrainError
from ledger.models import TrainJob
from modal_apps.gpus import TRAIN_COUNTS, GpuClass, Profile, Resources, UnknownGpuClass, parse
from modal_apps.training_size import check_class, choose_class
from workers.placement.training import CannotRun, RunSize
from workers.training.configs import train_config


@dataclass(frozen=True)
class EngineSizes:
    """Implements `workers.placement.training.Sizes`.

    Attributes:
        allowed: GPU types that a job may take which names none.
        resources: cores and GiB beside one GPU, where they are not the catalogue's.
    """

    allowed: Sequence[str]
    resources: Resources = field(default_factory=dict)

    def run(self, job: TrainJob) -> RunSize:
        """How much there is to do.

        Raises:
            CannotRun: the engine does not take the job.
        """
        config = _config(job)
        return RunSize(config.recipe, config.batch_size * config.steps)

    def gpu_class(self, job: TrainJob, *, outgrown: str | None, without: Sequence[str]) -> GpuClass | None:
        """The class that the job named, or the cheapest that holds it; after an out-of-memory one with more memory.

        Raises:
            CannotRun: none holds it, or the one that it named is unknown or too small.
        """
        config = _config(job)
        above_gib = float(parse(outgrown).vram_gib) if outgrown else 0.0
        try:
            if job.gpu is not None and not outgrown:
                named = parse(job.gpu, Profile.TRAIN, self.resources)
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
        """Whether it fits GPUs of so much memory."""
        config = _config(job)
        try:
            check_class(config, GpuClass("own", int(vram_gib), fp8=False, usd_nanos_per_s=1, count=config.gpus))
        except DoesNotFit:
            return False
        return True


def _config(job: TrainJob) -> TrainConfig:
    try:
        count = parse(job.gpu).count if job.gpu else None
        return train_config(job, gpus=count)
    except (TrainError, UnknownGpuClass) as error:
        raise CannotRun(str(error)) from error
