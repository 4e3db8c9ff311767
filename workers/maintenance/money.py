"""Dollars that must not stay set aside: idle tails that are over, reservations that nobody would settle."""

import structlog

from workers.maintenance.duties import BATCH
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: Pages of reservations in one round of the check for leaks.
PAGES_IN_A_ROUND = 20


def book_idle_tails(resources: Resources) -> None:
    """Book the idle tails of containers that are certainly gone."""
    resources.ledger.maintenance.idle_containers(limit=BATCH)


def release_leaked_reservations(resources: Resources) -> None:
    """Give back reservations that no attempt will ever settle. There should be none: each is an error in the log."""
    limit = BATCH
    for _ in range(PAGES_IN_A_ROUND):
        leaked, checked = resources.ledger.maintenance.leaked_reservations(limit=limit)
        for member in leaked:
            log.error("reservation.leaked", attempt_of=member)
        if checked < limit:
            return
