"""One job's trouble stops no other: what a loop over jobs does about each of them goes through here."""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

import structlog

from infra.logs import bound
from ledger import Ledger, LedgerFull, LedgerUnavailable
from ledger.errors import RecordUnreadable
from ledger.models import JobRecord

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Skipped(StrEnum):
    """Why nothing was decided about a job."""

    #: Its record cannot be read; it is in no queue any more.
    QUARANTINED = "quarantined"
    #: An error of ours; it comes again with the next claim or sweep.
    NOT_DECIDED = "not_decided"


def isolated(ledger: Ledger, record: JobRecord, decide: Callable[[], T]) -> T | Skipped:
    """Decide about one job. What is wrong with it alone does not reach those behind it.

    Raises:
        LedgerUnavailable, LedgerFull: that is no job's own trouble.
    """
    with bound(**record.log_context()):
        try:
            return decide()
        except RecordUnreadable as error:
            log.error("job.quarantined", reason=error.reason)  # noqa: TRY400 - the sentence says it all
            ledger.placing.quarantine(record.id, reason=error.reason)
            return Skipped.QUARANTINED
        except (LedgerUnavailable, LedgerFull):
            raise
        except Exception:
            log.exception("job.not_decided")
            return Skipped.NOT_DECIDED
