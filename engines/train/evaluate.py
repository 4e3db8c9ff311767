"""`evaluate`: a checkpoint on the held-out part of a data set, without training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engines.train import device
from engines.train.data.prepared import prepare
from engines.train.errors import CheckpointProblem, OutOfMemory
from engines.train.recipes.catalogue import recipe_for
from engines.train.trained import load


def evaluate(
    checkpoint: Path,
    *,
    cache: Path,
    dataset: str | None = None,
    data: Path | None = None,
    classifier: Path | None = None,
    eval_examples: int | None = None,
    device_name: str = "auto",
    threads: int | None = None,
) -> Mapping[str, float]:
    """Measures a trained model; a transformer with its averaged weights.

    Args:
        checkpoint: A `step-N` folder, or a job's (its best, else its newest).
        cache: Folder of prepared sets.
        dataset: What to measure on; None: what it was trained on.
        data: Where the caller has put that, for an address.
        classifier: Judge of a transformer's samples.
        eval_examples: At most so many; None: as in training.
        device_name: `auto`, `cpu` or `cuda`.
        threads: CPU threads; None leaves torch's own choice.

    Returns:
        Metrics by name: `accuracy`, `eval_loss`, `recognised`.

    Raises:
        CheckpointProblem: There is none, it is torn, or its classes are not those of the data.
        DatasetProblem: The data cannot be used.
        OutOfMemory: There was too little.
    """
    where = device.choose(device_name, 0)
    trained = load(checkpoint, device=str(where))
    config = replace(trained.config, dataset=dataset or trained.config.dataset)
    config = replace(config, eval_examples=eval_examples or config.eval_examples)
    prepared = prepare(
        dataset=config.dataset,
        data=data,
        cache=cache,
        side_px=config.image_size,
        threads=len(os.sched_getaffinity(0)),
    )
    if prepared.classes != trained.classes:
        cause = f"its classes are {', '.join(trained.classes)}, the data's are {', '.join(prepared.classes)}"
        raise CheckpointProblem("other_model", str(trained.checkpoint.path), cause)
    try:
        with device.deterministic(threads):
            recipe = recipe_for(config, trained.classes, classifier)
            with device.autocast(where, device.arithmetic_type(config.precision, where)):
                return recipe.evaluate(trained.model, prepared.evaluation)
    except (MemoryError, RuntimeError) as error:
        memory = device.ran_out_of(error)
        if memory is None:
            raise
        raise OutOfMemory(memory, trained.checkpoint.step, str(trained.checkpoint.path)) from error
