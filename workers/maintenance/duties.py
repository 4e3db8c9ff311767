"""The duties of maintenance: their names, how often each is done, and how long a round may take. Pure."""

from dataclasses import dataclass
from enum import StrEnum

#: Life of a leader lease in intervals, beside what a round may take.
LEASE_INTERVALS = 3
#: Jobs that a repair service takes at a time; the scripts take no more.
BATCH = 500


class DutyName(StrEnum):
    """What is done again and again, by one process at a time."""

    #: Attempts are taken from holders that have not renewed their lease.
    EXPIRED_LEASES = "expired-leases"
    #: Held jobs whose time has come are decided about again, or shed.
    HELD_JOBS = "held-jobs"
    #: Nudges that seem lost are sent again.
    OVERDUE_NUDGES = "overdue-nudges"
    #: Spilling ends when the queue has run short.
    SPILL_STATE = "spill-state"
    #: Train jobs that wait in-house go to Modal when they should.
    TRAIN_RECALL = "train-recall"
    #: Idle tails of containers that are certainly gone are booked.
    IDLE_CONTAINERS = "idle-containers"
    #: Calls are cancelled when a budget is spent, if the settings say so.
    BUDGET = "budget"
    #: Reservations that nobody would settle are given back.
    LEAKED_RESERVATIONS = "leaked-reservations"
    #: Jobs that ended long ago are forgotten.
    RETIREMENT = "retirement"
    #: Objects in S3 to which nothing points any more are deleted.
    DELETIONS = "deletions"
    #: What retired train jobs have left on Modal's volume is deleted.
    PRUNING = "pruning"


#: What mends after a loss: without these, jobs stand still or dollars stay reserved.
REPAIRS = (
    DutyName.EXPIRED_LEASES,
    DutyName.HELD_JOBS,
    DutyName.OVERDUE_NUDGES,
    DutyName.SPILL_STATE,
    DutyName.TRAIN_RECALL,
    DutyName.IDLE_CONTAINERS,
    DutyName.BUDGET,
    DutyName.LEAKED_RESERVATIONS,
)
#: What tidies up: without these, Redis, S3 and Modal's volume fill slowly. Pruning needs a token for Modal.
CLEANUPS = (DutyName.RETIREMENT, DutyName.DELETIONS, DutyName.PRUNING)
#: What is done in every deployment.
ALWAYS_DONE = (*REPAIRS, DutyName.RETIREMENT, DutyName.DELETIONS)

#: Interval of the check for leaked reservations, seconds. Each reservation's own turn comes once a minute.
LEAK_CHECK_INTERVAL_S = 5.0
#: Interval of retirement, seconds.
RETIREMENT_INTERVAL_S = 10.0
#: Interval at which the list of S3 deletions is drained, seconds.
DELETIONS_INTERVAL_S = 2.0
#: Interval at which the list of deletions on Modal's volume is drained, seconds.
PRUNING_INTERVAL_S = 60.0

#: The longest that a few scripts of the ledger should take, seconds.
SHORT_ROUND_S = 3.0


@dataclass(frozen=True)
class Pace:
    """How a duty is timed."""

    interval_s: float
    #: The longest that a round should take, seconds. A leader that takes longer is followed by another process.
    round_s: float

    @property
    def lease_s(self) -> float:
        """Life of the leader lease, seconds: within it, a leader that has died or hangs is followed."""
        return self.interval_s * LEASE_INTERVALS + self.round_s
