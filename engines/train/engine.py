"""The way in: a config and a context to a result. It imports without torch; training then says what is missing."""

from __future__ import annotations

import importlib

from engines.train.contract import TrainConfig, TrainContext, TrainResult
from engines.train.errors import TorchMissing


class TorchTrainEngine:
    """Trains with PyTorch, on one device or, with `config.gpus` above 1, on as many by torchrun."""

    def train(self, config: TrainConfig, context: TrainContext) -> TrainResult:
        """Trains until done, stopped, cancelled or failed; see `contract.TrainEngine`."""
        try:
            importlib.import_module("torch")
        except ImportError as error:
            raise TorchMissing(str(error)) from error
        if config.gpus > 1:
            from engines.train import torchrun  # noqa: PLC0415 - only a run on several devices needs it

            return torchrun.train(config, context)
        from engines.train.single import train  # noqa: PLC0415 - torch is an extra, and takes seconds to import

        return train(config, context)
