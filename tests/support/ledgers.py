"""Ledgers for tests: a fresh prefix for each, and a clock that a test may move."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from infra.limits import given_limits
from infra.settings import Settings
from ledger import Ledger
from ledger.decisions import Decision, Receipt, RunInhouse, RunOnModal
from ledger.limits import Limits, to_text
from ledger.metrics import BOUNDS
from ledger.models import JobRecord, Kind, RenderJob
from ledger.outcomes import Placed
from ledger.polling import SpawnRate
from tests.support.settings import ledger_settings_of

ROOMY = Limits(month_cap_usd_micros=10**12, max_modal_attempts=10_000)
RECEIPT = Receipt(policy="test", rule="test", decision="test")
MODAL = RunOnModal(gpu="H100", reserve_usd_micros=1_000_000)


@contextmanager
def fresh_ledger(url: str, **settings: object) -> Iterator[Ledger]:
    """A ledger with keys of its own, removed at the end."""
    prefix = "{t" + uuid4().hex[:12] + "}"
    ledger = Ledger(ledger_settings_of({"ledger_url": url, "ledger_prefix": prefix, **settings}))
    try:
        yield ledger
    finally:
        for key in ledger.client.scan_iter(f"{prefix}:*"):
            ledger.client.delete(key)
        ledger.close()


def move_clock(ledger: Ledger, by_s: float) -> None:
    """Let the ledger's clock jump."""
    ledger.client.hincrby(f"{ledger.prefix}:meta", "clock_offset_ms", round(by_s * 1000))


def submit(ledger: Ledger, **fields: object) -> str:
    """A small render job in the ledger."""
    job = RenderJob.model_validate({"prompt": "a red ball", "seconds": 4, **fields})
    return ledger.jobs.submit(job, source="client").job_id


def limited(ledger: Ledger, limits: Limits) -> Ledger:
    """The same ledger, with these limits in force."""
    fill = {
        "filled_ms": "0",
        "tenant": "none",
        "day": "none",
        "hour_rate": "none",
        "gpus": "none",
        "containers": "none",
    }
    texts = {**fill, **{name: to_text(name, value) for name, value in limits.named().items()}}
    key = f"{ledger.prefix}:limits"
    if ledger.client.hgetall(key) != texts:
        pipe = ledger.client.pipeline()
        pipe.delete(key)
        pipe.hset(key, mapping=texts)
        pipe.execute()
    return ledger


def limited_by(ledger: Ledger, settings: Settings) -> Ledger:
    """The same ledger, with the limits in force that the settings name, and the defaults of the others."""
    given = {name: to_text(name, value) for name, value in given_limits(settings).items()}
    return limited(ledger, Limits.from_texts(given))


def place(ledger: Ledger, decision: Decision, *, limits: Limits = ROOMY) -> Placed:
    """Decide about the job that comes next, and expect it to be placed."""
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=10)
    outcome = limited(ledger, limits).placement.place(claimed, decision, receipt=RECEIPT)
    assert isinstance(outcome, Placed), outcome
    return outcome


def claim_spawns(ledger: Ledger, *, worker: str, limit: int, lease_s: float) -> list[JobRecord]:
    """Take Modal attempts to spawn, as fast as one likes."""
    rate = SpawnRate(per_s=1e6, burst=1e6)
    return list(ledger.modal_calls.claim_spawns(worker=worker, limit=limit, lease_s=lease_s, rate=rate).records)


def observed(ledger: Ledger, metric: str, labels: str, value: float) -> None:
    """One value in a histogram of the ledger, as its scripts write it."""
    series = f"{metric}|{labels}"
    bound = next((f"{bound:g}" for bound in BOUNDS[metric] if value <= bound), "+Inf")
    ledger.client.hincrby(f"{ledger.prefix}:counters", f"{series}|le={bound}", 1)
    ledger.client.hincrby(f"{ledger.prefix}:counters", f"{series}|sum", round(value * 1e6))


def start_inhouse(ledger: Ledger, worker: str = "gpu-1", lease_s: float = 10) -> JobRecord:
    """Place the next job in-house and start it."""
    place(ledger, RunInhouse())
    record = ledger.attempts.start_inhouse(Kind.RENDER, worker=worker, lease_s=lease_s)
    assert record is not None
    return record
