"""Stands before the launcher, and makes starts fail as the faults in force say."""

import asyncio
import pickle
from collections.abc import Callable

from modal_proto import api_pb2

from modal_local.faults.injector import FaultInjector
from modal_local.faults.model import Fault
from modal_local.records import ContainerRecord
from modal_local.scheduler.engine import Launcher

# About what a start takes until its @enter has failed.
_FAILS_AFTER_S = 0.1
_EXIT_CODE = 1


class FaultyLauncher:
    """A launcher whose starts can fail. Implements Launcher."""

    def __init__(self, launcher: Launcher, injector: FaultInjector) -> None:
        self._launcher = launcher
        self._injector = injector

    async def launch(self, container: ContainerRecord, ended: Callable[[ContainerRecord, int | None], None]) -> None:
        """Starts the container, or lets it fail."""
        extra_s = self._injector.extra_cold_start_s()
        if extra_s > 0:
            await asyncio.sleep(extra_s)
        fault = self._injector.start_fault(container)
        if fault is None:
            await self._launcher.launch(container, ended)
            return
        asyncio.get_running_loop().call_later(_FAILS_AFTER_S, self._fail, fault, container, ended)

    @staticmethod
    def _fail(fault: Fault, container: ContainerRecord, ended: Callable[[ContainerRecord, int | None], None]) -> None:
        if fault.kind == "start_failure":
            ended(container, _EXIT_CODE)
            return
        error = RuntimeError(fault.message)
        # As the SDK's entrypoint does it: it reports the pickled exception, and exits with code 0.
        container.failure = api_pb2.GenericResult(
            status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE,
            exception=repr(error),
            traceback=repr(error),
            data=pickle.dumps(error),
        )
        ended(container, 0)

    def kill(self, container: ContainerRecord) -> None:
        """As the launcher."""
        self._launcher.kill(container)

    def interrupt(self, container: ContainerRecord) -> None:
        """As the launcher."""
        self._launcher.interrupt(container)
