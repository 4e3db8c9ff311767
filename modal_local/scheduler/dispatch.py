"""Inputs to containers and outputs back: queues, retries, timeouts, cancellation."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from modal_proto import api_pb2

from modal_local.callbook import CallBook
from modal_local.context import Context
from modal_local.errors import FailedPreconditionError, NotFoundError
from modal_local.records import CallRecord, ContainerRecord, ContainerState, InputRecord, InputRequest, InputState
from modal_local.registry import Registry
from modal_local.scheduler.endings import EndWith, RunAgain, after_failure, cancelled_result, timeout_result
from modal_local.scheduler.pool import Pool

# A container that does not release a cancelled input within this time is killed.
CANCEL_GRACE_S = 5.0
_SUCCESS = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
_TERMINATED = api_pb2.GenericResult.GENERIC_STATUS_TERMINATED


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the dispatcher asks of the engine."""

    wake: Callable[[], None]
    kill: Callable[[ContainerRecord, str], None]
    ready: Callable[[Pool, ContainerRecord], None]
    handed: Callable[[ContainerRecord, InputRecord], None]


class Dispatcher:
    """Owns the pools and the containers by id.

    Args:
        context: what services share.
        registry: functions and their settings.
        book: calls and inputs.
        hooks: the engine's part.
    """

    def __init__(self, context: Context, registry: Registry, book: CallBook, hooks: Hooks) -> None:
        self._context = context
        self._registry = registry
        self._book = book
        self._hooks = hooks
        self.pools: dict[str, Pool] = {}
        self.containers: dict[str, ContainerRecord] = {}

    def pool(self, function_id: str) -> Pool:
        """The pool of a function, made when it is first needed. Raises NotFoundError."""
        found = self.pools.get(function_id)
        if found is None:
            function = self._registry.function(function_id)
            found = Pool(
                function_id=function_id,
                app_id=function.app_id,
                settings=self._registry.pool_settings(function),
                definition_id=self._registry.definition_id(function),
            )
            self.pools[function_id] = found
        return found

    def container(self, task_id: str | None) -> ContainerRecord:
        """A living container. Raises NotFoundError."""
        found = self.containers.get(task_id or "")
        if found is None:
            raise NotFoundError(f"Container {task_id!r} is not running here.")
        return found

    # Inputs in.

    def submit(self, record: InputRecord) -> None:
        """An input is ready to run."""
        pool = self.pool(record.call.function_id)
        record.state = InputState.PENDING
        pool.queue.append(record)
        self._pump(pool)

    def run_again(self, record: InputRecord, delay_s: float) -> None:
        """An input runs once more, after a delay; one without delay goes to the head of its queue."""
        if record.done:
            return
        record.task_id = ""
        record.call.wake()
        if delay_s > 0:
            record.state = InputState.WAITING
            asyncio.get_running_loop().call_later(delay_s, self._retry_due, record)
            return
        pool = self.pools.get(record.call.function_id)
        if pool is None:
            self._end(record, cancelled_result())
            return
        record.state = InputState.PENDING
        pool.queue.appendleft(record)
        self._pump(pool)

    def _retry_due(self, record: InputRecord) -> None:
        if record.state is InputState.WAITING:
            self.run_again(record, 0.0)

    # Containers ask.

    async def next_inputs(
        self, task_id: str, request: api_pb2.FunctionGetInputsRequest
    ) -> api_pb2.FunctionGetInputsResponse:
        """Answers a container's request for inputs: waits until there is one, or until it shall end."""
        container = self.container(task_id)
        pool = self.pools.get(container.function_id)
        if pool is None or container.state is ContainerState.DRAINING:
            return kill_switch()
        if container.state is not ContainerState.READY:
            self._hooks.ready(pool, container)
        waiter = InputRequest(
            asyncio.get_running_loop().create_future(), request.batch_max_size, request.batch_linger_ms / 1000
        )
        container.waiter = waiter
        pool.waiting[task_id] = container
        pool.rest(container, self._context.clock.steady())
        self._pump(pool)
        self._hooks.wake()
        try:
            return await waiter.answer
        finally:
            if container.waiter is waiter:
                container.waiter = None
                pool.waiting.pop(task_id, None)

    def dismiss(self, pool: Pool, container: ContainerRecord) -> None:
        """A container takes no new input; it ends as soon as it asks for one."""
        pool.retire(container, ContainerState.DRAINING)
        waiter, container.waiter = container.waiter, None
        if waiter is not None and not waiter.answer.done():
            waiter.answer.set_result(kill_switch())

    def _pump(self, pool: Pool) -> None:
        while pool.backlog and pool.waiting:
            task_id = next(reversed(pool.waiting))
            container = pool.waiting[task_id]
            waiter = container.waiter
            if waiter is None or waiter.answer.done():
                del pool.waiting[task_id]
                continue
            if self._lingers(pool, waiter):
                return
            del pool.waiting[task_id]
            container.waiter = None
            waiter.answer.set_result(self._hand_out(pool, container, max(1, waiter.batch_max_size)))
        if pool.backlog:
            self._hooks.wake()

    def _lingers(self, pool: Pool, waiter: InputRequest) -> bool:
        if waiter.batch_max_size <= 1 or pool.backlog >= waiter.batch_max_size:
            return False
        left = pool.queue[0].created_at + waiter.batch_linger_s - self._context.clock.now()
        if left <= 0:
            return False
        if not pool.linger_armed:
            pool.linger_armed = True
            asyncio.get_running_loop().call_later(left + 0.001, self._linger_over, pool)
        return True

    def _linger_over(self, pool: Pool) -> None:
        pool.linger_armed = False
        self._pump(pool)

    def _hand_out(self, pool: Pool, container: ContainerRecord, most: int) -> api_pb2.FunctionGetInputsResponse:
        response = api_pb2.FunctionGetInputsResponse()
        now = self._context.clock.now()
        while len(response.inputs) < most:
            record = pool.next_input()
            if record is None:
                break
            record.attempt += 1
            record.state = InputState.RUNNING
            record.task_id = container.task_id
            record.started_at = now
            pool.give(container, record)
            response.inputs.add(
                input_id=record.input_id,
                input=record.payload,
                function_call_id=record.call.call_id,
                function_call_invocation_type=record.call.invocation,
                retry_count=record.attempt,
                function_map_idx=record.index,
                attempt_token=record.input_id,
            )
            self._hooks.handed(container, record)
            record.timer = asyncio.get_running_loop().call_later(
                pool.settings.timeout_s, self._timed_out, pool, container, record, record.attempt
            )
        return response

    # Outputs.

    def put_output(self, task_id: str, item: api_pb2.FunctionPutOutputsItem) -> None:
        """A container reports an input's end. What is stale (cancelled, given to another) is dropped."""
        container = self.container(task_id)
        container.cancelling.discard(item.input_id)
        record = self._book.inputs.get(item.input_id)
        if record is None or record.task_id != task_id or record.attempt != item.retry_count:
            return
        pool = self.pool(container.function_id)
        if self._take(pool, container, item.input_id) is None or record.done:
            return
        container.inputs_done += 1
        pool.crashes = 0
        output = api_pb2.FunctionGetOutputsItem(
            result=item.result,
            data_format=item.data_format,
            task_id=task_id,
            input_started_at=item.input_started_at,
            output_created_at=item.output_created_at,
            retry_count=record.failures,
        )
        if item.result.status in (_SUCCESS, _TERMINATED):
            self._book.end(record, output)
        else:
            self._failed(record, output)

    def _take(self, pool: Pool, container: ContainerRecord, input_id: str) -> InputRecord | None:
        taken = pool.take(container, input_id, self._context.clock.steady())
        if not container.running:  # it is idle now, and the time of its window begins
            self._hooks.wake()
        return taken

    def _failed(self, record: InputRecord, output: api_pb2.FunctionGetOutputsItem) -> None:
        record.failures += 1
        function = self._registry.functions[record.call.function_id]
        policy = self._registry.definition(function).retry_policy
        match after_failure(policy, record.failures, output.result):
            case RunAgain(delay_s):
                self.run_again(record, delay_s)
            case EndWith():
                output.retry_count = record.failures - 1
                self._book.end(record, output)

    def _timed_out(self, pool: Pool, container: ContainerRecord, record: InputRecord, attempt: int) -> None:
        if record.state is not InputState.RUNNING or record.attempt != attempt:
            return
        self._take(pool, container, record.input_id)
        self._ask_to_cancel(container, record)
        output = api_pb2.FunctionGetOutputsItem(
            result=timeout_result(record.input_id, pool.settings.timeout_s),
            task_id=container.task_id,
            input_started_at=record.started_at,
            output_created_at=self._context.clock.now(),
        )
        self._failed(record, output)

    # Cancellation.

    def cancel_call(self, call: CallRecord, *, terminate_containers: bool) -> None:
        """Ends all inputs of a call, and of the calls that were made from them."""
        call.cancelled = True
        for record in list(call.inputs.values()):
            for child in self._book.children_of(record.input_id):
                if not child.cancelled:
                    self.cancel_call(child, terminate_containers=terminate_containers)
            self.cancel_input(record, terminate_container=terminate_containers)

    def cancel_input(self, record: InputRecord, *, terminate_container: bool = False) -> None:
        """Ends an input now; its container is told, or killed."""
        if record.done:
            return
        waited = record.state is InputState.PENDING
        container = self.containers.get(record.task_id) if record.state is InputState.RUNNING else None
        if container is not None:
            self._take(self.pools[container.function_id], container, record.input_id)
        self._end(record, cancelled_result())
        if waited and record.call.function_id in self.pools:
            self.pools[record.call.function_id].forget()
        if container is None:
            return
        if terminate_container:
            self._hooks.kill(container, "cancelled")
        else:
            self._ask_to_cancel(container, record)

    def _ask_to_cancel(self, container: ContainerRecord, record: InputRecord) -> None:
        container.cancels.append(record.input_id)
        container.cancelling.add(record.input_id)
        container.cancel_event.set()
        asyncio.get_running_loop().call_later(CANCEL_GRACE_S, self._grace_over, container, record.input_id)

    def _grace_over(self, container: ContainerRecord, input_id: str) -> None:
        if not container.live or input_id not in container.cancelling:
            return
        if container.running:  # others work there; look again later
            asyncio.get_running_loop().call_later(CANCEL_GRACE_S, self._grace_over, container, input_id)
            return
        self._hooks.kill(container, "did not cancel")

    def _end(self, record: InputRecord, result: api_pb2.GenericResult) -> None:
        now = self._context.clock.now()
        self._book.end(
            record,
            api_pb2.FunctionGetOutputsItem(
                result=result,
                task_id=record.task_id,
                input_started_at=record.started_at,
                output_created_at=now,
                retry_count=record.failures,
            ),
        )

    def end_with(self, record: InputRecord, result: api_pb2.GenericResult) -> None:
        """Ends an input with a result of the server's own."""
        self._end(record, result)

    def check_open(self, function_id: str) -> None:
        """Raises NotFoundError for a function that is gone, FailedPreconditionError for one that cannot be called."""
        function = self._registry.function(function_id)
        if self._registry.base(function).published is None:
            raise FailedPreconditionError(f"Function {function.tag!r} is not published yet.")


def kill_switch() -> api_pb2.FunctionGetInputsResponse:
    """The answer that makes a container end in good order."""
    return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])
