"""Plays a script of faults: each at its time, and random ones from a seed."""

import asyncio
import random

from modal_local.context import Context
from modal_local.errors import NotFoundError
from modal_local.faults.injector import FaultInjector
from modal_local.faults.model import ONE_SHOT, Fault, FaultScript, RandomFaults


class FaultPlayer:
    """Plays one script, from the server's start on."""

    def __init__(self, context: Context, injector: FaultInjector, script: FaultScript) -> None:
        self._context = context
        self._injector = injector
        self._script = script
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins."""
        self._context.logger.info("faults.scripted", count=len(self._script.faults), seed=self._script.seed)
        self._tasks.append(asyncio.create_task(self._play()))
        for number, drawn in enumerate(self._script.random):
            self._tasks.append(asyncio.create_task(self._draw(drawn, random.Random(self._script.seed + number))))

    async def stop(self) -> None:
        """Ends. May be called twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _play(self) -> None:
        now_s = 0.0
        for fault in sorted(self._script.faults, key=lambda fault: fault.at_s):
            await asyncio.sleep(max(0.0, fault.at_s - now_s))
            now_s = max(now_s, fault.at_s)
            self._inject(fault)

    async def _draw(self, drawn: RandomFaults, source: random.Random) -> None:
        now_s = 0.0
        while True:
            pause_s = source.expovariate(1.0 / drawn.mean_interval_s)
            now_s += pause_s
            if drawn.until_s is not None and now_s > drawn.until_s:
                return
            await asyncio.sleep(pause_s)
            kind = source.choice(drawn.kinds)
            self._inject(Fault(kind=kind, at_s=now_s, count=None if kind in ONE_SHOT else 1))

    def _inject(self, fault: Fault) -> None:
        try:
            self._injector.inject(fault)
        except NotFoundError as error:
            self._context.logger.info("fault.missed", kind=fault.kind, why=error.message)
