"""One optimizer step and what it changes: weights, AdamW's moments, the moving average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engines.train import state
from engines.train.contract import TrainConfig
from engines.train.data.batches import Batch
from engines.train.device import autocast
from engines.train.ranks import Ranks
from engines.train.recipes.recipe import Recipe
from engines.train.schedule import ema_decay, learning_rate

_BETAS: Final = (0.9, 0.99)


class Learner:
    """The model in training.

    Args:
        recipe: Gives model and loss.
        config: The run.
        device: Where it computes.
        arithmetic: What the forward pass computes in.
        ranks: Who shares the batch.
    """

    def __init__(
        self, recipe: Recipe, config: TrainConfig, *, device: torch.device, arithmetic: torch.dtype, ranks: Ranks
    ) -> None:
        self._recipe, self._config, self._device, self._arithmetic = recipe, config, device, arithmetic
        self.model = recipe.build().to(device)
        self._shared = self._share(ranks)
        matrices = [weights for weights in self.model.parameters() if weights.ndim > 1]
        vectors = [weights for weights in self.model.parameters() if weights.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=_BETAS)
        # fp16 has so short a range that small gradients vanish unless the loss is scaled up (Micikevicius et al. 2017).
        self._scaler = torch.amp.GradScaler(device.type, enabled=arithmetic is torch.float16)
        self._average = {name: weights.detach().clone() for name, weights in self._averaged_weights()}

    def learn(self, step: int, parts: Sequence[Batch]) -> Tensor:
        """Does step `step` (from 0) on this rank's share of the batch; returns its mean loss, still on the device."""
        rate = learning_rate(self._config, step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._device)
        for number, part in enumerate(parts):
            # Ranks exchange gradients once a step, with the last part.
            with self._unshared() if number < len(parts) - 1 else nullcontext():
                total += self._backward(part, len(parts))
        self._scaler.unscale_(self._optimizer)
        if self._config.gradient_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._config.gradient_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._follow(ema_decay(self._config, step))
        return total

    @contextmanager
    def for_evaluation(self) -> Iterator[nn.Module]:
        """The model as it is evaluated and used: with averaged weights where the recipe keeps them.

        It takes no memory beside a forward pass: no gradients are held, and weights and average change places.
        """
        self._optimizer.zero_grad(set_to_none=True)
        self._exchange()
        self.model.eval()
        try:
            with autocast(self._device, self._arithmetic):
                yield self.model
        finally:
            self.model.train()
            self._exchange()

    def to_files(self) -> dict[str, bytes]:
        """The contents of a checkpoint's files, by name."""
        return state.to_files(self.model, self._optimizer, self._average)

    def facts(self) -> dict[str, Any]:
        """State that is no tensor: the scale of the loss."""
        return {"scaler": self._scaler.state_dict()}

    def restore(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Takes the state out of a whole checkpoint."""
        state.restore(folder, self.model, self._optimizer, self._average, self._device)
        if self._scaler.is_enabled() and facts.get("scaler"):
            self._scaler.load_state_dict(facts["scaler"])

    def state_bytes(self) -> int:
        """About the size of a checkpoint: weights, two moments, and the average."""
        weights = sum(tensor.numel() * tensor.element_size() for tensor in self.model.parameters())
        return weights * (4 if self._average else 3)

    def _backward(self, part: Batch, parts: int) -> Tensor:
        on_device = {name: tensor.to(self._device, non_blocking=True) for name, tensor in part.items()}
        with autocast(self._device, self._arithmetic):
            loss = self._recipe.loss(self._shared, on_device) / parts
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        return loss.detach()

    def _share(self, ranks: Ranks) -> nn.Module:
        if ranks.world == 1:
            return self.model
        return DistributedDataParallel(
            self.model, device_ids=[self._device] if self._device.type == "cuda" else None, gradient_as_bucket_view=True
        )

    @contextmanager
    def _unshared(self) -> Iterator[None]:
        if isinstance(self._shared, DistributedDataParallel):
            with self._shared.no_sync():
                yield
        else:
            yield

    def _averaged_weights(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.model.named_parameters()) if self._recipe.averages else []

    def _follow(self, decay: float) -> None:
        if self._average:
            with torch.no_grad():
                now: list[Tensor] = [weights for _, weights in self._averaged_weights()]
                torch._foreach_lerp_(list(self._average.values()), now, 1 - decay)

    def _exchange(self) -> None:
        """The weights and their average change places, as storages: not a number is copied."""
        for name, weights in self._averaged_weights():
            weights.data, self._average[name] = self._average[name], weights.data
