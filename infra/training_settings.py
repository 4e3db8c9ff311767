"""Settings of train jobs, in-house and on Modal."""

import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field

from ledger.settings import LedgerSettings
from modal_apps.names import TRAINER_APP


class TrainingSettings(LedgerSettings):
    """Read from `OVERSPILL_...` as part of infra/settings.py."""

    train_engine: Literal["auto", "torch", "off"] = Field(
        default="auto", description="`auto`: train where torch is installed; `off`: a train job ends as `no_engine`."
    )
    train_folder: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()) / "overspill-train",
        description="In-house checkpoints and prepared datasets, before and beside S3; shared between hosts or not.",
    )
    train_threads: int | None = Field(default=None, ge=1, description="CPU threads of a run; None: torch's.")
    train_device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Device of in-house runs.")
    train_inhouse_vram_gib: float | None = Field(
        default=None, gt=0, description="GPU memory of one in-house GPU, GiB; None: any model is tried in-house."
    )
    train_inhouse_gpus: int = Field(
        default=1, ge=1, le=8, description="GPUs that one in-house worker has; a job that asks for more goes to Modal."
    )
    train_segment_s: float = Field(
        default=82_800.0, gt=0, le=85_800, description="A run on Modal is cut into segments of this, seconds."
    )
    train_modal_app: str = Field(default=TRAINER_APP, description="Name of the deployed Modal app that trains.")
    modal_train_classes: tuple[str, ...] = Field(
        default=("L4", "A10", "L40S", "A100-40GB", "A100-80GB", "H100", "H200", "B200"),
        description="GPU types that train jobs may take when they do not name one, as a JSON list.",
    )
    modal_train_resources: str = Field(
        default="", description='Cores and GiB beside one GPU, where not the catalogue\'s: `{"H100": [32, 128]}`.'
    )
    modal_data_bucket: str | None = Field(
        default=None, description="S3 bucket with datasets that the deployed trainer mounts, read-only."
    )
    train_data_roots: tuple[Path, ...] | None = Field(
        default=None,
        description="Folders that data sets on a disk may lie in, as a JSON list; None: `datasets` in TRAIN_FOLDER.",
    )
    train_data_buckets: tuple[str, ...] | None = Field(
        default=None,
        description="Buckets, or `bucket/prefix`, that `s3://` data sets may lie in, as a JSON list; None: "
        "MODAL_DATA_BUCKET and S3_BUCKET. What jobs have left in S3_BUCKET is never one.",
    )
    train_data_bytes: int = Field(
        default=200 * 1024**3, ge=1, description="An `s3://` data set of more is not fetched, bytes."
    )
    train_startup_s: float = Field(default=90.0, ge=0, description="From a spawn to the first step on Modal, seconds.")
    train_seconds_per_example: float = Field(
        default=0.002, gt=0, description="Guess of a run's speed before anything was learnt, seconds per example."
    )
    train_slack_margin_s: float = Field(
        default=60.0, ge=0, description="A waiting train job leaves for Modal so long before its slack is gone, s."
    )
    train_comes_home: bool = Field(
        default=True, description="A run on Modal comes home at a checkpoint when own GPUs idle and it pays."
    )
    train_mirror_every_s: float = Field(
        default=30.0, gt=0, description="A run on Modal is looked at for new checkpoints so often, seconds."
    )
    train_stop_grace_s: float = Field(
        default=20.0,
        ge=0,
        description="A worker that is asked to stop gives its run so long to come to a step and save, seconds.",
    )
    git_revision: str | None = Field(default=None, description="Of the deployed code, for checkpoints' metadata.")
