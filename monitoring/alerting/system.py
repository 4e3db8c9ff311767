"""Alerts about the system itself: sweeps, exporter, ledger, Redis."""

from collections.abc import Sequence

from monitoring.alerting.model import Alert, Group, Recording, Severity, known
from workers.maintenance.duties import CLEANUPS, REPAIRS, DutyName


def _since(duties: Sequence[DutyName]) -> str:
    """Seconds since the last round of each of these duties that went well."""
    series = 'overspill_duty_timestamp_seconds{duty=~"' + "|".join(duties) + '"}'
    return f"time() - max by (duty) ({known(series)})"


GROUP = Group(
    "system",
    "The system itself.",
    recordings=(
        Recording(
            "role:overspill_redis_memory_used:ratio",
            f"{known('overspill_redis_memory_used_bytes')} / ({known('overspill_redis_memory_max_bytes')} > 0)",
        ),
    ),
    alerts=(
        Alert(
            "RepairStalled",
            f"{_since(REPAIRS)} > 60",
            Severity.CRITICAL,
            "no round of the maintenance duty {{ $labels.duty }} goes well",
            "What it repairs stays broken: dead workers' jobs are not run again, lost nudges not repeated, held jobs "
            "not decided about, or dollars stay reserved. The other duties go on.",
            hold="2m",
        ),
        Alert(
            "CleanupStalled",
            f"{_since(CLEANUPS)} > 1800",
            Severity.WARNING,
            "no round of the maintenance duty {{ $labels.duty }} goes well",
            "Ended jobs and their objects are kept: Redis, S3 or Modal's volume fill slowly. Nothing is lost.",
            hold="2m",
        ),
        Alert(
            "ExporterAbsent",
            "absent(overspill_up)",
            Severity.CRITICAL,
            "there are no metrics of Overspill",
            "The exporter is not running or is not scraped: no other alert can fire.",
            hold="2m",
            keep="0m",
        ),
        Alert(
            "LedgerAway",
            "overspill_up == 0",
            Severity.CRITICAL,
            "the ledger does not answer",
            "The exporter runs and its Redis does not answer: nothing is accepted, placed or finished.",
            hold="1m",
            keep="0m",
        ),
        Alert(
            "BrokerAway",
            'overspill_redis_up{role="broker"} == 0',
            Severity.CRITICAL,
            "the Redis of Celery's queues does not answer",
            "Jobs are accepted and nobody is told of them: nothing is decided, started or spawned until it is back. "
            "What runs goes on, and ends.",
            hold="1m",
            keep="0m",
        ),
        Alert(
            "RedisEvicts",
            "increase(overspill_redis_evicted_keys_total[10m]) > 0 or overspill_redis_keeps_all == 0",
            Severity.CRITICAL,
            "the Redis of the {{ $labels.role }} throws keys away, or may",
            "A key thrown away is a job lost.",
        ),
        Alert(
            "RedisMemory",
            "role:overspill_redis_memory_used:ratio > 0.8",
            Severity.WARNING,
            "the Redis of the {{ $labels.role }} uses {{ $value | humanizePercentage }} of its memory",
            "When it is full, new jobs are refused (those under way still end).",
            hold="5m",
        ),
        Alert(
            "RedisCannotSave",
            f"{known('overspill_redis_writes_ok')} == 0",
            Severity.CRITICAL,
            "the Redis of the {{ $labels.role }} cannot write to its disk",
            "What is accepted now is lost if it dies.",
            hold="1m",
        ),
    ),
)
