"""From a prepared set to torch: item n of the data set is the batch of step n, so that workers may read ahead."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from engines.train.contract import TrainConfig
from engines.train.data.order import examples_of_step
from engines.train.data.prepared import Part

Batch = dict[str, Tensor]
"""`images` (n, 3, side, side) in -1..1, `labels` (n), and what the recipe draws beside them."""

Draws = Callable[[int], Batch]
"""What chance a step needs, for its whole batch, whichever rank and part asks."""

_CORES_PER_WORKER: Final = 4
_HALF_SCALE: Final = 127.5


class StepBatches(Dataset[list[Batch]]):
    """Item n: this rank's share of step n's batch, cut into the parts that are accumulated.

    Args:
        part: The pictures.
        config: Gives seed, batch size and the number of parts.
        draws: The recipe's chance.
        rank: This process among `world`.
        world: Processes that share a batch.
    """

    def __init__(self, part: Part, config: TrainConfig, draws: Draws, *, rank: int, world: int) -> None:
        self._part, self._config, self._draws = part, config, draws
        share = config.batch_size // world
        self._mine = slice(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return self._config.steps

    def __getitem__(self, step: int) -> list[Batch]:
        config = self._config
        chosen = examples_of_step(seed=config.seed, step=step, batch_size=config.batch_size, count=len(self._part))[
            self._mine
        ]
        whole = read(self._part, chosen) | {name: drawn[self._mine] for name, drawn in self._draws(step).items()}
        parts = config.grad_accumulation
        cut = {name: tensor.chunk(parts) for name, tensor in whole.items()}
        return [{name: pieces[number] for name, pieces in cut.items()} for number in range(parts)]


def read(part: Part, chosen: np.typing.NDArray[np.int64]) -> Batch:
    """The chosen examples as tensors."""
    pictures = torch.from_numpy(np.ascontiguousarray(part.pictures[chosen]))
    images = pictures.permute(0, 3, 1, 2).float() / _HALF_SCALE - 1
    return {"images": images, "labels": torch.from_numpy(part.labels[chosen])}


def loader(batches: StepBatches, *, first: int, steps: int, workers: int, pinned: bool) -> Iterator[list[Batch]]:
    """The batches of steps `first` to `steps - 1`, in order, read ahead by `workers` processes."""
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(first, steps),
            num_workers=workers,
            pin_memory=pinned,
            # Not fork: the parent may have threads of CUDA or OpenMP, which a fork would lose.
            multiprocessing_context="spawn" if workers else None,
        )
    )


def worker_count(asked: int | None, world: int = 1) -> int:
    """Processes that one of `world` ranks reads with; none where this process may have no children.

    As asked, else the ranks, which share the host's cores, have one per four cores between them.
    """
    if multiprocessing.current_process().daemon:
        return 0
    return len(os.sched_getaffinity(0)) // _CORES_PER_WORKER // world if asked is None else asked
