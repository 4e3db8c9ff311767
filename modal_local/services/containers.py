"""What containers ask and report, and what clients ask about containers."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import asyncio
import contextlib
import json
from collections.abc import Callable

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.errors import NotFoundError, PermissionDeniedError
from modal_local.records import ContainerRecord
from modal_local.registry import Registry
from modal_local.rpc import Caller
from modal_local.scheduler.engine import Scheduler

# The SDK gives up on a heartbeat 0.1 s after its interval, and sends the next one an interval after the last.
_HEARTBEAT_POLL_SHARE = 0.9
LIFETIMES = "containers"
# How the reasons begin for which a container is ended without a failure of its own.
_WISHED = (
    "scaledown",
    "redeploy",
    "app stopped",
    "made room",
    "cancelled",
    "preempted",
    "server",
    "stopped by",
)


class ContainerService:
    """Serves the RPCs of containers.

    Args:
        context: what services share.
        registry: apps.
        scheduler: containers and their inputs.
        restore: lets a container go on that has been told to snapshot itself.
    """

    def __init__(
        self,
        context: Context,
        registry: Registry,
        scheduler: Scheduler,
        restore: Callable[[ContainerRecord], None],
    ) -> None:
        self._restore = restore
        self._context = context
        self._registry = registry
        self._scheduler = scheduler

    def _container(self, caller: Caller) -> ContainerRecord:
        if caller.kind != "container":
            raise PermissionDeniedError("Only containers may ask this.")
        return self._scheduler.dispatcher.container(caller.task_id)

    async def ContainerHello(self, request: Empty, caller: Caller) -> Empty:
        """A container's entrypoint has begun."""
        self._container(caller)
        return Empty()

    async def ContainerHeartbeat(
        self, request: api_pb2.ContainerHeartbeatRequest, caller: Caller
    ) -> api_pb2.ContainerHeartbeatResponse:
        """A long poll that tells which inputs to cancel."""
        container = self._container(caller)
        container.last_heartbeat = self._context.clock.steady()
        if not container.cancels:
            container.cancel_event.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._context.settings.heartbeat_interval_s * _HEARTBEAT_POLL_SHARE):
                    await container.cancel_event.wait()
        response = api_pb2.ContainerHeartbeatResponse()
        if container.cancels:
            response.cancel_input_event.input_ids.extend(container.cancels)
            container.cancels.clear()
        return response

    async def FunctionGetInputs(
        self, request: api_pb2.FunctionGetInputsRequest, caller: Caller
    ) -> api_pb2.FunctionGetInputsResponse:
        """A container asks for work."""
        container = self._container(caller)
        return await self._scheduler.dispatcher.next_inputs(container.task_id, request)

    async def FunctionPutOutputs(self, request: api_pb2.FunctionPutOutputsRequest, caller: Caller) -> Empty:
        """A container reports results."""
        container = self._container(caller)
        for item in request.outputs:
            self._scheduler.dispatcher.put_output(container.task_id, item)
        return Empty()

    async def TaskResult(self, request: api_pb2.TaskResultRequest, caller: Caller) -> Empty:
        """A container's import or @enter failed."""
        self._scheduler.report_failure(self._container(caller), request.result)
        return Empty()

    async def ContainerCheckpoint(self, request: api_pb2.ContainerCheckpointRequest, caller: Caller) -> Empty:
        """A container is ready to be frozen; it continues at once."""
        self._restore(self._container(caller))
        return Empty()

    async def FunctionGetDynamicConcurrency(
        self, request: api_pb2.FunctionGetDynamicConcurrencyRequest, caller: Caller
    ) -> api_pb2.FunctionGetDynamicConcurrencyResponse:
        """How many inputs a container may take: its maximum while there is a backlog, else the target."""
        container = self._container(caller)
        pool = self._scheduler.dispatcher.pool(container.function_id)
        value = request.max_concurrency if pool.backlog else request.target_concurrency
        return api_pb2.FunctionGetDynamicConcurrencyResponse(concurrency=value)

    async def TaskList(self, request: api_pb2.TaskListRequest, caller: Caller) -> api_pb2.TaskListResponse:
        """The living containers of an environment."""
        environment = self._context.environment(request.environment_name)
        response = api_pb2.TaskListResponse()
        for container in self._scheduler.containers.values():
            app = self._registry.app(container.app_id)
            if app.environment != environment or (request.app_id and request.app_id != app.app_id):
                continue
            response.tasks.add(
                task_id=container.task_id,
                app_id=app.app_id,
                app_description=app.name or app.description,
                started_at=container.started_at,
                enqueued_at=container.created_at,
            )
        return response

    async def TaskGetInfo(self, request: api_pb2.TaskGetInfoRequest, caller: Caller) -> api_pb2.TaskGetInfoResponse:
        """When a container lived, and on what."""
        kept = self._context.store.get(LIFETIMES, request.task_id)
        if kept is None:
            raise NotFoundError(f"Container {request.task_id!r} not found.")
        entry = json.loads(kept)
        return api_pb2.TaskGetInfoResponse(
            app_id=entry["app_id"],
            info=api_pb2.TaskInfo(
                id=request.task_id,
                enqueued_at=entry["started_at"],
                started_at=entry["started_at"],
                finished_at=entry["ended_at"] or 0.0,
                gpu_type=entry["gpu_type"],
            ),
        )

    async def ContainerStop(
        self, request: api_pb2.ContainerStopRequest, caller: Caller
    ) -> api_pb2.ContainerStopResponse:
        """Ends a container: it finishes its inputs if asked gracefully, else they run again elsewhere."""
        container = self._scheduler.dispatcher.container(request.task_id)
        if request.graceful:
            pool = self._scheduler.dispatcher.pool(container.function_id)
            self._scheduler.drain(pool, container, "stopped by request")
        else:
            self._scheduler.interrupt(container)
        return api_pb2.ContainerStopResponse()


class Lifetimes:
    """Keeps when each container lived and what it occupied: the basis of every bill. Implements ContainerLog."""

    def __init__(self, context: Context, registry: Registry) -> None:
        self._context = context
        self._registry = registry
        for key, value in list(context.store.items(LIFETIMES)):
            entry = json.loads(value)
            if entry["ended_at"] is None:  # the server died; its containers died with it
                entry["ended_at"] = entry["started_at"] if entry["seen_at"] is None else entry["seen_at"]
                context.store.put(LIFETIMES, key, json.dumps(entry).encode())

    def started(self, container: ContainerRecord) -> None:
        """A container has begun to cost."""
        self._keep(container)

    def ready(self, container: ContainerRecord) -> None:
        """It has asked for its first input."""
        self._keep(container)

    def ended(self, container: ContainerRecord) -> None:
        """It costs no more."""
        self._keep(container)

    def seen(self, container: ContainerRecord) -> None:
        """It still lives; should the server die, this is when it was last known to."""
        self._keep(container)

    def _keep(self, container: ContainerRecord) -> None:
        function = self._registry.functions[container.function_id]
        settings = container.settings
        entry = {
            "task_id": container.task_id,
            "app_id": container.app_id,
            "function_id": container.function_id,
            "function_tag": function.tag,
            "gpu_type": settings.gpu_type,
            "gpu_count": settings.gpu_count,
            "cpu_cores": settings.cpu_cores,
            "memory_mib": settings.memory_mib,
            "started_at": container.created_at,
            "ready_at": container.ready_at or None,
            "ended_at": container.ended_at or None,
            "failed": _failed(container),
            "seen_at": self._context.clock.now(),
            "region": settings.region,
            "nonpreemptible": settings.nonpreemptible,
            "environment": self._registry.app(container.app_id).environment,
            "end_reason": container.end_reason,
            "exit_code": container.exit_code,
            "inputs_done": container.inputs_done,
        }
        self._context.store.put(LIFETIMES, container.task_id, json.dumps(entry).encode())


def _failed(container: ContainerRecord) -> bool:
    """Whether it has ended in a way that nobody wished for."""
    if not container.ended_at or container.end_reason.startswith(_WISHED):
        return False
    return container.failure is not None or container.exit_code != 0
