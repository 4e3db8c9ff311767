"""One job's trouble stops no other: what a loop over jobs does about each of them goes through here."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar

import structlog

from infra.logs import bound
from ledger import Ledger, LedgerFull, LedgerUnavailable
from ledger.errors import RecordUnreadable
from ledger.models import JobRecord

log = structlog.get_logger(__name__)
T = TypeVar("T")
R = TypeVar("R")


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
            ledger.placement.quarantine(record.id, reason=error.reason)
            return Skipped.QUARANTINED
        except (LedgerUnavailable, LedgerFull):
            raise
        except Exception:
            log.exception("job.not_decided")
            return Skipped.NOT_DECIDED


def isolated_batch(
    batch: Sequence[T], work: Callable[[Sequence[T]], R], on_error: Callable[[T, Exception], object]
) -> list[R]:
    """Do work on a batch at once. Where that raises, do it on each half, so that only the item at fault is left out.

    Args:
        batch: the items; nothing is done for an empty one.
        work: may be called twice for the same item.
        on_error: told of each item at fault.

    Returns:
        What `work` returned, in the order of the items.

    Raises:
        LedgerUnavailable, LedgerFull: that is no item's own error.
    """
    if not batch:
        return []
    try:
        return [work(batch)]
    except (LedgerUnavailable, LedgerFull):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is an error of one item
        if len(batch) == 1:
            on_error(batch[0], error)
            return []
    middle = len(batch) // 2
    return [
        *isolated_batch(batch[:middle], work, on_error),
        *isolated_batch(batch[middle:], work, on_error),
    ]
