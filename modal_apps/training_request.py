"""What a training container is asked for, and how a run by hand says the same: plain types, no torch, no Modal."""

import datetime as dt
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from engines.train.checkpoints import job_folder
from engines.train.contract import SHAPES, TrainConfig
from engines.train.data.addresses import below_mount, is_in_s3
from engines.train.errors import DatasetProblem, InvalidTrainConfig

#: Letters of a config's digest in the name of a run by hand.
_NAME_DIGITS = 12
#: Below this the trainer's containers see the volumes that they mount; of other disks they see nothing.
VOLUMES_PATH = "/overspill"


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One segment of a training run.

    Attributes:
        config: what to train.
        job: the job's id, or the name of a run by hand.
        folder: the job's folder on the volume of checkpoints, `{recipe}/{YYYY-MM-DD}/{job}`.
        any_day: the folder's day is that of the asking; a run of this name that was begun on another day goes on.
        data: where `config.dataset` lies below the mounted bucket; None: the dataset is made or is on the cache volume.
        classifier: folder, on the volume of checkpoints, of the classifier that judges samples; None: none does.
        stop_after_s: end the segment with a checkpoint after this many seconds; None: go on to the last step.
        threads: CPU threads for the arithmetic; None leaves torch's own choice. Same weights need the same number.
        git_revision: of the code that asked, for the metadata.
    """

    config: TrainConfig
    job: str
    folder: str
    data: str | None = None
    classifier: str | None = None
    stop_after_s: float | None = None
    threads: int | None = None
    git_revision: str | None = None
    any_day: bool = False

    def __post_init__(self) -> None:
        for name in ("folder", "data", "classifier"):
            _check_inside(name, getattr(self, name))

    def to_wire(self) -> dict[str, Any]:
        """As plain types. Only runs by hand say `any_day`: a trainer that was deployed before does not know it."""
        wire = {**vars(self), "config": self.config.to_wire()}
        if not self.any_day:
            del wire["any_day"]
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "TrainRequest":
        """Read it again, trusting nothing.

        Raises:
            InvalidTrainConfig: the config is wrong, or another part is missing, unknown or leads out of its volume.
        """
        known = set(cls.__dataclass_fields__)
        if not {"config", "job", "folder"} <= set(wire) <= known:
            raise InvalidTrainConfig("request", sorted(wire), f"config, job, folder, and of {', '.join(sorted(known))}")
        return cls(**{**wire, "config": TrainConfig.from_wire(wire["config"])})


def folder_on_volume(config: TrainConfig, day: dt.date, job: str) -> str:
    """Where a job's checkpoints lie on their volume; `day` is that of the job's creation."""
    return job_folder(Path(), config.recipe, day, job).as_posix()


def data_on_modal(dataset: str, bucket: str | None) -> str | None:
    """Where a container finds a dataset below the mounted bucket; None: it is drawn, or lies on a mounted volume.

    Args:
        dataset: as the config names it.
        bucket: the bucket that the trainer mounts; None: none.

    Raises:
        DatasetProblem: a container cannot read it: it is a path on a disk of ours, or in a bucket that is not mounted.
    """
    place = PurePosixPath(dataset)
    if dataset == SHAPES or (place.is_relative_to(VOLUMES_PATH) and ".." not in place.parts):
        return None
    if not is_in_s3(dataset):
        cause = "on Modal no disk of ours is seen; there, name an s3:// address in the bucket that the trainer mounts"
        raise DatasetProblem("unresolved", dataset, cause=cause)
    return below_mount(dataset, bucket)


def by_hand(config: TrainConfig, *, day: dt.date, name: str | None = None, **more: Any) -> TrainRequest:
    """The request of a run by hand, begun today or on any day before.

    Without a name the config names it, so the same config resumes the same run, whatever GPUs it has.
    """
    named_by = {**config.to_wire(), "gpus": 1}
    digest = hashlib.sha256(json.dumps(named_by, sort_keys=True).encode()).hexdigest()
    job = name or f"hand-{digest[:_NAME_DIGITS]}"
    return TrainRequest(config=config, job=job, folder=folder_on_volume(config, day, job), any_day=True, **more)


class WrongConfigFile(ValueError):
    """A file that holds no table of fields."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"expected {path} to be TOML or JSON with the fields of a train job, {reason}.")


def read_config_file(path: Path) -> dict[str, Any]:
    """The fields in a TOML or JSON file.

    Raises:
        WrongConfigFile: it cannot be read, or is something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # a byte order mark is no part of it
        fields = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise WrongConfigFile(path, f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise WrongConfigFile(path, f"it cannot be parsed: {error}") from error
    if not isinstance(fields, dict):
        raise WrongConfigFile(path, f"it holds a {type(fields).__name__}")
    return fields


def _check_inside(name: str, value: object) -> None:
    if value is None and name != "folder":
        return
    path = PurePosixPath(str(value))
    if not isinstance(value, str) or not value or path.is_absolute() or ".." in path.parts:
        raise InvalidTrainConfig(name, value, "a path that stays inside its volume")
