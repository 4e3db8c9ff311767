"""The idle watch: tails of containers that are gone already are paid up to now, and the rest of them is given back.

When a call ends, its container's whole idle window is set aside. A container that dies earlier, or that Modal takes
away, would keep its tail reserved for nothing; so, while tails are reserved, Modal is asked how many containers exist.
"""

import asyncio
import time

import structlog

from ledger import Kind, Ledger, LedgerFull, LedgerUnavailable
from workers.overflow.calls import ModalCalls

log = structlog.get_logger(__name__)


class IdleWatch:
    """Compares idle containers with what Modal says that there is. Renders only: the port asks about the renderer."""

    def __init__(self, ledger: Ledger, calls: ModalCalls) -> None:
        self._ledger = ledger
        self._calls = calls

    async def look(self) -> None:
        """One round.

        Raises:
            LedgerUnavailable: the ledger went away.
        """
        for kind, gpu in await asyncio.to_thread(self._ledger.following.idle_pools):
            if kind is not Kind.RENDER:
                continue
            try:
                await self._compare(gpu)
            except (LedgerUnavailable, LedgerFull):
                raise
            except Exception:
                # One class's trouble is not another's.
                log.exception("pool.not_compared", gpu=gpu)

    async def _compare(self, gpu: str) -> None:
        asked_at = time.monotonic()
        try:
            stats = await self._calls.pool(gpu)
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that it is not known
            log.info("pool.not_asked", gpu=gpu, error=f"{type(error).__name__}: {error}")
            return
        ended = await asyncio.to_thread(
            self._ledger.calls.idle_ended,
            Kind.RENDER,
            gpu=gpu,
            alive=stats.runners,
            asked_s_ago=time.monotonic() - asked_at,
        )
        if ended.containers:
            log.info("containers.ended_early", gpu=gpu, number=ended.containers)
