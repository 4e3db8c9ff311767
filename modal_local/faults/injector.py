"""The faults in force: between RPCs and services, and at the containers."""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from grpclib.const import Status
from modal_proto import api_pb2

from modal_local.callbook import CallBook
from modal_local.context import Context
from modal_local.errors import (
    InternalError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    RpcError,
    UnavailableError,
)
from modal_local.faults.model import ONE_SHOT, ActiveFault, Fault, Kind
from modal_local.faults.results import injected_result
from modal_local.records import ContainerRecord, ContainerState, InputRecord
from modal_local.registry import Registry
from modal_local.rpc import Caller
from modal_local.scheduler.engine import Scheduler
from modal_local.settings import CRASH_POLICIES, CrashPolicy, canonical_gpu

_CALL_MAKING = ("FunctionMap", "FunctionPutInputs")


@dataclass(frozen=True, slots=True)
class Reach:
    """What faults act on outside of RPCs."""

    stop: Callable[[ContainerRecord], None]
    disconnect: Callable[[], None]
    set_stream_limit: Callable[[int | None], None]


class FaultInjector:
    """Holds the faults. Implements rpc.Interceptor.

    Args:
        context: what services share.
        seed: for jitter and choices.
    """

    def __init__(self, context: Context, seed: int) -> None:
        self._context = context
        self._random = random.Random(seed)
        self._active: dict[str, ActiveFault] = {}
        self.history: list[tuple[float, str, Fault]] = []
        self._scheduler: Scheduler | None = None
        self._book: CallBook | None = None
        self._registry: Registry | None = None
        self._reach: Reach | None = None

    def attach(self, scheduler: Scheduler, book: CallBook, registry: Registry, reach: Reach) -> None:
        """Gives it what it acts on; before the first fault."""
        self._scheduler, self._book, self._registry, self._reach = scheduler, book, registry, reach
        scheduler.on_handed = self._handed
        scheduler.crash_policy = self.crash_policy

    # In and out of force.

    def inject(self, fault: Fault) -> ActiveFault:
        """Puts a fault in force, or applies a one-shot fault.

        Raises:
            NotFoundError: a one-shot fault has no target.
        """
        now = self._context.clock.steady()
        ends_at = None if fault.for_s is None else now + fault.for_s
        active = ActiveFault(self._context.ids.new("ft"), fault, ends_at, fault.count, tokens=fault.burst)
        active.tokens_at = now
        if fault.kind in ONE_SHOT:
            self._strike_now(active)
        else:
            self._active[active.fault_id] = active
            self._begin(active)
        self.history.append((self._context.clock.now(), active.fault_id, fault))
        self._context.logger.info("fault.injected", fault_id=active.fault_id, kind=fault.kind)
        return active

    def active(self) -> list[ActiveFault]:
        """The faults in force now."""
        self._sweep()
        return list(self._active.values())

    def clear(self, fault_id: str | None = None) -> int:
        """Ends one fault, or all. Returns how many."""
        ids = [fault_id] if fault_id else list(self._active)
        ended = [self._active.pop(one) for one in ids if one in self._active]
        for one in ended:
            self._end(one)
        return len(ended)

    def _sweep(self) -> None:
        now = self._context.clock.steady()
        for fault_id in [one.fault_id for one in self._active.values() if one.over(now)]:
            self._end(self._active.pop(fault_id))

    def _in_force(self, *kinds: Kind) -> Iterable[ActiveFault]:
        if not self._active:
            return ()
        self._sweep()
        return [one for one in self._active.values() if one.fault.kind in kinds]

    def _begin(self, active: ActiveFault) -> None:
        fault = active.fault
        if fault.kind == "gpu_exhausted":
            self._need(self._scheduler).exhaust_gpu(canonical_gpu(fault.gpu), exhausted=True)
        elif fault.kind == "clock_skew":
            self._context.clock.skew_s += fault.seconds
        elif fault.kind == "stream_limit":
            self._need(self._reach).set_stream_limit(fault.limit)
        if fault.for_s is not None:
            asyncio.get_running_loop().call_later(fault.for_s, self._sweep)

    def _end(self, active: ActiveFault) -> None:
        fault = active.fault
        if fault.kind == "gpu_exhausted":
            self._need(self._scheduler).exhaust_gpu(canonical_gpu(fault.gpu), exhausted=False)
        elif fault.kind == "clock_skew":
            self._context.clock.skew_s -= fault.seconds
        elif fault.kind == "stream_limit":
            self._need(self._reach).set_stream_limit(None)

    # At once.

    def _strike_now(self, active: ActiveFault) -> None:
        fault = active.fault
        if fault.kind == "expire_results":
            self._expire(fault)
        elif fault.kind == "disconnect":
            self._need(self._reach).disconnect()
        else:
            for container in self._targets(fault):
                self._strike_container(fault, container)
        active.strike()

    def _strike_container(self, fault: Fault, container: ContainerRecord) -> None:
        scheduler = self._need(self._scheduler)
        match fault.kind:
            case "kill" | "oom":
                container.end_reason = "killed" if fault.kind == "kill" else "out of memory"
                scheduler.kill(container, container.end_reason)
            case "preempt":
                scheduler.interrupt(container)
            case "hang":
                self._need(self._reach).stop(container)
            case _:
                raise NotFoundError(f"{fault.kind}: expected a container to apply it to, found none.")

    def _targets(self, fault: Fault) -> list[ContainerRecord]:
        living = [c for c in self._need(self._scheduler).containers.values() if c.state is not ContainerState.DELAYED]
        fitting = [c for c in living if self._fits(fault, c)]
        busy = [c for c in fitting if c.running] or fitting
        if not busy:
            raise NotFoundError(f"{fault.kind}: no container fits; there are {len(living)} in all.")
        return self._random.sample(busy, min(fault.count or 1, len(busy)))

    def _fits(self, fault: Fault, container: ContainerRecord) -> bool:
        if fault.task_id and container.task_id != fault.task_id:
            return False
        function = self._need(self._registry).functions[container.function_id]
        return fault.function in ("", function.tag)

    def _expire(self, fault: Fault) -> None:
        book = self._need(self._book)
        calls = [book.call(fault.call_id)] if fault.call_id else list(book.calls.values())
        for call in calls:
            book.expire(call)

    # While in force.

    async def before(self, method: str, caller: Caller) -> None:
        """Waits or fails an RPC."""
        for active in self._in_force(
            "latency", "unavailable", "internal", "permission_denied", "status", "resource_exhausted", "rate_limit"
        ):
            if not _hits(active.fault, method, caller):
                continue
            fault = active.fault
            match fault.kind:
                case "latency":
                    active.strike()
                    await asyncio.sleep(fault.seconds + self._random.random() * fault.jitter_s)
                case "unavailable":
                    active.strike()
                    raise UnavailableError("injected: the server is unavailable")
                case "internal":
                    active.strike()
                    raise InternalError("injected: an internal error")
                case "permission_denied":
                    active.strike()
                    raise PermissionDeniedError("injected: permission denied")
                case "status":
                    active.strike()
                    raise RpcError(f"injected: {fault.status}", status=Status[fault.status])
                case "resource_exhausted":
                    active.strike()
                    raise ResourceExhaustedError("injected: over a limit", retry_after_s=fault.retry_after_s)
                case "rate_limit":
                    self._limit(active)
                case _:
                    continue

    def _limit(self, active: ActiveFault) -> None:
        fault, now = active.fault, self._context.clock.steady()
        active.tokens = min(fault.burst, active.tokens + max(0.0, now - active.tokens_at) * fault.per_s)
        active.tokens_at = now
        if active.tokens < 1:
            active.strike()
            raise ResourceExhaustedError(
                f"Rate limit of {fault.per_s:g} calls per second reached.", retry_after_s=fault.retry_after_s
            )
        active.tokens -= 1

    async def after(self, method: str, caller: Caller) -> None:
        """Loses an answer: what was done stays done."""
        for active in self._in_force("lost_answer"):
            if _hits(active.fault, method, caller):
                active.strike()
                raise UnavailableError("injected: the answer was lost")

    def start_fault(self, container: ContainerRecord) -> Fault | None:
        """The fault that applies to this start, if any."""
        for active in self._in_force("enter_failure", "start_failure"):
            if self._fits(active.fault, container):
                active.strike()
                return active.fault
        return None

    def extra_cold_start_s(self) -> float:
        """What faults add to a cold start."""
        return sum(active.fault.seconds for active in self._in_force("cold_start"))

    def _handed(self, container: ContainerRecord, record: InputRecord) -> None:
        for active in self._in_force("crash_on_input", "result"):
            if self._fits(active.fault, container):
                active.strike()
                if active.fault.kind == "result":
                    asyncio.get_running_loop().call_soon(self._answer_for, container, record, active.fault)
                    return
                # Before the input can reach the code: however short it is, it does not end well.
                asyncio.get_running_loop().call_soon(self._crash, container)
                return

    def _answer_for(self, container: ContainerRecord, record: InputRecord, fault: Fault) -> None:
        """In the container's place; what it says itself later on is dropped, as all that is stale."""
        item = api_pb2.FunctionPutOutputsItem(
            input_id=record.input_id,
            result=injected_result(fault.status, fault.exception, fault.message),
            data_format=api_pb2.DATA_FORMAT_PICKLE,
            retry_count=record.attempt,
            input_started_at=record.started_at,
            output_created_at=self._context.clock.now(),
        )
        if container.live:
            self._need(self._scheduler).dispatcher.put_output(container.task_id, item)

    def _crash(self, container: ContainerRecord) -> None:
        self._need(self._scheduler).kill(container, "crashed")

    def crash_policy(self) -> tuple[CrashPolicy, int]:
        """What becomes of an input whose container died, and how many deaths are forgiven."""
        settings = self._context.settings
        for active in self._in_force("crash_policy"):
            for policy in CRASH_POLICIES:
                if policy == active.fault.policy:
                    return policy, active.fault.limit
        return settings.crash_policy, settings.crash_limit

    @staticmethod
    def _need(part: Any) -> Any:
        if part is None:
            raise RuntimeError("The injector is not attached to a server yet.")
        return part


def _hits(fault: Fault, method: str, caller: Caller) -> bool:
    if fault.methods:
        return method in fault.methods
    if fault.kind == "rate_limit":
        return method in _CALL_MAKING
    return caller.kind == "client"
