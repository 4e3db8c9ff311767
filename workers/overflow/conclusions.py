"""What is done when a call has ended: its result is delivered or its failure said, and its containers are charged."""

import random

import structlog

from infra.artifacts import ArtifactStoreUnavailable, Uploaded, UploadNotWhole, Video
from ledger.containers import Usage
from ledger.models import Kind
from ledger.outcomes import DueCall
from ledger.retries import NEVER, Cause
from modal_apps.announce import Announcement
from modal_apps.envelope import Envelope
from modal_apps.gpus import parse as parse_gpu
from workers.attempt.ending import after_failure
from workers.delivery import AttemptOf, deliver
from workers.overflow.endings import Ended, Succeeded
from workers.overflow.orphans import adopt_or_stop
from workers.overflow.traces import traced
from workers.overflow.usage import Seen, ended_at, of_announcement, of_envelope
from workers.resources import Resources
from workers.training.following import TrainFollowing
from workers.training.onmodal import SEGMENT_OVER

log = structlog.get_logger(__name__)

BYTES_PER_GIB = 1 << 30


class Conclusions:
    """Concludes calls. Its methods block; each call is concluded in a thread."""

    def __init__(self, open_ends: Resources) -> None:
        self._open = open_ends
        self._ledger = open_ends.ledger
        self._settings = open_ends.settings
        self.train = TrainFollowing(open_ends)

    def usage_of(
        self, ending: Succeeded | Ended, announced: Announcement | None, *, kind: Kind, gpu: str, seen: Seen
    ) -> Usage:
        """What containers a call is charged for: by its envelope, else by what it announced when it began."""
        window_s, rate = self._settings.modal_scaledown_window_s, self._settings.price_of(kind, gpu)
        if ending.envelope is not None:
            return of_envelope(ending.envelope, seen=seen, usd_nanos_per_s=rate, idle_window_s=window_s)
        return of_announcement(announced, seen=seen, usd_nanos_per_s=rate, idle_window_s=window_s)

    def conclude(
        self, call: DueCall, ending: Succeeded | Ended, announced: Announcement | None, *, noticed_ms: float
    ) -> bool:
        """Deliver or fail. False: S3 is away; the result stays with Modal for days, so the call is looked at again."""
        seen = Seen.of(call.spawned_ms, noticed_ms)
        usage = self.usage_of(ending, announced, kind=call.kind, gpu=call.gpu, seen=seen)
        with traced(self._ledger, call, ending, seen):
            return self._conclude(call, ending, usage, seen)

    def _conclude(self, call: DueCall, ending: Succeeded | Ended, usage: Usage, seen: Seen) -> bool:
        match ending:
            case Succeeded(envelope):
                try:
                    self._deliver(call, envelope, usage, seen)
                except ArtifactStoreUnavailable as error:
                    log.warning("delivery.failed", error=str(error))
                    return False
                except (KeyError, TypeError) as error:
                    message = f"the value lacks a part: {error!r}"
                    self.fail(call, Ended(Cause.BAD_ENVELOPE, message, envelope=envelope), usage)
                except UploadNotWhole as error:
                    self.fail(call, Ended(Cause.DELIVERY, str(error), envelope=envelope), usage)
            case Ended():
                self.fail(call, ending, usage, call_may_run=not ending.is_certain)
        return True

    def _deliver(self, call: DueCall, envelope: Envelope, usage: Usage, seen: Seen) -> None:
        value = envelope.value or {}
        if call.kind is Kind.TRAIN:
            self._deliver_checkpoint(call, envelope, usage)
            return
        measurements = {
            **value["measurements"],
            "seconds": envelope.timings.execution_s,
            "startup_s": envelope.timings.startup_s if envelope.cold_start else 0.0,
            "container_id": envelope.container_id,
            "follow_lag_s": round(seen.noticed_at - ended_at(envelope, seen), 3),
            **_peak_gpu_memory(envelope.peak_gpu_memory_bytes, call.gpu),
        }
        if "uploaded" in value:
            result: Video | Uploaded = Uploaded(value["uploaded"])
        else:
            result = Video(value["mp4"], value["thumbnail_webp"], value["sha256"])
        deliver(
            self._ledger,
            self._open.artifacts,
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
            self.fail(call, Ended(Cause.SEGMENT_ENDED, SEGMENT_OVER, envelope=envelope), usage)
            return
        deliver(
            self._ledger,
            self._open.artifacts,
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

    def fail(self, call: DueCall, ended: Ended, usage: Usage | None, *, call_may_run: bool = False) -> None:
        """End an attempt without a result; the job waits for another, or has failed."""
        if call.kind is Kind.TRAIN and ended.cause is not Cause.SEGMENT_ENDED:
            self.train.salvage(call)
        log.warning("attempt.failed", cause=str(ended.cause), error=ended.message)
        outcome = self._ledger.attempts.fail(
            call.job_id,
            call.attempt,
            cause=ended.cause,
            message=ended.message,
            max_attempts=self._settings.max_attempts_of(call.kind),
            jitter=random.random(),
            rule=None if ended.retryable else NEVER,
            usage=usage,
            call_may_run=call_may_run,
        )
        after_failure(outcome, ended.cause, self._open.nudger)


def _peak_gpu_memory(peak_bytes: int | None, gpu: str) -> dict[str, object]:
    """The peak, and its share of one GPU's memory where both are known (a stand-in has no GPU to measure)."""
    if peak_bytes is None:
        return {"peak_gpu_memory_bytes": None}
    whole_bytes = parse_gpu(gpu).vram_gib * BYTES_PER_GIB
    return {"peak_gpu_memory_bytes": peak_bytes, "peak_gpu_memory_ratio": round(peak_bytes / whole_bytes, 4)}
