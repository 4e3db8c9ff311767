"""What overflow workers do with Modal calls: spawn, record, poll, stop and settle them."""

from ledger.calls import Calls
from ledger.polling import Polling


class ModalCalls(Calls, Polling):
    """The verbs of spawners, pollers and cancellers."""
