"""Messages that cannot be taken: logged, counted in the ledger, dropped; the worker lives on."""

import structlog

from ledger import LedgerError
from workers.resources import shared_resources

log = structlog.get_logger(__name__)


def message_dropped(reason: str, *, detail: str, task: str = "") -> None:
    """Log and count a message that was dropped. `reason` is one word of a bounded set; the others are cut short."""
    log.warning("message.dropped", reason=str(reason), task=_shown(task, 80), detail=_shown(detail, 300))
    try:
        shared_resources().ledger.tally("messages_dropped_total", f"reason={reason}")
    except LedgerError as error:
        log.warning("message.drop_not_counted", error=str(error))


def _shown(text: str, most: int) -> str:
    """What somebody else has written, as any log can hold it: a lone surrogate could not be printed."""
    return text[:most].encode("utf-8", "backslashreplace").decode()
