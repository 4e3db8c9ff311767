"""Which checkpoint a request means.

`dit` is the one in `OVERSPILL_DIT_CHECKPOINT` (a `step-N` folder, or a job's). `dit:<id>` is a job's, by its id, below
`OVERSPILL_DIT_CHECKPOINTS`, which is laid out as docs/checkpoints.md says. An id is a name and never a path: a request
may come from a customer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engines.render.dit.errors import NoModel
from engines.train.contract import DIFFUSION_TRANSFORMER
from engines.train.errors import CheckpointProblem

if TYPE_CHECKING:
    from engines.train.trained import Trained

CHECKPOINT_VARIABLE: Final = "OVERSPILL_DIT_CHECKPOINT"
CHECKPOINTS_VARIABLE: Final = "OVERSPILL_DIT_CHECKPOINTS"
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")


def checkpoint_path(engine: str, environment: Mapping[str, str]) -> Path:
    """The folder that `engine` (`dit` or `dit:<id>`) means.

    Raises:
        NoModel: The environment names none, the id is none, or there is no such job.
    """
    _, _, job = engine.partition(":")
    if not job:
        default = environment.get(CHECKPOINT_VARIABLE, "")
        if not default:
            raise NoModel(engine, f"{CHECKPOINT_VARIABLE} is not set")
        return Path(default)
    root = environment.get(CHECKPOINTS_VARIABLE, "")
    if not root:
        raise NoModel(engine, f"{CHECKPOINTS_VARIABLE} is not set")
    if not _ID.fullmatch(job):
        raise NoModel(engine, "an id has letters, digits, _ and - only")
    found = sorted((Path(root) / DIFFUSION_TRANSFORMER).glob(f"*/{job}"))
    if not found:
        raise NoModel(engine, f"no such job below {root}")
    return found[-1]


def load_model(engine: str, path: Path) -> Trained:
    """The trained transformer at `path`, on the GPU where there is one.

    Raises:
        NoModel: There is no whole checkpoint, it is a classifier's, or torch is missing.
    """
    try:
        import torch  # noqa: PLC0415 - torch is an extra: without it only this engine is missing

        from engines.train.trained import load  # noqa: PLC0415

        trained = load(path, device="cuda" if torch.cuda.is_available() else "cpu")
    except (ImportError, CheckpointProblem) as error:
        raise NoModel(engine, str(error)) from error
    if trained.config.recipe != DIFFUSION_TRANSFORMER:
        raise NoModel(engine, f"{path} is an {trained.config.recipe}")
    return trained
