"""Figures of the past."""

from modal_proto import api_pb2

from modal_local.records import CallRecord, InputRecord, InputState
from modal_local.services.history import Span, buckets, call_info, distribution, input_info, series, stats

RESULT = api_pb2.GenericResult
CALL = CallRecord("fc-1", "fu-1", "ap-1", 1, 3, "", 100.0, total=5)


def an_input(
    number: int, status: int | None, *, at: float = 100.0, started: float = 101.0, finished: float = 105.0
) -> InputRecord:
    record = InputRecord(f"in-{number}", CALL, number, api_pb2.FunctionInput(method_name="m"), at)
    record.started_at, record.task_id = started, "ta-1"
    if status is None:
        record.state = InputState.RUNNING
        return record
    record.state, record.finished_at = InputState.DONE, finished
    result = RESULT()
    result.status = status  # type: ignore[assignment]  # any of the enum's
    record.output = api_pb2.FunctionGetOutputsItem(result=result)
    return record


INPUTS = [
    an_input(0, RESULT.GENERIC_STATUS_SUCCESS),
    an_input(1, RESULT.GENERIC_STATUS_FAILURE),
    an_input(2, RESULT.GENERIC_STATUS_TIMEOUT),
    an_input(3, RESULT.GENERIC_STATUS_TERMINATED),
    an_input(4, None),
]
LIFETIME = {"task_id": "ta-1", "started_at": 100.0, "ready_at": 100.5, "ended_at": 110.0, "failed": True}


def test_a_call_counts_its_inputs_by_their_ends() -> None:
    CALL.inputs = dict(enumerate(INPUTS))
    info = call_info(CALL)
    counted = [
        getattr(info, f"{kind}_inputs").total for kind in ("pending", "succeeded", "failed", "timeout", "cancelled")
    ]
    assert counted == [1, 1, 1, 1, 1]
    assert info.total_inputs == 5


def test_an_input_that_waited_for_its_container_has_a_startup_time() -> None:
    cold = input_info(INPUTS[0], LIFETIME)
    assert (cold.startup_time_seconds, cold.execution_time_seconds) == (0.5, 4.0)
    warm = input_info(an_input(9, RESULT.GENERIC_STATUS_SUCCESS, at=100.7), LIFETIME)
    assert not warm.HasField("startup_time_seconds")
    assert not input_info(INPUTS[4], None).HasField("execution_time_seconds")


def test_statistics_are_of_what_ended_in_the_range() -> None:
    found = stats(Span(104.0, 120.0), INPUTS, [LIFETIME], 1)
    assert (found.input_success_count, found.input_failure_count, found.input_timeout_count) == (1, 2, 1)
    assert (found.input_running_at_end_count, found.container_error_count) == (1, 1)
    assert (found.container_total_count, found.container_started_count) == (1, 0)
    before = stats(Span(0.0, 104.0), INPUTS, [LIFETIME], 1)
    assert (before.input_success_count, before.input_running_at_end_count) == (0, 5)
    assert (before.container_started_count, before.container_error_count) == (1, 0)


def test_percentiles_are_of_the_nearest_rank() -> None:
    found = distribution([float(number) for number in range(1, 101)])
    assert found is not None
    assert {one.percentile_basis_points: one.value for one in found.percentiles} == {
        5000: 50.0,
        9000: 90.0,
        9500: 95.0,
        9900: 99.0,
    }
    assert distribution([]) is None


def test_buckets_lie_at_whole_multiples_and_hold_what_fell_into_them() -> None:
    assert buckets(Span(130.0, 310.0), 60) == [120, 180, 240]
    rows = {row.name: row for row in series(Span(60.0, 180.0), 60, ["calls", "containers"], INPUTS, [LIFETIME])}
    assert [point.value for point in rows["calls_succeeded_sum"].points] == [1, 0]
    assert [point.value for point in rows["calls_failed_sum"].points] == [3, 0]
    assert [point.value for point in rows["containers_running_max"].points] == [1, 0]
