"""The completer: when a call has ended, delivers its result or fails its attempt, and charges its containers."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from infra.artifacts import ArtifactStoreUnavailable, Uploaded, UploadNotWhole, Video
from infra.tracing import inside, of_job, tracing
from ledger import Ledger
from ledger.containers import Usage
from ledger.models import Kind
from ledger.outcomes import DueCall
from ledger.retries import NEVER, Cause
from modal_apps.announce import Announcement
from modal_apps.envelope import Envelope
from modal_apps.gpus import parse as parse_gpu
from workers.attempt.ending import after_failure
from workers.delivery import AttemptOf, deliver
from workers.overflow.classify import CallFailed, CallSucceeded
from workers.overflow.orphans import adopt_or_stop
from workers.overflow.usage import Observation, ended_at, of_announcement, of_envelope
from workers.resources import Resources
from workers.training.following import TrainFollowing
from workers.training.onmodal import SEGMENT_OVER

log = structlog.get_logger(__name__)

BYTES_PER_GIB = 1 << 30


class Completer:
    """Completes calls. Its methods block; each call is completed in a thread."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._ledger = resources.ledger
        self._settings = resources.settings
        self.train = TrainFollowing(resources)

    def usage_of(
        self,
        outcome: CallSucceeded | CallFailed,
        announced: Announcement | None,
        *,
        kind: Kind,
        gpu: str,
        observed: Observation,
    ) -> Usage:
        """What containers a call is charged for: by its envelope, else by what it announced when it began."""
        window_s, rate = self._settings.modal.scaledown_window_s, self._settings.price_of(kind, gpu)
        if outcome.envelope is not None:
            return of_envelope(outcome.envelope, observed=observed, usd_nanos_per_s=rate, idle_window_s=window_s)
        return of_announcement(announced, observed=observed, usd_nanos_per_s=rate, idle_window_s=window_s)

    def complete(
        self, call: DueCall, outcome: CallSucceeded | CallFailed, announced: Announcement | None, *, noticed_ms: float
    ) -> bool:
        """Deliver or fail. False: S3 is away; the result stays with Modal for days, so the call is polled again."""
        observed = Observation.of(call.spawned_ms, noticed_ms)
        usage = self.usage_of(outcome, announced, kind=call.kind, gpu=call.gpu, observed=observed)
        with traced(self._ledger, call, outcome, observed):
            return self._complete(call, outcome, usage, observed)

    def _complete(
        self, call: DueCall, outcome: CallSucceeded | CallFailed, usage: Usage, observed: Observation
    ) -> bool:
        match outcome:
            case CallSucceeded(envelope):
                try:
                    self._deliver(call, envelope, usage, observed)
                except ArtifactStoreUnavailable as error:
                    log.warning("delivery.failed", error=str(error))
                    return False
                except (KeyError, TypeError) as error:
                    message = f"the value lacks a part: {error!r}"
                    self.fail(call, CallFailed(Cause.BAD_ENVELOPE, message, envelope=envelope), usage)
                except UploadNotWhole as error:
                    self.fail(call, CallFailed(Cause.DELIVERY, str(error), envelope=envelope), usage)
            case CallFailed():
                self.fail(call, outcome, usage, call_may_run=not outcome.is_certain)
        return True

    def _deliver(self, call: DueCall, envelope: Envelope, usage: Usage, observed: Observation) -> None:
        value = envelope.value or {}
        if call.kind is Kind.TRAIN:
            self._deliver_checkpoint(call, envelope, usage)
            return
        measurements = {
            **value["measurements"],
            "seconds": envelope.timings.execution_s,
            "startup_s": envelope.timings.startup_s if envelope.cold_start else 0.0,
            "container_id": envelope.container_id,
            "follow_lag_s": round(observed.noticed_at - ended_at(envelope, observed), 3),
            **_peak_gpu_memory(envelope.peak_gpu_memory_bytes, call.gpu),
        }
        if "uploaded" in value:
            result: Video | Uploaded = Uploaded(value["uploaded"])
        else:
            result = Video(value["mp4"], value["thumbnail_webp"], value["sha256"])
        deliver(
            self._ledger,
            self._resources.artifacts,
            AttemptOf(call.job_id, call.attempt),
            result,
            measurements=measurements,
            usage=usage,
        )

    def _deliver_checkpoint(self, call: DueCall, envelope: Envelope, usage: Usage) -> None:
        """A training call answered: its last checkpoint is the result, or its segment is over and another follows."""
        value = envelope.value or {}
        result = self.train.finish(call, value)
        if result is None:
            self.fail(call, CallFailed(Cause.SEGMENT_ENDED, SEGMENT_OVER, envelope=envelope), usage)
            return
        deliver(
            self._ledger,
            self._resources.artifacts,
            AttemptOf(call.job_id, call.attempt),
            result,
            measurements={
                **{name: value[name] for name in ("step", "steps_run", "metrics", "examples_per_s", "seconds")},
                **_peak_gpu_memory(value["peak_gpu_memory_bytes"], call.gpu),
                "startup_s": envelope.timings.startup_s if envelope.cold_start else 0.0,
                "container_id": envelope.container_id,
            },
            usage=usage,
        )

    def adopt(self, announced: Announcement) -> bool:
        """Follow the call that announced itself in its attempt's name, in place of the recorded one."""
        return adopt_or_stop(self._ledger, announced, self._settings) == "adopted"

    def fail(self, call: DueCall, failed: CallFailed, usage: Usage | None, *, call_may_run: bool = False) -> None:
        """End an attempt without a result; the job waits for another, or has failed."""
        if call.kind is Kind.TRAIN and failed.cause is not Cause.SEGMENT_ENDED:
            self.train.salvage(call)
        log.warning("attempt.failed", cause=str(failed.cause), error=failed.message)
        outcome = self._ledger.attempts.fail(
            call.job_id,
            call.attempt,
            cause=failed.cause,
            message=failed.message,
            max_attempts=self._settings.attempts.max_attempts_of(call.kind),
            jitter=random.random(),
            rule=None if failed.retryable else NEVER,
            usage=usage,
            call_may_run=call_may_run,
        )
        after_failure(outcome, failed.cause, self._resources.nudger)


def _peak_gpu_memory(peak_bytes: int | None, gpu: str) -> dict[str, object]:
    """The peak, and its share of one GPU's memory where both are known (a stand-in has no GPU to measure)."""
    if peak_bytes is None:
        return {"peak_gpu_memory_bytes": None}
    whole_bytes = parse_gpu(gpu).vram_gib * BYTES_PER_GIB
    return {"peak_gpu_memory_bytes": peak_bytes, "peak_gpu_memory_ratio": round(peak_bytes / whole_bytes, 4)}


@contextmanager
def traced(ledger: Ledger, call: DueCall, outcome: CallSucceeded | CallFailed, observed: Observation) -> Iterator[None]:
    """The spans of a call that has ended; what is done inside (the delivery) is a part of it too."""
    if not tracing().is_on:
        yield
        return
    word = "succeeded" if isinstance(outcome, CallSucceeded) else str(outcome.cause)
    parent = tracing().past(
        "call on Modal",
        parent=of_job(call.job_id, ledger.jobs.traceparent(call.job_id)),
        began_at=observed.spawned_at,
        ended_at=observed.noticed_at,
        job_id=call.job_id,
        attempt=call.attempt,
        call_id=call.call_id,
        gpu=call.gpu,
        outcome=word,
    )
    if outcome.envelope is not None:
        _container(outcome.envelope, observed, parent)
    with inside(parent):
        yield


def _container(envelope: Envelope, observed: Observation, parent: str | None) -> None:
    """What the container did, in the ledger's time: its clock may be off."""
    timings, ended = envelope.timings, ended_at(envelope, observed)
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
