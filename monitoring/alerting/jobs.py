"""Alerts about jobs: memory, waiting, slots, holding."""

from monitoring.alerting.model import Alert, Group, Recording, Severity, known


def _oldest(states: str, kind: str = ".+") -> str:
    """The greatest age of the jobs in some states, seconds, by kind."""
    series = f'overspill_oldest_job_age_seconds{{kind=~"{kind}",state=~"{states}"}}'
    return f"max by (kind) ({known(series)})"


#: Waiting for somebody to take it. A claim that lapsed and a pause that is over have an age too: nobody decides.
_DEPTH = known('overspill_queue_depth{state=~"queued|delayed|claimed|waiting_inhouse"}')
_SLOTS = known("overspill_slots_live")

GROUP = Group(
    "jobs",
    "Jobs.",
    recordings=(
        Recording("kind_outcome:overspill_jobs:rate5m", "sum by (kind, outcome) (rate(overspill_jobs_total[5m]))"),
        Recording(
            "kind_le:overspill_job_wait_seconds_bucket:rate5m",
            "sum by (kind, le) (rate(overspill_job_wait_seconds_bucket[5m]))",
        ),
        Recording(
            "kind:overspill_job_wait_seconds:p95_5m",
            "histogram_quantile(0.95, kind_le:overspill_job_wait_seconds_bucket:rate5m)",
        ),
        Recording(
            "kind:overspill_out_of_memory:ratio_increase1h",
            "sum by (kind) (increase(overspill_out_of_memory_total[1h])) "
            "/ (sum by (kind) (increase(overspill_attempts_total[1h])) >= 20)",
        ),
        Recording(
            "gpu_kind:overspill_gpu_memory_near_limit:ratio_increase1h",
            '1 - sum by (gpu, kind) (increase(overspill_gpu_memory_peak_ratio_bucket{le="0.95"}[1h])) '
            "/ (sum by (gpu, kind) (increase(overspill_gpu_memory_peak_ratio_count[1h])) >= 5)",
        ),
    ),
    alerts=(
        Alert(
            "OutOfMemory",
            "sum by (kind, pool, where) (increase(overspill_out_of_memory_total[15m])) > 0",
            Severity.WARNING,
            "{{ $labels.kind }} ran out of {{ $labels.where }} memory in the pool {{ $labels.pool }}",
            "{{ $value | humanize }} attempts in 15 minutes ran out of memory. Each is retried, on Modal on "
            "the next larger GPU class.",
        ),
        Alert(
            "OutOfMemoryOften",
            "kind:overspill_out_of_memory:ratio_increase1h > 0.05",
            Severity.CRITICAL,
            "{{ $value | humanizePercentage }} of the {{ $labels.kind }} attempts run out of memory",
            "More than one attempt in twenty, over an hour. Work is done twice, and costs more the second time.",
            hold="5m",
        ),
        Alert(
            "GpuMemoryNearLimit",
            "gpu_kind:overspill_gpu_memory_near_limit:ratio_increase1h > 0.1",
            Severity.WARNING,
            "{{ $labels.kind }} on {{ $labels.gpu }} uses more than 95 % of the GPU's memory",
            "{{ $value | humanizePercentage }} of the attempts of an hour came that close: a longer request runs out "
            "of memory.",
            hold="10m",
        ),
        Alert(
            "OldestJob",
            f"{_oldest('queued|waiting_inhouse', 'render')} > 900 "
            f"or {_oldest('queued|waiting_inhouse', 'train')} > 14400 or {_oldest('delayed|claimed')} > 900",
            Severity.WARNING,
            "a {{ $labels.kind }} job has waited for {{ $value | humanizeDuration }}",
            "No process has placed or started it, or a lapsed claim or pause was not taken up. Depth alone "
            "does not show this: one forgotten job is a depth of one.",
            hold="5m",
        ),
        Alert(
            "NoLiveSlot",
            f"{_SLOTS} == 0 and on (kind) (max by (kind) (max_over_time(overspill_slots_live[1d])) > 0 "
            f"or sum by (kind) ({_DEPTH}) > 0)",
            Severity.CRITICAL,
            "no in-house slot for {{ $labels.kind }} jobs lives",
            "No GPU worker has renewed its slot. New jobs go to Modal as far as its caps allow; jobs that were "
            "placed in-house wait.",
            hold="2m",
        ),
        Alert(
            "JobsHeld",
            # (A held job is looked at again every few seconds, and is not held for a moment then.)
            'max by (kind) (max_over_time(overspill_oldest_job_age_seconds{state="held"}[2m])) > 300',
            Severity.WARNING,
            "a {{ $labels.kind }} job has been held for {{ $value | humanizeDuration }}",
            "In-house is full and Modal may not be used: a cap, the budget, or the breaker refuses. After their hold "
            "time held jobs fail; overspill_jobs_held counts them.",
            hold="1m",
        ),
    ),
)
