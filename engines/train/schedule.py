"""Learning rate and moving-average decay of a step: functions of the config and the step, with no state to save."""

from __future__ import annotations

import math
from typing import Final

from engines.train.contract import TrainConfig

#: The cosine ends at this share of the peak: a rate of 0 would make the last steps worthless.
FLOOR_RATIO: Final = 0.01


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate of step `step` (from 0): a straight rise over `warmup_steps`, then half a cosine to the end."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    left = max(1, config.steps - config.warmup_steps)
    share = min(1.0, (step - config.warmup_steps) / left)
    return config.learning_rate * (FLOOR_RATIO + (1 - FLOOR_RATIO) * (1 + math.cos(math.pi * share)) / 2)


def ema_decay(config: TrainConfig, step: int) -> float:
    """The decay at step `step`: small at first, or the average would remember the random start for long."""
    return min(config.ema_decay, (1 + step) / (10 + step))
