"""The device of a run: which one, in which precision, deterministic, and whose memory ran out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from engines.train.errors import InvalidTrainConfig, WhereMemoryRanOut


def choose(wanted: str, rank: int) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`; with several ranks, each its own GPU.

    Raises:
        InvalidTrainConfig: There is no such device here.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return torch.device("cpu")
    if wanted != "cuda" or rank >= torch.cuda.device_count():
        raise InvalidTrainConfig("gpus", rank + 1, f"at most {torch.cuda.device_count()}, the GPUs of this machine")
    torch.cuda.set_device(rank)  # or NCCL would set up all ranks on the first GPU
    return torch.device("cuda", rank)


def arithmetic_type(precision: str, device: torch.device) -> torch.dtype:
    """What the forward pass computes in; weights, gradients and optimizer are fp32 always."""
    if precision == "auto" and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    types = {"auto": torch.float32, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return types[precision]


def autocast(device: torch.device, arithmetic: torch.dtype) -> torch.autocast:
    """What a run's forward passes are computed in, to learn and to evaluate; nothing is cast where that is fp32."""
    return torch.autocast(device.type, arithmetic, enabled=arithmetic is not torch.float32, cache_enabled=True)


@contextmanager
def deterministic(threads: int | None) -> Iterator[None]:
    """Same input, same bits, as long as this lasts; then torch is put back as it was.

    Attention may then only be what has a deterministic gradient. CPU results depend on the number of threads too.
    Numbers too small for the format's full precision count as 0: a CPU is up to a hundred times slower on them.
    """
    # Read by cuBLAS when it starts: without it, its results may depend on what else ran.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    threads_before = torch.get_num_threads()
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(threads or threads_before)
    torch.set_flush_denormal(True)
    try:
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            yield
    finally:
        torch.use_deterministic_algorithms(mode=before)
        torch.set_num_threads(threads_before)
        torch.set_flush_denormal(False)


def ran_out_of(error: BaseException) -> WhereMemoryRanOut | None:
    """Which memory an error was about; None if none."""
    if isinstance(error, torch.OutOfMemoryError):
        return "cuda"
    # The CPU's allocator has no exception of its own.
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)):
        return "host"
    return None


def begin_gpu_peak(device: torch.device) -> None:
    """Starts the count of peak GPU memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gpu_memory_bytes(device: torch.device) -> int | None:
    """Peak memory that tensors had on the GPU since `begin_gpu_peak`; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def describe(device: torch.device) -> str:
    """The card's name, or the kind of CPU arithmetic."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
