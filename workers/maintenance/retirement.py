"""Jobs that ended long ago are forgotten. What they have left in stores is noted for deletion in the same script."""

import time

import structlog

from ledger import Kind
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: Jobs in one call of the ledger: a few milliseconds of Redis's one thread.
JOBS_IN_A_CALL = 100
#: No further call is made in a round after this, seconds.
ROUND_S = 2.0


def retire_jobs(resources: Resources) -> None:
    """One round over every kind. A job that claims very many attempts goes in several calls, and rounds."""
    until = time.monotonic() + ROUND_S
    for kind in Kind:
        _retire(resources, kind, until)


def _retire(resources: Resources, kind: Kind, until: float) -> None:
    settings = resources.settings
    kept, number = 0, 0
    while True:
        retired = resources.ledger.maintenance.retire(
            kind,
            older_than_s=settings.maintenance.retention_s,
            bucket=resources.artifacts.bucket,
            # Whoever prunes may have Modal's token where we have none.
            on_volume=settings.budget.max_modal_attempts > 0,
            limit=JOBS_IN_A_CALL,
            skip=kept,
        )
        kept += retired.kept
        number += len(retired.ids)
        if not retired.more or time.monotonic() > until:
            break
    if number:
        log.info("jobs.retired", kind=str(kind), number=number)
