"""docs/gpu-classes.md, made from the catalogue: `python -m modal_apps.gpu_table > docs/gpu-classes.md`."""

import sys
from dataclasses import dataclass

from modal_apps.gpus import (
    CATALOGUE,
    CPU_USD_NANOS_PER_CORE_S,
    MEMORY_USD_NANOS_PER_GIB_S,
    MOST_CPU_CORES,
    MOST_MEMORY_GIB,
    TRAIN_COUNTS,
    GpuClass,
    training_classes,
)

#: From so much GPU memory on, a class is rented for long runs: a failure there is rarely gone in ten seconds.
LONG_FROM_GIB = 80
_NANOS_PER_USD, _SECONDS_PER_HOUR = 1e9, 3600


@dataclass(frozen=True)
class RetryPlan:
    """How Modal retries a run by hand; calls of the ledger are spawned with no retries at Modal at all."""

    retries: int
    first_s: float
    backoff: float = 2.0


SHORT_RUNS, LONG_RUNS = RetryPlan(3, 10.0), RetryPlan(2, 30.0)


def retries_of(gpu: GpuClass) -> RetryPlan:
    """How a run by hand on a class is retried."""
    return LONG_RUNS if gpu.total_vram_gib >= LONG_FROM_GIB else SHORT_RUNS


def as_markdown() -> str:
    """The whole page."""
    rows = training_classes()
    types = {gpu.type: gpu.good_for for gpu in CATALOGUE}
    return "\n".join(
        [
            "# GPU classes",
            "",
            "<!-- Made by `python -m modal_apps.gpu_table > docs/gpu-classes.md`; a test keeps it so. -->",
            "",
            "Every class of the catalogue (`modal_apps/gpus.py`), as training requests it. A render requests 2 cores",
            "and 8 GiB beside any GPU. Dollars are Modal's published prices of 2026-08-19 for GPUs,",
            f"cores (${_per_hour(CPU_USD_NANOS_PER_CORE_S):.4f} a core and hour)",
            f"and memory (${_per_hour(MEMORY_USD_NANOS_PER_GIB_S):.4f} a GiB and hour);",
            "`OVERSPILL_MODAL_PRICES_USD_PER_HOUR` and `OVERSPILL_MODAL_REGION_FACTOR` replace them, and",
            '`OVERSPILL_MODAL_TRAIN_RESOURCES` (`{"H100": [32, 128]}`: cores and GiB beside one GPU) the requests. One',
            f"container requests at most {MOST_CPU_CORES:g} cores and {MOST_MEMORY_GIB:g} GiB, whatever its GPUs.",
            "",
            "## When to take which",
            "",
            "A train job that names no class gets the cheapest one that holds its model by the allocator's estimate",
            "(`engines/train/allocator.py`); after an out-of-memory the next attempt takes one with more memory.",
            "",
            "| type | GiB | FP8 | take it for |",
            "| --- | ---: | --- | --- |",
            *(f"| {g.type} | {g.vram_gib} | {'yes' if g.fp8 else 'no'} | {types[g.type]} |" for g in CATALOGUE),
            "",
            "## What training requests, and what it costs",
            "",
            "Retries are Modal's own, for runs by hand (`modal run -m modal_apps.trainer`). Calls of the ledger are",
            "spawned with none: the ledger counts attempts by their cause, and two who retry would multiply.",
            "Preemptions count for neither: Modal starts the input again, and it resumes from its last checkpoint.",
            "",
            "| class | name on Modal | cores | memory GiB | retries | $/h GPU | $/h in all |",
            "| --- | --- | ---: | ---: | --- | ---: | ---: |",
            *map(_row, rows),
            "",
            f"Counts on offer: {', '.join(map(str, TRAIN_COUNTS))}; more than two GPUs in one container wait longer.",
            "",
        ]
    )


def _row(gpu: GpuClass) -> str:
    plan = retries_of(gpu)
    retries = f"{plan.retries} from {plan.first_s:g} s, doubled"
    gpus, whole = _per_hour(gpu.usd_nanos_per_s * gpu.count), _per_hour(gpu.price_usd_nanos_per_s())
    requested = f"{gpu.cpu_cores:g} | {gpu.memory_gib:g}"
    return f"| {gpu.name} | `{gpu.alias}` | {requested} | {retries} | {gpus:.2f} | {whole:.2f} |"


def _per_hour(nanos_per_s: float) -> float:
    return nanos_per_s * _SECONDS_PER_HOUR / _NANOS_PER_USD


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
