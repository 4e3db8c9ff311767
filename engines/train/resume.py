"""Which checkpoint a run continues from, and whether it may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engines.train import checkpoints
from engines.train.checkpoints import Checkpoint
from engines.train.contract import DIFFUSION_TRANSFORMER, TrainConfig, TrainContext
from engines.train.errors import CheckpointProblem
from engines.train.trained import described

_MODEL_FIELDS: Final = ("recipe", "width", "depth")
_TRANSFORMER_FIELDS: Final = ("image_size", "patch_size", "heads")
#: Fields that change what is told and kept, not what is learnt.
_HARMLESS_FIELDS: Final = frozenset({"checkpoint_every_steps", "eval_every_steps", "eval_examples", "log_every_steps"})


def find_resumable(
    config: TrainConfig,
    context: TrainContext,
    classes: tuple[str, ...],
    warn: Callable[[CheckpointProblem | str], None],
) -> Checkpoint | None:
    """The newest whole checkpoint of the job's folder; None where there is none. Torn ones are told to `warn`.

    Raises:
        CheckpointProblem: `other_model`, or `exists` where the caller does not want to resume.
    """
    if not context.resume:
        if checkpoints.step_folders(context.folder):
            raise CheckpointProblem("exists", str(context.folder))
        return None
    found = checkpoints.newest_whole(context.folder, warn)
    if found:
        _check(found, config, classes, warn)
    return found


def _check(
    found: Checkpoint, config: TrainConfig, classes: tuple[str, ...], warn: Callable[[CheckpointProblem | str], None]
) -> None:
    before, classes_before = described(found)
    model_fields = _MODEL_FIELDS + (_TRANSFORMER_FIELDS if config.recipe == DIFFUSION_TRANSFORMER else ())
    for name in model_fields:
        if getattr(before, name) != getattr(config, name):
            cause = f"its {name} is {getattr(before, name)}, this run's is {getattr(config, name)}"
            raise CheckpointProblem("other_model", str(found.path), cause)
    if classes_before != classes:
        cause = f"its classes are {', '.join(classes_before)}, this run's are {', '.join(classes)}"
        raise CheckpointProblem("other_model", str(found.path), cause)
    then, now = before.to_wire(), config.to_wire()
    changed = sorted(name for name in now if now[name] != then[name] and name not in _HARMLESS_FIELDS)
    if changed:
        warn(f"The run continues with other {', '.join(changed)}; it will not end where an undisturbed one would have.")
