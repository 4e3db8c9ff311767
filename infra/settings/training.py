"""Settings of train jobs, in-house and on Modal."""

import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field

from ledger.settings import Group, group
from modal_apps.names import TRAINER_APP


class TrainSettings(Group):
    """Training on own GPUs and on Modal."""

    model_config = group("OVERSPILL_TRAIN_")

    engine: Literal["auto", "torch", "off"] = Field(
        default="auto", description="`auto`: train where torch is installed; `off`: a train job ends as `no_engine`."
    )
    folder: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()) / "overspill-train",
        description="In-house checkpoints and prepared datasets, before and beside S3; shared between hosts or not.",
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads of a run; unset: torch's.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Device of in-house runs.")
    inhouse_vram_gib: float | None = Field(
        default=None, gt=0, description="GPU memory of one in-house GPU, GiB; unset: any model is tried in-house."
    )
    inhouse_gpus: int = Field(
        default=1, ge=1, le=8, description="GPUs that one in-house worker has; a job that asks for more goes to Modal."
    )
    segment_s: float = Field(
        default=82_800.0, gt=0, le=85_800, description="A run on Modal is cut into segments of this, seconds."
    )
    modal_app: str = Field(default=TRAINER_APP, description="Name of the deployed Modal app that trains.")
    modal_classes: tuple[str, ...] = Field(
        default=("L4", "A10", "L40S", "A100-40GB", "A100-80GB", "H100", "H200", "B200"),
        validation_alias="OVERSPILL_MODAL_TRAIN_CLASSES",
        description="GPU types that train jobs may take when they do not name one, as a JSON list.",
    )
    modal_resources: str = Field(
        default="",
        validation_alias="OVERSPILL_MODAL_TRAIN_RESOURCES",
        description='Cores and GiB beside one GPU, where not the catalogue\'s: `{"H100": [32, 128]}`.',
    )
    modal_data_bucket: str | None = Field(
        default=None,
        validation_alias="OVERSPILL_MODAL_DATA_BUCKET",
        description="S3 bucket with datasets that the deployed trainer mounts, read-only.",
    )
    data_roots: tuple[Path, ...] | None = Field(
        default=None,
        description="Folders that data sets on a disk may lie in, as a JSON list; unset: `datasets` in TRAIN_FOLDER.",
    )
    data_buckets: tuple[str, ...] | None = Field(
        default=None,
        description="Buckets, or `bucket/prefix`, that `s3://` data sets may lie in, as a JSON list; unset: the data "
        "bucket above and the artifacts' bucket. What jobs have left there is never one.",
    )
    data_bytes: int = Field(
        default=200 * 1024**3, ge=1, description="An `s3://` data set of more is not fetched, bytes."
    )
    progress_timeout_s: float = Field(
        default=1800.0, gt=0, description="An in-house training run without progress for longer is killed, seconds."
    )
    wall_clock_s: float = Field(
        default=30 * 86_400.0,
        gt=0,
        description="Longest time of one in-house training attempt, seconds; a shorter one follows from its own size.",
    )
    startup_s: float = Field(default=90.0, ge=0, description="From a spawn to the first step on Modal, seconds.")
    comes_home: bool = Field(
        default=True,
        description="A run on Modal moves back to own GPUs at a checkpoint when they idle and it pays.",
    )
    mirror_every_s: float = Field(
        default=30.0, gt=0, description="Interval at which a run on Modal is searched for new checkpoints, seconds."
    )
    stop_grace_s: float = Field(
        default=20.0,
        ge=0,
        description="Time that a run gets to reach a step and save when its worker is asked to stop, seconds.",
    )
    git_revision: str | None = Field(
        default=None,
        validation_alias="OVERSPILL_GIT_REVISION",
        description="Of the deployed code, for checkpoints' metadata.",
    )
