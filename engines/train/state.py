"""From a model, an optimizer and an average to the files of a checkpoint, and back: every bit of the state of a run.

What is not in here is not state: data order, noise, learning rate and decay are functions of the config and the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

WEIGHTS_FILE: Final = "model.safetensors"
AVERAGE_FILE: Final = "ema.safetensors"
OPTIMIZER_FILE: Final = "optimizer.safetensors"
_SEPARATOR: Final = "/"


def to_files(model: nn.Module, optimizer: torch.optim.Optimizer, average: Mapping[str, Tensor]) -> dict[str, bytes]:
    """The files' contents by name; the same state gives the same bytes."""
    files = {
        WEIGHTS_FILE: save(_on_cpu(model.state_dict())),
        OPTIMIZER_FILE: save(_on_cpu(_optimizer_tensors(model, optimizer))),
    }
    if average:
        files[AVERAGE_FILE] = save(_on_cpu(average))
    return files


def restore(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor], device: torch.device
) -> None:
    """Puts the state in `folder`, whose digests have been proven, into all three."""
    model.load_state_dict(load((folder / WEIGHTS_FILE).read_bytes()))
    for name, tensor in load((folder / AVERAGE_FILE).read_bytes()).items() if average else ():
        average[name].copy_(tensor)
    names = dict(model.named_parameters())
    for key, tensor in load((folder / OPTIMIZER_FILE).read_bytes()).items():
        name, _, entry = key.rpartition(_SEPARATOR)
        # AdamW keeps its count of steps on the CPU, and its moments beside the parameter.
        optimizer.state[names[name]][entry] = tensor if entry == "step" else tensor.to(device)


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}{_SEPARATOR}{entry}": value
        for name, parameter in model.named_parameters()
        for entry, value in optimizer.state[parameter].items()
    }


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
