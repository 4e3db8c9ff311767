"""Tending the breaker: while it is open nothing waits for a spawn, and now and then Modal is asked how it is."""

import asyncio

import structlog

from ledger import Ledger
from workers.overflow.breaker import Phase
from workers.overflow.calls import ModalCalls
from workers.overflow.endings import trouble_of
from workers.overflow.gate import Gate
from workers.overflow.spawner import GIVEN_BACK_PAUSE_S

log = structlog.get_logger(__name__)


class BreakerTender:
    """Looks after the shared breaker; any number of processes may, and one of them makes each probe."""

    def __init__(self, ledger: Ledger, calls: ModalCalls, gate: Gate) -> None:
        self._ledger = ledger
        self._calls = calls
        self._gate = gate

    async def tend(self) -> None:
        """One round.

        Raises:
            LedgerUnavailable: the ledger went away.
        """
        breaker = await asyncio.to_thread(self._gate.read)
        if breaker.phase is not Phase.OPEN:
            return
        given_back = await asyncio.to_thread(
            self._ledger.following.give_back, None, reason="breaker_open", pause_s=GIVEN_BACK_PAUSE_S
        )
        if given_back:
            log.info("spawns.given_back", number=len(given_back))
        if await asyncio.to_thread(self._gate.take_probe):
            await self._probe()

    async def _probe(self) -> None:
        try:
            await self._calls.probe()
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; each is classified
            trouble = trouble_of(error)
            log.info("breaker.probe_failed", reason=str(trouble), error=f"{type(error).__name__}: {error}")
            await asyncio.to_thread(self._gate.probed, trouble)
            return
        await asyncio.to_thread(self._gate.probed, None)
