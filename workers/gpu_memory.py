"""How near an in-house attempt came to the end of its GPU's memory."""

import sys
from collections.abc import Mapping


def peak_gpu_memory(measurements: Mapping[str, object], total_bytes: int | None) -> dict[str, float]:
    """The peak as a share of the GPU's memory, as attempts on Modal report it; nothing where either is not known.

    Args:
        measurements: the engine's own, of which `peak_gpu_memory_bytes` is the most that tensors had on the GPU.
        total_bytes: all of the GPU's memory; None: no GPU was used.
    """
    peak_bytes = measurements.get("peak_gpu_memory_bytes")
    if not isinstance(peak_bytes, int) or not total_bytes:
        return {}
    return {"peak_gpu_memory_ratio": round(peak_bytes / total_bytes, 4)}


def gpu_memory_bytes() -> int | None:
    """All memory of the GPU that this process works on; None where it works on none. Loads neither torch nor CUDA."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
