"""What follows when an attempt was ended without a result: it is told, and whoever decides next is nudged."""

import structlog

from infra.nudging import CeleryNudger
from ledger.outcomes import Failed, Requeued, Stale
from ledger.retries import Cause

log = structlog.get_logger(__name__)


def after_failure(outcome: Requeued | Failed | Stale, cause: Cause, nudger: CeleryNudger) -> str:
    """Say what became of the job, in the log and as a word: `requeued`, `failed` or `too_late`."""
    match outcome:
        case Requeued(nudge):
            log.info("job.requeued", cause=str(cause))
            nudger.send(nudge)
            return "requeued"
        case Failed():
            log.warning("job.failed", cause=str(cause))
            return "failed"
        case Stale():
            return "too_late"
