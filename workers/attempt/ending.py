"""The one place that ends an in-house attempt: it completes, or it fails; then whoever decides next is nudged."""

import random
from collections.abc import Callable

import structlog

from infra.artifacts import ArtifactStoreUnavailable
from infra.nudging import CeleryNudger
from infra.retrying import retry_while_unavailable
from ledger import Kind, LedgerUnavailable
from ledger.outcomes import Failed, Requeued, Stale
from ledger.retries import NEVER, Cause
from workers.attempt.results import Failure, Finished
from workers.delivery import PATIENCE_S, AttemptOf, Delivered, TooLate, deliver
from workers.resources import Resources

log = structlog.get_logger(__name__)


def complete(
    resources: Resources, of: AttemptOf, kind: Kind, finished: Finished, *, is_lost: Callable[[], bool]
) -> str:
    """Deliver a result, patiently, and publish it. An S3 that stays away for too long fails the attempt.

    Returns:
        `completed`, `too_late` (the attempt is not the newest any more), what `fail` says, or `ledger_away`: nothing
        can be said to anybody now; the lease lapses, and another attempt is made.
    """
    try:
        # S3 may be away for a while: the result is kept, and so is the lease, rather than computed again.
        delivered = retry_while_unavailable(
            lambda: deliver(
                resources.ledger,
                resources.artifacts,
                of,
                finished.result,
                measurements=finished.measurements,
                cost_usd_micros=finished.cost_usd_micros,
            ),
            for_s=resources.settings.attempts.delivery_patience_s,
            away=ArtifactStoreUnavailable,
            give_up=is_lost,
        )
    except ArtifactStoreUnavailable as error:
        return fail(resources, of, kind, Failure(Cause.DELIVERY, str(error)))
    except LedgerUnavailable as error:
        log.error("attempt.result_dropped", error=str(error))  # noqa: TRY400 - the sentence says it all
        return "ledger_away"
    match delivered:
        case Delivered():
            return "completed"
        case TooLate():
            return "too_late"


def fail(resources: Resources, of: AttemptOf, kind: Kind, failure: Failure, *, patience_s: float = PATIENCE_S) -> str:
    """End an attempt without a result. Of several that do so, the ledger hears the first.

    Args:
        resources: this process's.
        of: the attempt.
        kind: of its job.
        failure: what ended it.
        patience_s: how long a ledger that is away is waited for, seconds.

    Returns:
        What `after_failure` says.

    Raises:
        LedgerUnavailable: it stayed away; the attempt is left to its lease.
    """
    log.warning("attempt.failed", cause=str(failure.cause), error=failure.message)
    outcome = retry_while_unavailable(
        lambda: resources.ledger.attempts.fail(
            of.job_id,
            of.attempt,
            cause=failure.cause,
            message=failure.message,
            max_attempts=resources.settings.attempts.max_attempts_of(kind),
            jitter=random.random(),
            rule=None if failure.retryable else NEVER,
            where=failure.where,
        ),
        for_s=patience_s,
    )
    return after_failure(outcome, failure.cause, resources.nudger)


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
