"""Which examples a step takes: a pure function of seed and step. There is no sampler, so none has a state to save."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def examples_of_step(*, seed: int, step: int, batch_size: int, count: int) -> NDArray[np.int64]:
    """Indices of the examples of step `step` (from 0), each epoch a new permutation of all `count`.

    A batch may straddle two epochs, and be larger than the set.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // count
    chosen = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        chosen[here] = _permutation(seed, int(epoch), count)[positions[here] % count]
    return chosen


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
