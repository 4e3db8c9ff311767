"""Whether a call waits for a GPU that does not come: then another class is tried."""

import asyncio
import time
from collections.abc import Callable

import structlog

from infra.settings import Settings
from ledger.models import Kind
from ledger.outcomes import DueCall
from workers.overflow.calls import ModalCalls

log = structlog.get_logger(__name__)

#: What Modal said of a class is good for so long, seconds: many calls ask about the same few classes.
_GOOD_FOR_S = 5.0


class Exhaustion:
    """Asks Modal how a class stands, when one of its calls has waited for too long."""

    def __init__(self, calls: ModalCalls, settings: Settings, run_may_move: Callable[[DueCall], bool]) -> None:
        """`run_may_move` blocks, and tells of a train call whether another class than its own would do."""
        self._calls = calls
        self._settings = settings
        self._run_may_move = run_may_move
        self._backlogs: dict[tuple[Kind, str], tuple[float, bool]] = {}

    async def has_no_gpu(self, call: DueCall) -> bool:
        """Whether a call has waited too long, has not begun, and its class has a backlog.

        A hint that it began may be lost, so its announcement is asked for too, which it makes before it works.
        """
        waited_s = (call.now_ms - call.spawned_ms) / 1000
        if call.begun_ms is not None or waited_s < self._settings.gpu_exhausted_after_s:
            return False
        if not await self._has_backlog(call.kind, call.gpu):
            return False
        if not await self._another_would_do(call):
            return False
        return await self._has_not_begun(call)

    async def _has_not_begun(self, call: DueCall) -> bool:
        try:
            return await self._calls.announcement(call.job_id, call.attempt) is None
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that it is not known
            log.info("announcement.not_asked", error=f"{type(error).__name__}: {error}")
            return False

    async def _another_would_do(self, call: DueCall) -> bool:
        match call.kind:
            case Kind.RENDER:
                return len(self._settings.modal_render_classes) + len(self._settings.modal_render_fallbacks) > 1
            case Kind.TRAIN:
                return await asyncio.to_thread(self._run_may_move, call)

    async def _has_backlog(self, kind: Kind, gpu: str) -> bool:
        at, known = self._backlogs.get((kind, gpu), (float("-inf"), False))
        if time.monotonic() - at < _GOOD_FOR_S:
            return known
        try:
            known = (await self._calls.pool(gpu, kind=kind)).backlog > 0
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that it is not known
            log.info("pool.not_asked", gpu=gpu, error=f"{type(error).__name__}: {error}")
            known = False
        self._backlogs[kind, gpu] = (time.monotonic(), known)
        return known
