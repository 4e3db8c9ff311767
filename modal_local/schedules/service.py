"""Calls functions when their schedules are due."""

import asyncio
import contextlib
import math
from dataclasses import dataclass
from typing import Protocol

from modal_proto import api_pb2

from modal_local.callbook import CallBook
from modal_local.context import Context
from modal_local.records import AppRecord, FunctionRecord, InputRecord
from modal_local.registry import Registry
from modal_local.schedules.times import ScheduleError, next_due

# The wall clock may be set by others than us; nothing is late for longer than this.
_LONGEST_SLEEP_S = 5.0


class Submit(Protocol):
    """What it asks of the scheduler's dispatcher."""

    def submit(self, record: InputRecord) -> None:
        """An input is ready to run."""


@dataclass(slots=True)
class _Entry:
    anchor: float
    due_at: float


class ScheduleService:
    """Runs what has a schedule, for apps that are deployed and for those that run now.

    A time that is missed, because the server was down or the clock was moved, is made up for once, however many
    were missed while the server was up, and not at all while it was down.

    Args:
        context: what services share; its `clock.now()` is the time.
        registry: apps and functions.
        book: calls.
        dispatcher: where inputs go.
    """

    def __init__(self, context: Context, registry: Registry, book: CallBook, dispatcher: Submit) -> None:
        self._context = context
        self._registry = registry
        self._book = book
        self._dispatcher = dispatcher
        self._entries: dict[str, _Entry] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends. May be called twice."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def reconsider(self) -> None:
        """Apps have changed, or the clock has been moved."""
        self._wake.set()

    def upcoming(self) -> list[tuple[FunctionRecord, float]]:
        """The functions that have a schedule, and when each is due next, the earliest first."""
        functions = self._registry.functions
        return sorted(((functions[key], one.due_at) for key, one in self._entries.items()), key=lambda pair: pair[1])

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                pause_s = self._look()
            except Exception:
                self._context.logger.exception("schedules.look_failed")
                pause_s = 1.0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    def _look(self) -> float:
        now = self._context.clock.now()
        self._entries = {key: entry for key, entry in self._current(now).items() if math.isfinite(entry.due_at)}
        for function_id, entry in self._entries.items():
            if entry.due_at <= now:
                function = self._registry.functions[function_id]
                self._call(function, entry.due_at)
                entry.due_at = self._next(function, entry.anchor, now)
        return min([max(0.0, entry.due_at - now) for entry in self._entries.values()] + [_LONGEST_SLEEP_S])

    def _current(self, now: float) -> dict[str, _Entry]:
        found: dict[str, _Entry] = {}
        for app in self._registry.apps.values():
            if not app.live:
                continue
            anchor = _anchor(app)
            for function_id in app.function_ids.values():
                function = self._registry.functions[function_id]
                if function.published is None or not function.published.HasField("schedule"):
                    continue
                kept = self._entries.get(function_id)
                if kept is not None and kept.anchor == anchor:
                    found[function_id] = kept
                else:
                    found[function_id] = _Entry(anchor, self._next(function, anchor, max(now, anchor)))
        return found

    def _next(self, function: FunctionRecord, anchor: float, after: float) -> float:
        definition = self._registry.definition(function)
        try:
            return next_due(definition.schedule, anchor, after)
        except ScheduleError as error:  # refused at FunctionCreate; kept from an older version perhaps
            self._context.logger.warning("schedule.refused", function=function.tag, error=str(error))
            return math.inf

    def _call(self, function: FunctionRecord, due_at: float) -> None:
        asked = api_pb2.FunctionMapRequest(
            function_id=function.function_id,
            function_call_type=api_pb2.FUNCTION_CALL_TYPE_UNARY,
            function_call_invocation_type=api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC,
        )
        call = self._book.open_call(function.function_id, function.app_id, asked, "")
        record = self._book.add_input(call, 0, api_pb2.FunctionInput(data_format=api_pb2.DATA_FORMAT_PICKLE))
        self._book.close_call(call, 1)
        self._dispatcher.submit(record)
        self._context.logger.info("schedule.called", function=function.tag, call_id=call.call_id, due_at=due_at)


def _anchor(app: AppRecord) -> float:
    """When its periods begin: with each deployment anew, as on Modal."""
    return app.deployed_at or app.created_at
