"""One rank's run, from the data to the result. With one rank it is the whole run."""

from __future__ import annotations

import os

from engines.train import device
from engines.train.contract import TrainConfig, TrainContext, TrainResult
from engines.train.data.prepared import PreparedSet, prepare
from engines.train.errors import InvalidTrainConfig
from engines.train.loop import Loop
from engines.train.ranks import ALONE, Ranks
from engines.train.recipes.catalogue import recipe_for


def train(config: TrainConfig, context: TrainContext, ranks: Ranks = ALONE) -> TrainResult:
    """Trains as rank `ranks.rank`; see `contract.TrainEngine`."""
    if config.batch_size % (ranks.world * config.grad_accumulation):
        expected = f"a multiple of the {ranks.world} ranks x grad_accumulation = {config.grad_accumulation}"
        raise InvalidTrainConfig("batch_size", config.batch_size, expected)
    where = device.choose(context.device, ranks.rank)
    with device.deterministic(context.threads):
        prepared = _prepared(config, context, ranks)
        recipe = recipe_for(config, prepared.classes, context.classifier if ranks.is_first else None)
        device.begin_gpu_peak(where)
        loop = Loop(config, context, prepared=prepared, recipe=recipe, where=where, ranks=ranks)
        return loop.run()


def _prepared(config: TrainConfig, context: TrainContext, ranks: Ranks) -> PreparedSet:
    # The first rank makes what is not in the cache yet; the others then find it there.
    if not ranks.is_first:
        ranks.wait()
    prepared = prepare(
        dataset=config.dataset,
        data=context.data,
        cache=context.cache,
        side_px=config.image_size,
        threads=len(os.sched_getaffinity(0)),
        roots=context.data_roots,
    )
    if ranks.is_first:
        ranks.wait()
    return prepared
