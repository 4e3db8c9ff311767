"""What is shown of the ledger: all that is measured, calls in flight, the newest events, the journal of money."""

from ledger.activity import Activity
from ledger.measuring import Measuring


class Stats(Activity, Measuring):
    """The verbs of the exporter, and of those who watch."""
