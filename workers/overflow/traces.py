"""A call's part in its job's trace, made when it has ended: what the container did is known from its envelope alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.tracing import inside, of_job, tracing
from ledger import Ledger
from ledger.outcomes import DueCall
from modal_apps.envelope import Envelope
from workers.overflow.endings import Ended, Succeeded
from workers.overflow.usage import Seen, ended_at


@contextmanager
def traced(ledger: Ledger, call: DueCall, ending: Succeeded | Ended, seen: Seen) -> Iterator[None]:
    """The spans of a call that has ended; what is done inside (the delivery) is a part of it too."""
    if not tracing().is_on:
        yield
        return
    outcome = "succeeded" if isinstance(ending, Succeeded) else str(ending.cause)
    parent = tracing().past(
        "call on Modal",
        parent=of_job(call.job_id, ledger.desk.traceparent(call.job_id)),
        began_at=seen.spawned_at,
        ended_at=seen.noticed_at,
        job_id=call.job_id,
        attempt=call.attempt,
        call_id=call.call_id,
        gpu=call.gpu,
        outcome=outcome,
    )
    if ending.envelope is not None:
        _container(ending.envelope, seen, parent)
    with inside(parent):
        yield


def _container(envelope: Envelope, seen: Seen, parent: str | None) -> None:
    """What the container did, in the ledger's time: its clock may be off."""
    timings, ended = envelope.timings, ended_at(envelope, seen)
    began = ended - timings.execution_s
    if envelope.cold_start:
        tracing().past(
            "start container",
            parent=parent,
            began_at=began - timings.startup_s,
            ended_at=began,
            container_id=envelope.container_id,
        )
    tracing().past(
        "execute",
        parent=parent,
        began_at=began,
        ended_at=ended,
        container_id=envelope.container_id,
        cold_start=envelope.cold_start,
        peak_gpu_memory_bytes=envelope.peak_gpu_memory_bytes,
    )
