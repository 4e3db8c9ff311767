"""What is done when a call has ended: its result is delivered or its failure said, and its containers are charged."""

import random

import structlog

from ledger.containers import Usage
from ledger.outcomes import DueCall, Failed, Requeued, Stale
from ledger.retries import NEVER, Cause
from modal_apps.announce import Announcement
from modal_apps.envelope import Envelope
from workers.artifacts import ArtifactStoreUnavailable, Uploaded, UploadNotWhole, Video
from workers.delivery import AttemptOf, deliver
from workers.overflow.endings import Ended, Succeeded
from workers.overflow.usage import Seen, ended_at, of_announcement, of_envelope
from workers.resources import Resources

log = structlog.get_logger(__name__)


class Conclusions:
    """Concludes calls. Its methods block; each call is concluded in a thread."""

    def __init__(self, open_ends: Resources) -> None:
        self._open = open_ends
        self._ledger = open_ends.ledger
        self._settings = open_ends.settings

    def usage_of(self, ending: Succeeded | Ended, announced: Announcement | None, *, gpu: str, seen: Seen) -> Usage:
        """What containers a call is charged for: by its envelope, else by what it announced when it began."""
        window_s = self._settings.modal_scaledown_window_s
        if ending.envelope is not None:
            return of_envelope(ending.envelope, seen=seen, gpu=gpu, idle_window_s=window_s)
        return of_announcement(announced, seen=seen, gpu=gpu, idle_window_s=window_s)

    def conclude(
        self, call: DueCall, ending: Succeeded | Ended, announced: Announcement | None, *, noticed_ms: float
    ) -> bool:
        """Deliver or fail. False: S3 is away; the result stays with Modal for days, so the call is looked at again."""
        seen = Seen.of(call.spawned_ms, noticed_ms)
        usage = self.usage_of(ending, announced, gpu=call.gpu, seen=seen)
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
                self.fail(call, ending, usage)
        return True

    def _deliver(self, call: DueCall, envelope: Envelope, usage: Usage, seen: Seen) -> None:
        value = envelope.value or {}
        measurements = {
            **value["measurements"],
            "seconds": envelope.timings.execution_s,
            "startup_s": envelope.timings.startup_s if envelope.cold_start else 0.0,
            "container_id": envelope.container_id,
            "follow_lag_s": round(seen.noticed_at - ended_at(envelope, seen), 3),
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

    def fail(self, call: DueCall, ended: Ended, usage: Usage | None, *, call_may_run: bool = False) -> None:
        """End an attempt without a result; the job waits for another, or has failed."""
        log.warning("attempt.failed", cause=str(ended.cause), error=ended.message)
        outcome = self._ledger.attempts.fail(
            call.job_id,
            call.attempt,
            cause=ended.cause,
            message=ended.message,
            max_attempts=self._settings.max_attempts,
            jitter=random.random(),
            rule=None if ended.retryable else NEVER,
            usage=usage,
            call_may_run=call_may_run,
        )
        match outcome:
            case Requeued(nudge):
                self._open.nudger.send(nudge)
            case Failed() | Stale():
                pass
