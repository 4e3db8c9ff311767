"""What is done beside following, now and then, by one follower at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ledger import Ledger
from workers.dispatch import render_need
from workers.overflow.calls import ModalCalls
from workers.overflow.idlewatch import IdleWatch
from workers.overflow.trueup import NightlyTrueUp
from workers.overflow.warm import WarmKeeper
from workers.resources import Resources

#: A duty is held for so many of its rounds; whoever dies is replaced after them.
_LEASE_ROUNDS = 3
#: How often it is looked whether the night's work is due, seconds.
NIGHT_LOOK_S = 60.0


@dataclass(frozen=True)
class Duty:
    """Something to be done again and again by whoever leads it."""

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
        if await asyncio.to_thread(self.ledger.sweeps.lead, self.name, owner=self.owner, lease_s=lease_s):
            await self.work()
            await asyncio.to_thread(self.ledger.sweeps.done, self.name)


def duties_of(open_ends: Resources, calls: ModalCalls, *, owner: str) -> Sequence[Duty]:
    """All duties that the settings want."""
    ledger, settings = open_ends.ledger, open_ends.settings
    warm = WarmKeeper(open_ends, calls, render_need(settings), every_s=settings.warm_every_s)
    return [
        Duty("idle-watch", IdleWatch(ledger, calls).look, settings.idle_watch_every_s, ledger, owner),
        Duty("warm-keeper", warm.keep, settings.warm_every_s, ledger, owner),
        Duty("true-up", NightlyTrueUp(open_ends).if_due, NIGHT_LOOK_S, ledger, owner),
    ]
