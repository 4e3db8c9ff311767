"""What is true: the durable record of every job, attempt, lease, reservation, receipt, counter and event.

The ledger is the truth; a Celery message is only a nudge. Whoever wants to know or to change what happens to a job
asks here, and every change is one Lua script on Redis: it either happened whole, with its event and its counter, or
not at all.

What lives here
    states, models, decisions, view   pure: words, bounds and the one table of legal transitions
    containers                        how Modal containers come to dollars
    metrics                           the histograms' bounds, and how labels are written
    scripts, lua/                     where it is kept, and the scripts that change it (each opens with its key map)
    jobs, placement, attempts, modal_calls, money, maintenance, stats   the verbs, by subject
    calls, polling, training, budget, warming, activity, measuring      parts of these
    limits, refusals, stages          pure: the hard limits, and why they say no
    store                             `Ledger`: all verbs on one connection

What must hold
    Every write of an attempt carries its fencing token (the attempt's number); a stale one changes nothing.
    Times are Redis's own (`TIME`), never a worker's clock. `lease_until` and `next_check` are different fields.
    spent + reserved never passes a cap: the caps are checked by the script that places.

Who may come in
    The client, api, monitoring, whatif and workers. The ledger itself imports no other room, no Celery, no Modal.
"""

from ledger.errors import IdempotencyConflict, JobNotFound, LedgerError, LedgerFull, LedgerUnavailable
from ledger.models import BurstMode, Kind, RenderJob, TrainJob
from ledger.settings import LedgerSettings
from ledger.states import Pool, State
from ledger.store import Ledger

__all__ = [
    "BurstMode",
    "IdempotencyConflict",
    "JobNotFound",
    "Kind",
    "Ledger",
    "LedgerError",
    "LedgerFull",
    "LedgerSettings",
    "LedgerUnavailable",
    "Pool",
    "RenderJob",
    "State",
    "TrainJob",
]
