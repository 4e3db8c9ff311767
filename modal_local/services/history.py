"""What has become of inputs and containers: the figures, and their computation from what is kept. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modal_proto import api_pb2

from modal_local.records import CallRecord, InputRecord, InputState

_RESULT = api_pb2.GenericResult
_SUCCESS, _TIMEOUT, _TERMINATED = (
    _RESULT.GENERIC_STATUS_SUCCESS,
    _RESULT.GENERIC_STATUS_TIMEOUT,
    _RESULT.GENERIC_STATUS_TERMINATED,
)
_LATEST = 10  # inputs of each kind that are described, of those that are counted
_PERCENTILES = (5000, 9000, 9500, 9900)  # in hundredths of a per cent
#: The groups of `metrics.export()` that are served, with their series: name, unit, description.
METRICS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "calls": (
        ("calls_enqueued_sum", "count", "Inputs that came in"),
        ("calls_succeeded_sum", "count", "Inputs that ended well"),
        ("calls_failed_sum", "count", "Inputs that ended otherwise"),
    ),
    "containers": (
        ("containers_started_sum", "count", "Containers that were started"),
        ("containers_running_max", "count", "Containers that lived at some time"),
    ),
}


@dataclass(frozen=True, slots=True)
class Span:
    """A range of unix times, the first included, the last not."""

    since: float
    until: float

    def holds(self, at: float) -> bool:
        """Whether a time lies in it."""
        return self.since <= at < self.until


def input_status(record: InputRecord) -> int:
    """Where an input is, in the terms of FunctionCallInputStatus, whose endings have the names of GenericResult's."""
    if not record.done:
        running = record.state is InputState.RUNNING
        name = "RUNNING" if running else "PENDING"
    elif record.output is None:
        name = "UNSPECIFIED"
    else:
        name = _RESULT.GenericStatus.Name(record.output.result.status).removeprefix("GENERIC_STATUS_")
    value: int = dict(api_pb2.FunctionCallInputStatus.items()).get(f"FUNCTION_CALL_INPUT_STATUS_{name}", 0)
    return value


def input_info(record: InputRecord, lifetime: Mapping[str, Any] | None) -> api_pb2.FunctionCallInputInfo:
    """One row of `modal function calls`.

    Args:
        record: the input.
        lifetime: of the container that has run it, if that is known.
    """
    info = api_pb2.FunctionCallInputInfo(function_call_id=record.call.call_id)
    status: Any = input_status(record)
    info.status = status
    info.enqueued_at.FromMicroseconds(round(record.created_at * 1e6))
    if record.payload.method_name:
        info.service_method_name = record.payload.method_name
    if record.task_id:
        info.container_id = record.task_id
    if record.started_at:
        info.started_at.FromMicroseconds(round(record.started_at * 1e6))
        if record.done:
            info.execution_time_seconds = max(0.0, record.finished_at - record.started_at)
        ready_at = (lifetime or {}).get("ready_at") or 0.0
        if lifetime is not None and ready_at >= record.created_at:  # it had to wait for this container
            info.startup_time_seconds = max(0.0, ready_at - lifetime["started_at"])
    return info


def call_info(call: CallRecord) -> api_pb2.FunctionCallInfo:
    """How many inputs of a call have ended, and how."""
    info = api_pb2.FunctionCallInfo(function_call_id=call.call_id, created_at=call.created_at)
    info.total_inputs = call.total if call.total is not None else len(call.inputs)
    for record in call.inputs.values():
        status = record.output.result.status if record.output is not None else None
        if not record.done:
            category = info.pending_inputs
        elif status in (None, _SUCCESS):
            category = info.succeeded_inputs
        elif status == _TIMEOUT:
            category = info.timeout_inputs
        elif status == _TERMINATED:
            category = info.cancelled_inputs
        else:
            category = info.failed_inputs
        category.total += 1
        if category.total <= _LATEST:
            category.latest.add(
                input_id=record.input_id,
                idx=record.index,
                task_id=record.task_id,
                started_at=record.started_at,
                finished_at=record.finished_at,
            )
    return info


def distribution(values: Iterable[float]) -> api_pb2.StatsPercentileDistribution | None:
    """Percentiles (nearest rank) of durations in seconds; None of none."""
    ranked = sorted(values)
    if not ranked:
        return None
    found = api_pb2.StatsPercentileDistribution(unit="s")
    for points in _PERCENTILES:
        rank = max(1, math.ceil(points / 10_000 * len(ranked)))
        found.percentiles.add(percentile_basis_points=points, value=ranked[rank - 1])
    return found


def stats(
    span: Span, inputs: Sequence[InputRecord], lifetimes: Sequence[Mapping[str, Any]], variants: int
) -> api_pb2.FunctionGetTimeRangeStatsResponse:
    """What `Function.stats()` tells of a range of time."""
    ended = [one for one in inputs if one.done and one.output is not None and span.holds(one.finished_at)]
    by_status: dict[int, int] = {}
    for one in ended:
        status = one.output.result.status if one.output is not None else 0
        by_status[status] = by_status.get(status, 0) + 1
    running = [one for one in inputs if _runs_at(one, span.until)]
    lived = [one for one in lifetimes if one["started_at"] < span.until and (one["ended_at"] or math.inf) >= span.since]
    started = [one for one in lived if span.holds(one["started_at"])]
    good, late = by_status.pop(_SUCCESS, 0), by_status.pop(_TIMEOUT, 0)
    response = api_pb2.FunctionGetTimeRangeStatsResponse(
        input_success_count=good,
        input_timeout_count=late,
        input_failure_count=sum(by_status.values()),
        input_running_at_end_count=len(running),
        container_total_count=len(lived),
        container_started_count=len(started),
        container_error_count=sum(1 for one in lived if one.get("failed") and span.holds(one["ended_at"] or math.inf)),
        container_creating_at_end_count=sum(1 for one in lived if not one.get("ready_at") and not one["ended_at"]),
        variant_count=variants,
    )
    response.since.FromMicroseconds(round(span.since * 1e6))
    response.until.FromMicroseconds(round(span.until * 1e6))
    took = [one.finished_at - one.started_at for one in ended if one.started_at]
    waited = [one.finished_at - one.created_at for one in ended]
    startups = [one["ready_at"] - one["started_at"] for one in started if one.get("ready_at")]
    for target, name, values in (
        (response.input_percentile_stats, "Execution time (s)", took),
        (response.input_percentile_stats, "End-to-end latency (s)", waited),
        (response.container_percentile_stats, "Startup time (s)", startups),
    ):
        found = distribution(values)
        if found is not None:
            target[name].CopyFrom(found)
    return response


def _runs_at(record: InputRecord, at: float) -> bool:
    return bool(record.started_at) and record.started_at < at and (not record.done or record.finished_at >= at)


def buckets(span: Span, width_s: int) -> list[float]:
    """The beginnings of the buckets of a range, which lie at whole multiples of their width."""
    first = math.floor(span.since / width_s)
    return [number * width_s for number in range(first, max(first + 1, math.floor(span.until / width_s)))]


def series(
    span: Span,
    width_s: int,
    groups: Iterable[str],
    inputs: Sequence[InputRecord],
    lifetimes: Sequence[Mapping[str, Any]],
) -> list[api_pb2.FunctionMetricSeries]:
    """What `metrics.export()` tells: one series for each figure of the groups."""
    starts = buckets(span, width_s)
    found: list[api_pb2.FunctionMetricSeries] = []
    for group in groups:
        for name, unit, description in METRICS[group]:
            row = api_pb2.FunctionMetricSeries(name=name, unit=unit, description=description)
            for start in starts:
                point = row.points.add(value=_value(name, Span(start, start + width_s), inputs, lifetimes))
                point.timestamp.FromMicroseconds(round(start * 1e6))
            found.append(row)
    return found


def _value(name: str, span: Span, inputs: Sequence[InputRecord], lifetimes: Sequence[Mapping[str, Any]]) -> float:
    match name:
        case "calls_enqueued_sum":
            return sum(1 for one in inputs if span.holds(one.created_at))
        case "calls_succeeded_sum" | "calls_failed_sum":
            ended = [one for one in inputs if one.done and one.output is not None and span.holds(one.finished_at)]
            good = sum(1 for one in ended if one.output is not None and one.output.result.status == _SUCCESS)
            return good if name == "calls_succeeded_sum" else len(ended) - good
        case "containers_started_sum":
            return sum(1 for one in lifetimes if span.holds(one["started_at"]))
        case "containers_running_max":
            edges = sorted(
                [(max(one["started_at"], span.since), 1) for one in lifetimes if _lives_in(one, span)]
                + [(one["ended_at"], -1) for one in lifetimes if _lives_in(one, span) and one["ended_at"]]
            )
            most = now = 0
            for _, step in edges:
                now += step
                most = max(most, now)
            return most
        case _:
            raise KeyError(name)


def _lives_in(lifetime: Mapping[str, Any], span: Span) -> bool:
    return lifetime["started_at"] < span.until and (lifetime["ended_at"] or math.inf) >= span.since
