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
            "no round of the maintenance duty {{ $labels.duty }} succeeds",
            "What it repairs stays broken: jobs of dead workers are not retried, lost nudges not repeated, held jobs "
            "not decided, or dollars stay reserved. The other duties continue.",
            hold="2m",
        ),
        Alert(
            "CleanupStalled",
            f"{_since(CLEANUPS)} > 1800",
            Severity.WARNING,
            "no round of the maintenance duty {{ $labels.duty }} succeeds",
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
            "Jobs are accepted and no nudge arrives: nothing is decided, started or spawned until it is back. "
            "Running jobs continue to their end.",
            hold="1m",
            keep="0m",
        ),
        Alert(
            "BrokerKeyWrong",
            "overspill_broker_wrong_type_keys > 0",
            Severity.CRITICAL,
            "a key of the queue {{ $labels.queue }} holds something which is no list",
            "Nobody can put a message there or take one: what the queue is for stands still. Its workers live and "
            "serve their other queues.",
            hold="1m",
        ),
        Alert(
            "RedisEvicts",
            "increase(overspill_redis_evicted_keys_total[10m]) > 0 or overspill_redis_keeps_all == 0",
            Severity.CRITICAL,
            "the Redis of the {{ $labels.role }} evicts keys, or may",
            "An evicted key is a lost job.",
        ),
        Alert(
            "RedisMemory",
            "role:overspill_redis_memory_used:ratio > 0.8",
            Severity.WARNING,
            "the Redis of the {{ $labels.role }} uses {{ $value | humanizePercentage }} of its memory",
            "When it is full, new jobs are refused (jobs in flight still end).",
            hold="5m",
        ),
        Alert(
            "RedisCannotSave",
            f"{known('overspill_redis_writes_ok')} == 0",
            Severity.CRITICAL,
            "the Redis of the {{ $labels.role }} cannot write to its disk",
            "Jobs that are accepted now are lost if it dies.",
            hold="1m",
        ),
    ),
)
