"""One classifier from what a call ended with to an outcome: by type, and every form that the SDK can show."""

import builtins

import pytest
from modal import exception as modal_errors

from ledger.retries import Cause
from modal_apps.envelope import Envelope, RemoteError, Timings
from workers.overflow.calls import Answered, LookTimedOut, Raised, ResultTooLarge, SpawnTimedOut, StillRunning
from workers.overflow.endings import (
    AskAgain,
    Ended,
    MaybeCall,
    NoCall,
    Pending,
    Succeeded,
    classify,
    classify_spawn_error,
)

GOOD = Envelope(Timings(1, 2, 3), "ta-1", cold_start=True, peak_memory_bytes=1, value={"mp4": b""})


def test_pending_is_pending() -> None:
    assert classify(StillRunning()) == Pending()


def test_a_value_is_a_success() -> None:
    assert classify(Answered(GOOD.to_wire())) == Succeeded(GOOD)


def test_an_error_that_the_method_names_keeps_its_name_and_whether_to_retry() -> None:
    failed = Envelope(
        Timings(1, 2, 3), "ta-1", cold_start=False, peak_memory_bytes=1,
        error=RemoteError("out_of_memory", "CUDA out of memory", retryable=True),
    )  # fmt: skip
    ending = classify(Answered(failed.to_wire()))
    assert isinstance(ending, Ended)
    assert (ending.cause, ending.retryable, ending.envelope) == (Cause.OUT_OF_MEMORY, True, failed)


@pytest.mark.parametrize(
    "wire",
    [
        None, 7, b"mp4", {}, {"version": 0}, {**GOOD.to_wire(), "version": 2}, {**GOOD.to_wire(), "timings": None},
        {**GOOD.to_wire(), "value": None}, {**GOOD.to_wire(), "error": {"cause": "x"}},
        {**GOOD.to_wire(), "error": {"cause": "x", "message": "y", "retryable": True}},
        {**GOOD.to_wire(), "timings": {"started_at": "soon"}},
        {name: part for name, part in GOOD.to_wire().items() if name != "container_id"},
    ],
)  # fmt: skip
def test_what_is_no_envelope_ends_the_job_with_a_name(wire: object) -> None:
    ending = classify(Answered(wire))
    assert isinstance(ending, Ended)
    assert ending.cause is Cause.BAD_ENVELOPE


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (modal_errors.OutputExpiredError(), Cause.RESULT_EXPIRED),
        (modal_errors.FunctionTimeoutError("t"), Cause.TIMEOUT),
        (modal_errors.NotFoundError("n"), Cause.RESULT_LOST),
        (modal_errors.RemoteError("Function call was cancelled by user or a failure."), Cause.CANCELLED_REMOTELY),
        (modal_errors.RemoteError("Runner failed with exit code: 1"), Cause.CRASH),
        (modal_errors.RemoteError("Runner failed with exit code: 137"), Cause.OUT_OF_MEMORY),
        (modal_errors.InternalFailure("Runner failed with exit code: 137"), Cause.OUT_OF_MEMORY),
        (modal_errors.InternalFailure("i"), Cause.CRASH),
        (ResultTooLarge(2 * 1024**3, 1024), Cause.RESULT_TOO_LARGE),
        (modal_errors.ExecutionError("Could not deserialize remote exception"), Cause.CRASH),
        (MemoryError(), Cause.OUT_OF_MEMORY),
        (builtins.TimeoutError("the method's own"), Cause.ERROR),
        (SystemExit(3), Cause.ERROR),
        (ValueError("v"), Cause.ERROR),
    ],
)
def test_every_exception_ends_in_an_outcome(error: BaseException, cause: Cause) -> None:
    ending = classify(Raised(error))
    assert isinstance(ending, Ended)
    assert ending.cause == cause


@pytest.mark.parametrize(
    "error",
    [
        modal_errors.ServiceError("s"), modal_errors.ConnectionError("c"), modal_errors.ResourceExhaustedError("r"),
        modal_errors.AuthError("a"), OSError("o"), LookTimedOut(30),
    ],
)  # fmt: skip
def test_not_being_able_to_ask_says_nothing_about_the_call(error: BaseException) -> None:
    assert isinstance(classify(Raised(error)), AskAgain)


def test_a_refused_spawn_made_no_call_and_a_lost_answer_may_have() -> None:
    for refused in (
        modal_errors.AuthError("a"),
        modal_errors.NotFoundError("n"),
        modal_errors.ResourceExhaustedError("r"),
    ):
        assert isinstance(classify_spawn_error(refused), NoCall)
    for unknown in (SpawnTimedOut(1), modal_errors.ServiceError("s"), modal_errors.ConnectionError("c"), ValueError()):
        assert isinstance(classify_spawn_error(unknown), MaybeCall)
