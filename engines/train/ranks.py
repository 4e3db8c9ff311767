"""The processes that share a batch. One process alone is the common case, and communicates with none."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import distributed

# Rank 0 evaluates and writes while the others wait for it at the next step.
_PATIENCE: Final = dt.timedelta(hours=2)


@dataclass(frozen=True)
class Ranks:
    """This process (`rank`, from 0) among `world`."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that speaks: events, evaluation and checkpoints are its."""
        return self.rank == 0

    def largest(self, value: int) -> int:
        """The largest `value` of all ranks; each must ask."""
        if self.world == 1:
            return value
        shared = torch.tensor(value)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return int(shared)

    def mean(self, value: float) -> float:
        """The mean `value` of all ranks; each must ask."""
        if self.world == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(shared)
        return float(shared) / self.world

    def wait(self) -> None:
        """Returns when all ranks have come here."""
        self.largest(0)


ALONE: Final = Ranks()


@contextmanager
def joined(*, rank: int, world: int, meeting_point: str) -> Iterator[Ranks]:
    """Joins the other ranks at `meeting_point` (`env://` under torchrun, or a `file://`) and leaves at the end.

    CPU tensors go over gloo, so that the small talk of each step does not wait for the GPU; gradients on a GPU go
    over NCCL.
    """
    # Loopback by default: all ranks are on one host.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, init_method=meeting_point, rank=rank, world_size=world, timeout=_PATIENCE)
    try:
        yield Ranks(rank, world)
    finally:
        distributed.destroy_process_group()
