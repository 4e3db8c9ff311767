"""Loss and throughput between two reports."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """What was measured since the last one.

    Attributes:
        loss: Mean over the steps.
        seconds: Wall-clock time.
        examples_per_s: Examples of all ranks, per second.
    """

    loss: float
    seconds: float
    examples_per_s: float


class Pace:
    """Sums loss and examples between two reports, without waiting for the GPU."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Starts anew."""
        self._begun_s = time.perf_counter()
        self._losses: list[Tensor] = []
        self._examples = 0

    def add(self, loss: Tensor, examples: int) -> None:
        """One step's."""
        self._losses.append(loss)
        self._examples += examples

    def read(self) -> Reading:
        """The figures since `begin`, after at least one step; starts anew."""
        loss = float(torch.stack(self._losses).mean())
        seconds = time.perf_counter() - self._begun_s
        reading = Reading(loss, seconds, self._examples / seconds)
        self.begin()
        return reading
