"""How the parts are put together: the objects that one process shares, and the duties that one follower leads.

The handles to Modal are bound once in a process; its spawner and its follower share them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache

from infra.settings import settings
from ledger import Ledger
from workers.dispatch import render_need
from workers.overflow.breaker import BreakerRules, Gate
from workers.overflow.containers import IdleWatch, WarmKeeper
from workers.overflow.modal_sdk.client import ModalSdk
from workers.overflow.modal_sdk.port import ModalCalls
from workers.overflow.spawner import Spawner
from workers.overflow.true_up import NightlyTrueUp
from workers.resources import Resources, shared_resources

#: Interval at which the warm containers are planned, seconds.
WARM_EVERY_S = 30.0
#: Interval at which Modal is asked how many containers exist while some may idle, seconds.
IDLE_WATCH_EVERY_S = 5.0

#: A duty is leased for this many of its rounds; a leader that dies is replaced after them.
_LEASE_ROUNDS = 3
#: Interval of the check whether the nightly true-up is due, seconds.
TRUE_UP_CHECK_S = 60.0


@cache
def modal_calls() -> ModalCalls:
    """The renderer that the settings name, by the token in the environment."""
    values = settings()
    return ModalSdk(
        app_name=values.modal.app,
        environment=values.modal.environment,
        max_result_bytes=values.modal.max_result_bytes,
        trainer_app=values.train.modal_app,
    )


@cache
def gate() -> Gate:
    """This process's view of the shared breaker."""
    return Gate(shared_resources().ledger, BreakerRules())


@cache
def spawner() -> Spawner:
    """The process's one spawner: nudges that come while it works join it."""
    return Spawner(shared_resources(), modal_calls(), gate())


@dataclass(frozen=True)
class Duty:
    """Work that one process at a time repeats, whichever leads it."""

    name: str
    work: Callable[[], Awaitable[None]]
    every_s: float
    ledger: Ledger
    owner: str

    async def run(self) -> None:
        """One round, if the duty is ours.

        Raises:
            LedgerUnavailable: the ledger went away.
        """
        lease_s = max(5.0, self.every_s * _LEASE_ROUNDS)
        if await asyncio.to_thread(self.ledger.maintenance.lead, self.name, owner=self.owner, lease_s=lease_s):
            await self.work()
            await asyncio.to_thread(self.ledger.maintenance.done, self.name)


def duties_of(resources: Resources, calls: ModalCalls, *, owner: str) -> Sequence[Duty]:
    """Every duty, with its interval."""
    ledger, settings = resources.ledger, resources.settings
    warm = WarmKeeper(resources, calls, render_need(settings), every_s=WARM_EVERY_S)
    return [
        Duty("idle-watch", IdleWatch(ledger, calls).compare, IDLE_WATCH_EVERY_S, ledger, owner),
        Duty("warm-keeper", warm.keep, WARM_EVERY_S, ledger, owner),
        Duty("true-up", NightlyTrueUp(resources).if_due, TRUE_UP_CHECK_S, ledger, owner),
    ]
