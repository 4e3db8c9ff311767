"""What mends after a loss: a worker that died, a hold that is over, a nudge that got lost, a queue that ran short."""

import random

import redis
import structlog

from infra.broker import Broker
from ledger import Kind, Ledger, nudges
from ledger.nudges import Nudge
from workers.maintenance.duties import BATCH
from workers.maintenance.service import StoreAway
from workers.placement.policy import Policy
from workers.resources import Resources

log = structlog.get_logger(__name__)


def expire_leases(resources: Resources) -> None:
    """Take attempts from holders that have not renewed their lease; their jobs wait again, or have failed."""
    settings = resources.settings
    expired = resources.ledger.maintenance.expire_leases(
        limit=BATCH,
        max_attempts={kind: settings.attempts.max_attempts_of(kind) for kind in Kind},
        jitter=random.random(),
    )
    for lease in expired:
        log.warning(
            "lease.expired",
            job_id=lease.job_id,
            attempt=lease.attempt,
            kind=str(lease.kind),
            cause=lease.cause,
            outcome=lease.outcome,
        )
    # A job whose lease was lost should not wait for a nudge to fall overdue.
    for kind in {lease.kind for lease in expired}:
        resources.nudger.send(nudges.decide(kind))


def release_held(resources: Resources) -> None:
    """Have held jobs whose time has come decided about again; those that were held for too long are shed."""
    due, shed = resources.ledger.maintenance.due_held(limit=BATCH)
    for job_id in shed:
        log.warning("job.shed", job_id=job_id)
    for nudge in due:  # (held jobs come back every few seconds: a line for all of a kind)
        log.debug("jobs.looked_at_again", kind=str(nudge.kind))
        resources.nudger.send(nudge)


def resend_nudges(resources: Resources, broker: Broker) -> None:
    """Send nudges that seem lost again.

    Raises:
        StoreAway: the broker does not answer.
    """
    for nudge, waiting in resources.ledger.maintenance.overdue_nudges(limit=BATCH):
        _resend(resources, broker, nudge, waiting)


def _resend(resources: Resources, broker: Broker, nudge: Nudge, waiting: int) -> None:
    """Send as many nudges as jobs wait, less those that are still in the queue: a backlog is not a loss."""
    try:
        missing = waiting - broker.depth(nudge.queue)
    except redis.exceptions.RedisError as error:
        raise StoreAway(f"the depth of the queue {nudge.queue} is not known: {error}") from error
    for number in range(missing):
        if number == 0:
            log.info("nudge.sent_again", queue=nudge.queue, missing=missing)
        if not resources.nudger.send(nudge):
            return


def update_spill_state(ledger: Ledger, policy: Policy) -> None:
    """Spilling ends when the queue has run short, and not only when the next job comes."""
    view = ledger.placement.view()
    for kind in Kind:
        was = view.of(kind).spill
        now = policy.spill_state(kind, view)
        if now != was:
            ledger.placement.note_spill(kind, was=was, now=now)
            log.info("spill.changed", kind=str(kind), active=now.active)
