"""What clients ask about the past: calls and their inputs, statistics, metrics."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import json
from collections.abc import Mapping
from typing import Any

from modal_proto import api_pb2

from modal_local.callbook import CallBook
from modal_local.context import Context
from modal_local.errors import InvalidArgumentError, NotFoundError
from modal_local.records import InputRecord
from modal_local.registry import Registry
from modal_local.rpc import Caller
from modal_local.services.containers import LIFETIMES
from modal_local.services.history import METRICS, Span, buckets, call_info, input_info, series, stats

_LONGEST_STATS_S = 7 * 86400.0
_LONGEST_METRICS_S = 31 * 86400.0
_MOST_TAIL = 1_000
_MOST_FETCHED = 20_000
_NARROWEST_BUCKET_S = 60
_POINTS_BY_DEFAULT = 60
_MOST_POINTS = 500


class StatisticsService:
    """Serves FunctionCallGetInfo, FunctionCallFetch, FunctionCallCount, FunctionGetTimeRangeStats and the metrics."""

    def __init__(self, context: Context, registry: Registry, book: CallBook) -> None:
        self._context = context
        self._registry = registry
        self._book = book

    async def FunctionCallGetInfo(
        self, request: api_pb2.FunctionCallGetInfoRequest, caller: Caller
    ) -> api_pb2.FunctionCallGetInfoResponse:
        """How far a call is."""
        call = self._book.call(request.function_call_id)
        if request.function_id and call.function_id != request.function_id:
            raise NotFoundError(f"Function call {call.call_id!r} is not one of {request.function_id!r}.")
        return api_pb2.FunctionCallGetInfoResponse(info=call_info(call))

    async def FunctionCallFetch(
        self, request: api_pb2.FunctionCallFetchRequest, caller: Caller
    ) -> api_pb2.FunctionCallFetchResponse:
        """The inputs of a function's calls, the oldest first: the newest so many, or those of a time range."""
        inputs = self._inputs(request.function_id, all_variants=request.all_variants)
        if request.HasField("range"):
            span = _span(request.range.since, request.range.until)
            inputs = [one for one in inputs if span.holds(one.created_at)][: request.range.limit or _MOST_FETCHED]
        else:
            inputs = inputs[-min(request.tail.count or _MOST_TAIL, _MOST_TAIL) :]
        return api_pb2.FunctionCallFetchResponse(
            function_call_inputs=[input_info(one, self._lifetime(one.task_id)) for one in inputs]
        )

    async def FunctionCallCount(
        self, request: api_pb2.FunctionCallCountRequest, caller: Caller
    ) -> api_pb2.FunctionCallCountResponse:
        """How many inputs came in, by time."""
        width_s = max(1, request.bucket_secs)
        span = _span(request.since, request.until)
        counted: dict[int, int] = {}
        for one in self._inputs(request.function_id, all_variants=request.all_variants):
            if span.holds(one.created_at):
                start = int(one.created_at) // width_s * width_s
                counted[start] = counted.get(start, 0) + 1
        response = api_pb2.FunctionCallCountResponse()
        for start, count in sorted(counted.items()):
            response.buckets.add(count=count).bucket_start_at.FromSeconds(start)
        return response

    async def FunctionGetTimeRangeStats(
        self, request: api_pb2.FunctionGetTimeRangeStatsRequest, caller: Caller
    ) -> api_pb2.FunctionGetTimeRangeStatsResponse:
        """Counts and percentiles of a time range."""
        span = _span(request.since, request.until, longest_s=_LONGEST_STATS_S)
        inputs = self._inputs(request.function_id, all_variants=request.rollup)
        lifetimes = self._lifetimes(request.function_id, all_variants=request.rollup)
        if request.container_id:
            inputs = [one for one in inputs if one.task_id == request.container_id]
            lifetimes = [one for one in lifetimes if one["task_id"] == request.container_id]
        variants = len(self._pools(request.function_id, all_variants=request.rollup))
        return stats(span, inputs, lifetimes, variants)

    async def MetricsGetInfo(
        self, request: api_pb2.MetricsGetInfoRequest, caller: Caller
    ) -> api_pb2.MetricsGetInfoResponse:
        """Which metrics there are."""
        if request.target_type != api_pb2.MetricsGetInfoRequest.METRICS_TARGET_TYPE_FUNCTION:
            raise InvalidArgumentError("modal_local does not serve metrics of Servers.")
        span, width_s = _window(request)
        response = api_pb2.MetricsGetInfoResponse(bucket_secs=width_s, bucket_count=len(buckets(span, width_s)))
        for name in _groups(request.groups):
            group = response.groups.add(name=name, display_name=name.capitalize())
            for metric, unit, description in METRICS[name]:
                group.metrics.add(name=metric, unit=unit, description=description)
        return response

    async def FunctionGetMetrics(
        self, request: api_pb2.FunctionGetMetricsRequest, caller: Caller
    ) -> api_pb2.FunctionGetMetricsResponse:
        """Metrics over time."""
        span, width_s = _window(request)
        found = series(
            span,
            width_s,
            _groups(request.groups),
            self._inputs(request.function_id, all_variants=request.rollup),
            self._lifetimes(request.function_id, all_variants=request.rollup),
        )
        response = api_pb2.FunctionGetMetricsResponse(bucket_secs=width_s, series=found)
        starts = buckets(span, width_s)
        response.since.FromSeconds(int(starts[0]))
        response.until.FromSeconds(int(starts[-1] + width_s))
        return response

    def _pools(self, function_id: str, *, all_variants: bool) -> set[str]:
        function = self._registry.functions.get(function_id)
        if function is None:
            raise NotFoundError(f"Function {function_id!r} not found.")
        if not all_variants:
            return {function_id}
        base = self._registry.base(function).function_id
        others = self._registry.functions_of(function.app_id)
        return {base, *(one.function_id for one in others if one.base_id == base)}

    def _inputs(self, function_id: str, *, all_variants: bool) -> list[InputRecord]:
        pools = self._pools(function_id, all_variants=all_variants)
        calls = [call for call in self._book.calls.values() if call.function_id in pools]
        return sorted((one for call in calls for one in call.inputs.values()), key=lambda one: one.created_at)

    def _lifetime(self, task_id: str) -> Mapping[str, Any] | None:
        kept = self._context.store.get(LIFETIMES, task_id) if task_id else None
        return None if kept is None else json.loads(kept)

    def _lifetimes(self, function_id: str, *, all_variants: bool) -> list[Mapping[str, Any]]:
        pools = self._pools(function_id, all_variants=all_variants)
        rows = (json.loads(value) for _, value in self._context.store.items(LIFETIMES))
        return [row for row in rows if row["function_id"] in pools]


def _span(since: Any, until: Any, longest_s: float | None = None) -> Span:
    span = Span(since.ToNanoseconds() / 1e9, until.ToNanoseconds() / 1e9)
    if span.since >= span.until:
        raise InvalidArgumentError("`since` must be before `until`.")
    if longest_s is not None and span.until - span.since > longest_s:
        raise InvalidArgumentError(f"The time range is longer than {longest_s / 86400:g} days.")
    return span


def _window(request: api_pb2.MetricsGetInfoRequest | api_pb2.FunctionGetMetricsRequest) -> tuple[Span, int]:
    span = _span(request.since, request.until, longest_s=_LONGEST_METRICS_S)
    longest_s = span.until - span.since
    minutes = int(longest_s / _POINTS_BY_DEFAULT) // _NARROWEST_BUCKET_S
    width_s = request.bucket_secs or max(1, minutes) * _NARROWEST_BUCKET_S
    if width_s < _NARROWEST_BUCKET_S or len(buckets(span, width_s)) > _MOST_POINTS:
        raise InvalidArgumentError(
            f"Expected buckets of {_NARROWEST_BUCKET_S} s and more, and at most {_MOST_POINTS} of them."
        )
    return span, width_s


def _groups(asked: Any) -> list[str]:
    unknown = [name for name in asked if name not in METRICS]
    if unknown:
        raise InvalidArgumentError(
            f"modal_local does not serve the metrics {', '.join(unknown)}; it has {', '.join(METRICS)}."
        )
    return list(asked) or list(METRICS)
