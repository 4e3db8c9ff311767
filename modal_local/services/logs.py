"""Logs: what containers printed, streamed and fetched."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import math
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.logs import STDERR, LogBook, LogLine
from modal_local.registry import Registry
from modal_local.rpc import Caller

_Request = api_pb2.AppGetLogsRequest | api_pb2.AppFetchLogsRequest | api_pb2.AppCountLogsRequest


class LogService:
    """Serves AppGetLogs, AppFetchLogs and AppCountLogs."""

    def __init__(self, context: Context, registry: Registry, logs: LogBook) -> None:
        self._context = context
        self._registry = registry
        self._logs = logs

    async def AppGetLogs(
        self, request: api_pb2.AppGetLogsRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        """Lines as they come, until the timeout or the app's end."""
        app = self._registry.app(request.app_id)
        position = int(request.last_entry_id.partition("-")[0] or 0)
        wanted = self._wanted(request, request.file_descriptor)
        deadline = self._context.clock.now() + request.timeout
        while True:
            lines = self._logs.after(app.app_id, position)
            for line in lines:
                position = line.number
                if wanted.matches(line):
                    yield _batch([line])
            left = deadline - self._context.clock.now()
            if not app.live and not self._logs.after(app.app_id, position):
                yield api_pb2.TaskLogsBatch(app_done=True)
                return
            if left <= 0:
                return
            await self._logs.changed(min(left, 1.0))

    async def AppFetchLogs(self, request: api_pb2.AppFetchLogsRequest, caller: Caller) -> api_pb2.AppFetchLogsResponse:
        """The newest lines of a time range, in order."""
        lines = self._range(request)
        return api_pb2.AppFetchLogsResponse(
            batches=[_batch([line]) for line in lines[-(request.limit or len(lines)) :]]
        )

    async def AppCountLogs(self, request: api_pb2.AppCountLogsRequest, caller: Caller) -> api_pb2.AppCountLogsResponse:
        """How many lines there are, by time."""
        width = max(1, request.bucket_secs)
        counted: dict[int, list[int]] = {}
        for line in self._range(request):
            pair = counted.setdefault(int(line.at) // width * width, [0, 0])
            pair[line.descriptor == STDERR] += 1
        response = api_pb2.AppCountLogsResponse(app_id=request.app_id)
        for start, (stdout, stderr) in sorted(counted.items()):
            bucket = response.buckets.add(stdout_logs=stdout, stderr_logs=stderr)
            bucket.bucket_start_at.FromSeconds(start)
        return response

    def _wanted(self, request: _Request, descriptor: int) -> "_Wanted":
        asked = self._registry.functions.get(request.function_id)
        functions = frozenset({request.function_id} if request.function_id else ())
        if asked is not None and not asked.base_id:  # and all that are variants of it
            of_app = self._registry.functions_of(asked.app_id)
            functions |= {one.function_id for one in of_app if one.base_id == asked.function_id}
        return _Wanted(functions, request.function_call_id, request.task_id, descriptor, request.search_text)

    def _range(self, request: api_pb2.AppFetchLogsRequest | api_pb2.AppCountLogsRequest) -> list[LogLine]:
        app = self._registry.app(request.app_id)
        since = request.since.ToNanoseconds() / 1e9
        until = request.until.ToNanoseconds() / 1e9 if request.HasField("until") else math.inf
        wanted = self._wanted(request, request.source)
        return [line for line in self._logs.after(app.app_id, 0) if since <= line.at <= until and wanted.matches(line)]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which lines a client asks for; what is empty (or zero) does not matter."""

    functions: frozenset[str]
    call_id: str
    task_id: str
    descriptor: int
    text: str

    def matches(self, line: LogLine) -> bool:
        return (
            (not self.functions or line.function_id in self.functions)
            and (not self.call_id or self.call_id in line.calls)
            and self.task_id in ("", line.task_id)
            and self.descriptor in (0, line.descriptor)
            and self.text in line.text
        )


def _batch(lines: Iterable[LogLine]) -> api_pb2.TaskLogsBatch:
    batch = api_pb2.TaskLogsBatch()
    for line in lines:
        batch.task_id = line.task_id
        batch.function_id = line.function_id
        batch.entry_id = f"{line.number}-0"
        item = batch.items.add(
            data=line.text, timestamp=line.at, file_descriptor=line.descriptor, container_id=line.task_id
        )
        if len(line.calls) == 1:
            item.function_call_id = line.calls[0]
    return batch
