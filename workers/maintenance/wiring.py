"""Which duties a process can do, with what they need."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from infra.broker import Broker
from workers.dispatch import policy_from
from workers.maintenance.budget import cancel_at_stop
from workers.maintenance.deletions import ROUND_S as DELETIONS_ROUND_S
from workers.maintenance.deletions import delete_objects
from workers.maintenance.duties import (
    DELETIONS_INTERVAL_S,
    LEAK_CHECK_INTERVAL_S,
    PRUNING_INTERVAL_S,
    RETIREMENT_INTERVAL_S,
    SHORT_ROUND_S,
    DutyName,
    Pace,
)
from workers.maintenance.money import book_idle_tails, release_leaked_reservations
from workers.maintenance.pruning import ROUND_S as PRUNING_ROUND_S
from workers.maintenance.pruning import prune_volume, volume_in_use
from workers.maintenance.recall import recall_trains
from workers.maintenance.repair import expire_leases, release_held, resend_nudges, update_spill_state
from workers.maintenance.retirement import ROUND_S as RETIREMENT_ROUND_S
from workers.maintenance.retirement import retire_jobs
from workers.maintenance.service import Duty, Maintenance
from workers.resources import Resources

if TYPE_CHECKING:
    from workers.training.volume import CheckpointVolume


def maintenance(
    resources: Resources, broker: Broker | None = None, *, volume: "CheckpointVolume | None" = None
) -> Maintenance:
    """All maintenance services of this process, not yet started.

    Args:
        resources: what the process holds open.
        broker: the queues; None: one of its own, closed at the end.
        volume: Modal's volume of checkpoints; None: the one in use, if this process has a token for Modal.
    """
    queues = broker or Broker(resources.settings)
    volume = volume or volume_in_use(resources.settings)
    return Maintenance(list(duties_of(resources, queues, volume)), resources.ledger, close=queues.close)


def duties_of(resources: Resources, broker: Broker, volume: "CheckpointVolume | None") -> Iterator[Duty]:
    """Every duty that this process can do."""
    settings, ledger = resources.settings, resources.ledger
    often = Pace(settings.maintenance.sweep_every_s, SHORT_ROUND_S)
    policy = policy_from(settings)
    repairs: dict[DutyName, Callable[[], object]] = {
        DutyName.EXPIRED_LEASES: partial(expire_leases, resources),
        DutyName.HELD_JOBS: partial(release_held, resources),
        DutyName.OVERDUE_NUDGES: partial(resend_nudges, resources, broker),
        DutyName.SPILL_STATE: partial(update_spill_state, ledger, policy),
        DutyName.TRAIN_RECALL: partial(recall_trains, resources),
        DutyName.IDLE_CONTAINERS: partial(book_idle_tails, resources),
        DutyName.BUDGET: partial(cancel_at_stop, ledger, settings, send=resources.nudger.send),
    }
    for name, work in repairs.items():
        yield Duty(name, work, often)
    yield Duty(
        DutyName.LEAKED_RESERVATIONS,
        partial(release_leaked_reservations, resources),
        Pace(LEAK_CHECK_INTERVAL_S, SHORT_ROUND_S),
    )
    yield Duty(
        DutyName.RETIREMENT,
        partial(retire_jobs, resources),
        Pace(RETIREMENT_INTERVAL_S, RETIREMENT_ROUND_S + SHORT_ROUND_S),
    )
    yield Duty(
        DutyName.DELETIONS,
        partial(delete_objects, resources),
        Pace(DELETIONS_INTERVAL_S, DELETIONS_ROUND_S + 2 * settings.s3.timeout_s),
    )
    if volume is not None:
        yield Duty(
            DutyName.PRUNING, partial(prune_volume, resources, volume), Pace(PRUNING_INTERVAL_S, 2 * PRUNING_ROUND_S)
        )
