"""The scheduler: starts and stops containers as decided, and sees to it that a dead one's inputs run again."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from modal_proto import api_pb2

from modal_local.callbook import CallBook
from modal_local.context import Context
from modal_local.errors import ModalLocalError
from modal_local.records import ContainerRecord, ContainerState, InputRecord
from modal_local.registry import Registry
from modal_local.scheduler.autoscale import plan
from modal_local.scheduler.deaths import Deaths
from modal_local.scheduler.dispatch import Dispatcher, Hooks, kill_switch
from modal_local.scheduler.endings import cancelled_result
from modal_local.scheduler.parents import Parents
from modal_local.scheduler.placement import StartRequest, allot, evict
from modal_local.scheduler.pool import Pool
from modal_local.scheduler.room import RoomKeeper
from modal_local.settings import CrashPolicy

# A container that was told to end may take this long (its @exit hooks run), then it is killed.
EXIT_GRACE_S = 30.0
_LONGEST_SLEEP_S = 5.0
# What happens within this time is looked at once: hundreds of spawns in a second need no hundreds of looks.
_GATHER_S = 0.005


class Launcher(Protocol):
    """Starts and ends what runs as a container: processes, or simulated ones."""

    async def launch(self, container: ContainerRecord, ended: "Callable[[ContainerRecord, int | None], None]") -> None:
        """Starts it; `ended` is called once, when it is gone, with its exit code."""

    def kill(self, container: ContainerRecord) -> None:
        """Ends it at once."""

    def interrupt(self, container: ContainerRecord) -> None:
        """Preempts it: SIGINT."""


class ContainerLog(Protocol):
    """Keeps the lifetimes of containers, which is what is billed."""

    def started(self, container: ContainerRecord) -> None:
        """A container has begun to cost."""

    def ready(self, container: ContainerRecord) -> None:
        """It has asked for its first input."""

    def ended(self, container: ContainerRecord) -> None:
        """It costs no more."""


class Scheduler:
    """Runs the pools.

    Args:
        context: what services share.
        registry: functions and their settings.
        book: calls and inputs.
        launcher: starts containers.
        container_log: keeps their lifetimes.
        cold_start: draws the seconds that a start is held back, given the pool's number of earlier starts.
    """

    def __init__(
        self,
        context: Context,
        registry: Registry,
        book: CallBook,
        launcher: Launcher,
        container_log: ContainerLog,
        cold_start: Callable[[bool, int], float],
    ) -> None:
        self._context = context
        self._registry = registry
        self._book = book
        self._launcher = launcher
        self._log = container_log
        self._cold_start = cold_start
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._starting: set[asyncio.Task[None]] = set()
        self._room = RoomKeeper(context.settings)
        self._parents = Parents(book)
        self._stopping = False
        self.on_launch_failed: Callable[[ContainerRecord, str], None] = _nobody_listens
        self.on_handed: Callable[[ContainerRecord, InputRecord], None] = _nothing
        self.crash_policy: Callable[[], tuple[CrashPolicy, int]] = self._settled_policy
        self.dispatcher = Dispatcher(
            context, registry, book, Hooks(wake=self._wake.set, kill=self.kill, ready=self._ready, handed=self._handed)
        )
        self._deaths = Deaths(context, self.dispatcher, lambda: self.crash_policy())  # noqa: PLW0108 - faults change it

    def _settled_policy(self) -> tuple[CrashPolicy, int]:
        return self._context.settings.crash_policy, self._context.settings.crash_limit

    def _handed(self, container: ContainerRecord, record: InputRecord) -> None:
        self.on_handed(container, record)

    @property
    def containers(self) -> dict[str, ContainerRecord]:
        """The living containers by id."""
        return self.dispatcher.containers

    async def start(self) -> None:
        """Takes up what was left by an earlier run, and begins."""
        for record in list(self._book.unfinished()):
            function = self._registry.functions.get(record.call.function_id)
            if function is None or not self._registry.app(function.app_id).live:
                self.dispatcher.end_with(record, cancelled_result())
            else:
                self.dispatcher.submit(record)
        for app in self._registry.apps.values():
            if app.live:
                self._open_pools(app.app_id)
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Kills every container. May be called twice. What they had in hand is not begun again."""
        self._stopping = True
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
            self._loop = None
        for container in list(self.containers.values()):
            container.end_reason = container.end_reason or "server stopped"
            self._launcher.kill(container)
        for task in list(self._starting):
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)

    async def _run(self) -> None:
        pause = _LONGEST_SLEEP_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            await asyncio.sleep(_GATHER_S)
            self._wake.clear()
            try:
                pause = self._tick()
            except Exception:
                self._context.logger.exception("scheduler.tick_failed")
                pause = 1.0

    def _tick(self) -> float:
        now = self._context.clock.steady()
        requests: list[StartRequest] = []
        pause = _LONGEST_SLEEP_S
        for pool in list(self.dispatcher.pools.values()):
            decided = plan(pool.view(now))
            if decided.check_again_s is not None:
                pause = min(pause, decided.check_again_s)
            for task_id in decided.stop:
                self.drain(pool, pool.containers[task_id], "scaledown")
            if decided.start:
                waiting_since = pool.queue[0].created_at if pool.queue else self._context.clock.now()
                requests.append(
                    StartRequest(
                        pool.function_id,
                        decided.start,
                        waiting_since,
                        pool.settings.gpu_type,
                        pool.settings.gpu_count,
                        awaited=self._parents.await_one_of(pool),
                    )
                )
        if requests:
            pause = min(pause, self._place(requests, now))
        return max(0.005, pause)

    def _place(self, requests: list[StartRequest], now: float) -> float:
        awaited = any(request.awaited for request in requests)
        beyond = self._parents.waiting(self.containers.values()) if awaited else 0
        allotment = allot(requests, self._room.room(now, {request.gpu_type for request in requests}, beyond))
        for pool_id in allotment.starts:
            self._begin(self.dispatcher.pools[pool_id])
        if allotment.short_of_containers:
            self._make_room(requests)
        if allotment.short_of_starts:
            return self._room.next_start_s()
        return _LONGEST_SLEEP_S

    def _make_room(self, requests: list[StartRequest]) -> None:
        idle = [
            (task_id, pool.function_id, container.idle_since)
            for pool in self.dispatcher.pools.values()
            if len(pool.containers) > pool.settings.min_containers
            for task_id, container in pool.idle.items()
        ]
        asking = frozenset(request.pool_id for request in requests)
        leaving = sum(1 for one in self.containers.values() if one.state is ContainerState.DRAINING)
        for task_id in evict(idle, asking, max(0, len(asking) - leaving)):
            container = self.containers[task_id]
            self.drain(self.dispatcher.pools[container.function_id], container, "made room")

    # Containers.

    def _begin(self, pool: Pool) -> None:
        now = self._context.clock.now()
        container = ContainerRecord(
            task_id=self._context.ids.new("ta"),
            function_id=pool.function_id,
            app_id=pool.app_id,
            definition_id=pool.definition_id,
            settings=pool.settings,
            created_at=now,
        )
        delay = self._cold_start(pool.settings.snapshots, pool.starts)
        pool.add(container)
        self.containers[container.task_id] = container
        self._room.occupy(container)
        container.last_heartbeat = self._context.clock.steady()
        self._log.started(container)
        task = asyncio.create_task(self._start_container(container, delay))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_container(self, container: ContainerRecord, delay: float) -> None:
        if delay > 0:
            container.state = ContainerState.DELAYED
            await asyncio.sleep(delay)
            if container.state is not ContainerState.DELAYED:
                self._ended(container, None)
                return
            container.state = ContainerState.STARTING
        try:
            container.started_at = self._context.clock.now()
            await self._launcher.launch(container, self._ended)
        except ModalLocalError as error:
            self._context.logger.warning("container.launch_failed", container_id=container.task_id, error=str(error))
            self._launch_failed(container, str(error))
            return
        except Exception as error:
            self._context.logger.exception("container.launch_failed", container_id=container.task_id)
            self._launch_failed(container, f"{type(error).__name__}: {error}")
            return
        asyncio.get_running_loop().call_later(container.settings.startup_timeout_s, self._startup_over, container)

    def _launch_failed(self, container: ContainerRecord, why: str) -> None:
        """It is told where the deployer looks, and counts as any failed start: what waits is ended after a few."""
        self.on_launch_failed(container, f"Container could not be started: {why}\n")
        container.failure = api_pb2.GenericResult(
            status=api_pb2.GenericResult.GENERIC_STATUS_INIT_FAILURE,
            exception=f"Container could not be started: {why}",
        )
        self._ended(container, None)

    def _startup_over(self, container: ContainerRecord) -> None:
        if container.state is ContainerState.STARTING:
            self.kill(container, "startup timeout")

    def _ready(self, pool: Pool, container: ContainerRecord) -> None:
        container.state = ContainerState.READY
        container.ready_at = self._context.clock.now()
        pool.init_failures = 0
        self._log.ready(container)

    def drain(self, pool: Pool, container: ContainerRecord, reason: str) -> None:
        """A container finishes what it has and ends; if it takes too long after that, it is killed."""
        if not container.live or container.state is ContainerState.DRAINING:
            return
        container.end_reason = container.end_reason or reason
        never_started = container.state is ContainerState.DELAYED
        self.dispatcher.dismiss(pool, container)
        if not never_started:
            self._watch_exit(container)

    def _watch_exit(self, container: ContainerRecord) -> None:
        asyncio.get_running_loop().call_later(EXIT_GRACE_S, self._exit_over, container)

    def _exit_over(self, container: ContainerRecord) -> None:
        if not container.live:
            return
        if container.running:
            self._watch_exit(container)
            return
        self.kill(container, "did not exit")

    def kill(self, container: ContainerRecord, reason: str) -> None:
        """Ends a container at once; what it had in hand runs again."""
        container.end_reason = container.end_reason or reason
        if container.state is ContainerState.DELAYED:
            container.state = ContainerState.DRAINING
            return
        self._launcher.kill(container)

    def interrupt(self, container: ContainerRecord) -> None:
        """Preempts a container."""
        container.end_reason = container.end_reason or "preempted"
        self._launcher.interrupt(container)

    def report_failure(self, container: ContainerRecord, result: api_pb2.GenericResult) -> None:
        """A container says that its import or @enter failed; it exits with code 0 after that."""
        container.failure = result

    def _ended(self, container: ContainerRecord, exit_code: int | None) -> None:
        if not container.live:
            return
        container.ended_at = self._context.clock.now()
        container.exit_code = exit_code
        self.containers.pop(container.task_id, None)
        self._room.release(container)
        self._log.ended(container)
        pool = self.dispatcher.pools.get(container.function_id)
        if pool is None or self._stopping:
            container.state = ContainerState.ENDED
            return
        now = self._context.clock.steady()
        lost = [record for input_id in list(container.running) if (record := pool.take(container, input_id, now))]
        waiter, container.waiter = container.waiter, None
        if waiter is not None and not waiter.answer.done():
            waiter.answer.set_result(kill_switch())
        pool.remove(container)
        self._deaths.died(pool, container, lost)
        self._wake.set()

    # What apps do to pools.

    def _open_pools(self, app_id: str) -> None:
        for function in self._registry.functions_of(app_id):
            published = self._registry.base(function).published is not None
            if published and self._registry.pool_settings(function).min_containers:
                self.dispatcher.pool(function.function_id)
        self._wake.set()

    def published(self, app_id: str) -> None:
        """New definitions hold: pools take them over, containers of the old ones finish and end."""
        for pool in self.dispatcher.pools.values():
            if pool.app_id == app_id:
                self._refresh(pool)
        self._open_pools(app_id)

    def reconsider(self, function_id: str) -> None:
        """A function's limits have changed."""
        if function_id in self.dispatcher.pools:
            self._refresh(self.dispatcher.pools[function_id])
        else:
            self._open_pools(self._registry.functions[function_id].app_id)
        self._wake.set()

    def _refresh(self, pool: Pool) -> None:
        function = self._registry.functions[pool.function_id]
        pool.settings = self._registry.pool_settings(function)
        current = self._registry.definition_id(function)
        if current == pool.definition_id:
            return
        pool.definition_id = current
        pool.init_failures = pool.crashes = 0
        pool.blocked_until = 0.0
        for container in list(pool.containers.values()):
            self.drain(pool, container, "redeploy")

    def app_stopped(self, app_id: str) -> None:
        """Ends all inputs of an app and all its containers."""
        for record in [r for r in self._book.unfinished() if r.call.app_id == app_id]:
            self.dispatcher.cancel_input(record)
        for pool in [pool for pool in self.dispatcher.pools.values() if pool.app_id == app_id]:
            for container in list(pool.containers.values()):
                self.drain(pool, container, "app stopped")
            pool.queue.clear()
            pool.cancelled = 0
            pool.settings = type(pool.settings)()

    def stats(self, function_id: str) -> api_pb2.FunctionStats:
        """Backlog, containers and running inputs of a pool."""
        pool = self.dispatcher.pool(function_id)
        room = pool.active * pool.settings.inputs_per_container - pool.running
        return api_pb2.FunctionStats(
            backlog=pool.backlog,
            num_total_tasks=len(pool.containers),
            num_running_inputs=pool.running,
            input_headroom=max(0, room),
        )

    def exhaust_gpu(self, gpu_type: str, *, exhausted: bool) -> None:
        """Fault: no card of this type is to be had."""
        self._room.exhaust(gpu_type, exhausted=exhausted)
        self._wake.set()

    def running_containers(self, app_id: str) -> int:
        """How many containers an app has."""
        return sum(1 for container in self.containers.values() if container.app_id == app_id)


def _nothing(container: ContainerRecord, record: InputRecord) -> None:
    """No fault waits for inputs to be handed out."""


def _nobody_listens(container: ContainerRecord, why: str) -> None:
    """No log is kept."""
