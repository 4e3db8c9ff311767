"""The end of a run's books: the hour closes, Modal's bill for it is there, and the ledger is trued up by it.

Until then the ledger charges what it was told by the containers, and the whole idle tail of those that died untold.
What Modal's report corrects (docs/decisions/0004-true-up.md) it corrects only for hours that have closed, so the
ledger's clock is moved past the end of the hour first; nothing runs any more by then.
"""

from pydantic import SecretStr

from ledger import Ledger
from ledger.budget import HOUR_MS
from ledger.outcomes import TruedUp
from ledger.periods import month_of
from monitoring.reconcile import differences
from tests.chaos.observations import ModalFacts, RawLedger
from tests.support.settings import ledger_settings_of

_TIMEOUT_S = 10.0


class NotTruedUp(Exception):
    """The ledger did not take the bill."""


def close_the_hour(raw: RawLedger, modal: ModalFacts, *, url: str) -> int:
    """True the ledger up by modal_local's whole bill; returns the difference that was booked, micro-dollars.

    Raises:
        NotTruedUp: something was still open.
    """
    billed = sum(row["usd_micros"] for row in modal.containers)
    with _ledger(url) as ledger:
        now_ms = ledger.placement.view().now_ms
        end_ms = (now_ms // HOUR_MS + 1) * HOUR_MS
        raw.set_clock_offset(raw.clock_offset_ms() + end_ms - now_ms + 1000)
        outcome = ledger.money.true_up(month_of(end_ms - 1), billed, who="chaos", as_of_ms=end_ms)
        if not isinstance(outcome, TruedUp):
            raise NotTruedUp(f"expected the bill up to {end_ms} to be taken, got {outcome}")
        return outcome.difference_usd_micros


def miscounted(url: str) -> list[str]:
    """Every counter that is not what the ledger's records add up to."""
    with _ledger(url) as ledger:
        return [str(one) for one in differences(ledger)]


def _ledger(url: str) -> Ledger:
    return Ledger(ledger_settings_of(ledger_url=SecretStr(url), ledger_timeout_s=_TIMEOUT_S))
