"""Containers without processes: an async handler inside the server answers the inputs. For tests of scale.

Everything but the container is as ever: the same scheduler, the same wire to clients, the same faults.
"""

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.errors import UnimplementedError
from modal_local.execs.commands import Place
from modal_local.records import ContainerRecord
from modal_local.registry import Registry
from modal_local.scheduler.dispatch import Dispatcher

_PICKLE = api_pb2.DATA_FORMAT_PICKLE
_KILLED = 137


class SimulatedCall:
    """One input, as a handler sees it.

    Attributes:
        function: the function's tag.
        method: the method's name, for classes.
        call_id: the function call's id.
        task_id: the container's id.
    """

    __slots__ = ("_payload", "call_id", "function", "method", "task_id")

    def __init__(
        self, function: str, method: str, payload: api_pb2.FunctionInput, *, call_id: str = "", task_id: str = ""
    ) -> None:
        self.function = function
        self.method = method
        self.call_id = call_id
        self.task_id = task_id
        self._payload = payload

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments, as long as they came inline and hold plain values."""
        if not self._payload.args:
            return (), {}
        args, kwargs = pickle.loads(self._payload.args)  # noqa: S301 - written by the local client, as in any container
        return args, kwargs


Handler = Callable[[SimulatedCall], Awaitable[Any]]


async def sleep_for_first_argument(call: SimulatedCall) -> Any:
    """The default handler: sleeps for as many seconds as `simulate_s`, or the first argument, says; returns that."""
    args, kwargs = call.arguments()
    seconds = kwargs.get("simulate_s", args[0] if args else 0.0)
    if isinstance(seconds, int | float) and seconds > 0:
        await asyncio.sleep(seconds)
    return seconds


class SimulatedLauncher:
    """Starts simulated containers. Implements Launcher. `dispatcher` is set before the first start."""

    def __init__(self, context: Context, registry: Registry, handler: Handler = sleep_for_first_argument) -> None:
        self._context = context
        self._registry = registry
        self._handler = handler
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._codes: dict[str, int] = {}
        self.dispatcher: Dispatcher | None = None

    async def start(self) -> None:
        """Nothing to get ready."""

    async def launch(self, container: ContainerRecord, ended: Callable[[ContainerRecord, int | None], None]) -> None:
        """Starts one."""
        task = asyncio.create_task(self._live(container))
        self._tasks[container.task_id] = task

        def finished(done: asyncio.Task[None]) -> None:
            self._tasks.pop(container.task_id, None)
            if not done.cancelled() and done.exception() is not None:
                self._context.logger.error("simulated.failed", error=repr(done.exception()))
            ended(container, _KILLED if done.cancelled() else 0)

        task.add_done_callback(finished)

    def place(self, task_id: str) -> Place:
        """A simulated container has no place in which a command could run."""
        raise UnimplementedError("modal_local does not serve commands in simulated containers.")

    async def gone(self, task_id: str) -> None:
        """Never asked."""

    def kill(self, container: ContainerRecord) -> None:
        """Ends one at once."""
        task = self._tasks.get(container.task_id)
        if task is not None:
            task.cancel()

    def interrupt(self, container: ContainerRecord) -> None:
        """Preempts one, which for a simulated container is the same."""
        self.kill(container)

    def restore(self, container: ContainerRecord) -> None:
        """A simulated container takes no snapshot."""

    def stop_container(self, container: ContainerRecord) -> None:
        """Hangs one: not simulated."""
        self.kill(container)

    async def stop(self) -> None:
        """Ends all. May be called twice."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _live(self, container: ContainerRecord) -> None:
        dispatcher = self.dispatcher
        if dispatcher is None:
            raise RuntimeError("The launcher is not attached to a dispatcher.")
        request = api_pb2.FunctionGetInputsRequest(function_id=container.function_id)
        tag = self._registry.functions[container.function_id].tag
        slots = asyncio.Semaphore(container.settings.inputs_per_container)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                container.last_heartbeat = self._context.clock.steady()
                response = await dispatcher.next_inputs(container.task_id, request)
                if not response.inputs or response.inputs[0].kill_switch:
                    return
                group.create_task(self._answer(dispatcher, container, tag, response.inputs[0], slots))

    async def _answer(
        self,
        dispatcher: Dispatcher,
        container: ContainerRecord,
        tag: str,
        item: api_pb2.FunctionGetInputsItem,
        slots: asyncio.Semaphore,
    ) -> None:
        began = self._context.clock.now()
        try:
            call = SimulatedCall(
                tag, item.input.method_name, item.input, call_id=item.function_call_id, task_id=container.task_id
            )
            value = await self._handler(call)
            result = api_pb2.GenericResult(
                status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS, data=pickle.dumps(value, protocol=4)
            )
        except Exception as error:  # noqa: BLE001 - any error of the handler is the call's failure
            result = api_pb2.GenericResult(
                status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE,
                data=pickle.dumps(error, protocol=4),
                exception=repr(error),
            )
        finally:
            slots.release()
        dispatcher.put_output(
            container.task_id,
            api_pb2.FunctionPutOutputsItem(
                input_id=item.input_id,
                result=result,
                data_format=_PICKLE,
                retry_count=item.retry_count,
                input_started_at=began,
                output_created_at=self._context.clock.now(),
            ),
        )
