"""One classifier from what a call ended with to an outcome: by type, and every form that the SDK can show."""

import builtins

import aiohttp
import pytest
from modal import exception as modal_errors

from ledger.retries import Cause
from modal_apps.envelope import Envelope, RemoteError, Timings
from workers.overflow.breaker import FailureReason
from workers.overflow.classify import (
    CallFailed,
    CallPending,
    CallSucceeded,
    CallUnknown,
    MaybeCall,
    NoCall,
    classify,
    classify_spawn_error,
)
from workers.overflow.modal_sdk.port import (
    PollFailed,
    PollTimedOut,
    Raised,
    ResultTooLarge,
    Returned,
    SpawnTimedOut,
    StillRunning,
)

GOOD = Envelope(Timings(1, 2, 3), "ta-1", cold_start=True, peak_memory_bytes=1, value={"mp4": b""})


def test_pending_is_pending() -> None:
    assert classify(StillRunning()) == CallPending()


def test_a_value_is_a_success() -> None:
    assert classify(Returned(GOOD.to_wire())) == CallSucceeded(GOOD)


def test_an_error_that_the_method_names_keeps_its_name_and_whether_to_retry() -> None:
    failed = Envelope(
        Timings(1, 2, 3), "ta-1", cold_start=False, peak_memory_bytes=1,
        error=RemoteError("out_of_memory", "CUDA out of memory", retryable=True),
    )  # fmt: skip
    outcome = classify(Returned(failed.to_wire()))
    assert isinstance(outcome, CallFailed)
    assert (outcome.cause, outcome.retryable, outcome.envelope) == (Cause.OUT_OF_MEMORY, True, failed)


@pytest.mark.parametrize(
    "wire",
    [
        None, 7, b"mp4", {}, {"version": 0}, {**GOOD.to_wire(), "version": 2}, {**GOOD.to_wire(), "timings": None},
        {**GOOD.to_wire(), "value": None}, {**GOOD.to_wire(), "error": {"cause": "x"}},
        {**GOOD.to_wire(), "error": {"cause": "x", "message": "y", "retryable": True}},
        {**GOOD.to_wire(), "timings": {"started_at": "soon"}}, {**GOOD.to_wire(), "peak_memory_bytes": float("inf")},
        {**GOOD.to_wire(), "earlier": [("ta-0", float("inf"))]}, {**GOOD.to_wire(), "earlier": [("ta-0", 10**400)]},
        {name: part for name, part in GOOD.to_wire().items() if name != "container_id"},
    ],
)  # fmt: skip
def test_what_is_no_envelope_ends_the_job_with_a_name(wire: object) -> None:
    outcome = classify(Returned(wire))
    assert isinstance(outcome, CallFailed)
    assert outcome.cause is Cause.BAD_ENVELOPE


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (modal_errors.FunctionTimeoutError("t"), Cause.TIMEOUT),
        (modal_errors.RemoteError("Function call was cancelled by user or a failure."), Cause.CANCELLED_REMOTELY),
        (modal_errors.RemoteError("Runner failed with exit code: 1"), Cause.CRASH),
        (modal_errors.RemoteError("Runner failed with exit code: 137"), Cause.OUT_OF_MEMORY),
        (modal_errors.InternalFailure("Runner failed with exit code: 137"), Cause.OUT_OF_MEMORY),
        (modal_errors.InternalFailure("i"), Cause.CRASH),
        (modal_errors.ExecutionError("Could not deserialize remote exception"), Cause.CRASH),
        (MemoryError(), Cause.OUT_OF_MEMORY),
        (SystemExit(3), Cause.ERROR),
        (ValueError("v"), Cause.ERROR),
        # What the method raised by itself, though the SDK raises the same when Modal is away
        (builtins.TimeoutError(), Cause.ERROR),
        (builtins.TimeoutError("the method's own"), Cause.ERROR),
        (modal_errors.AuthError("a"), Cause.ERROR),
        (modal_errors.ServiceError("s"), Cause.ERROR),
        (modal_errors.ConnectionError("c"), Cause.ERROR),
        (modal_errors.ResourceExhaustedError("r"), Cause.ERROR),
        (modal_errors.NotFoundError("n"), Cause.ERROR),
        (FileNotFoundError("weights"), Cause.ERROR),
    ],
)
def test_every_exception_of_a_result_is_an_end(error: BaseException, cause: Cause) -> None:
    outcome = classify(Raised(error))
    assert isinstance(outcome, CallFailed)
    assert (outcome.cause, outcome.is_certain) == (cause, True)


@pytest.mark.parametrize(
    ("error", "cause", "is_certain"),
    [
        (modal_errors.OutputExpiredError(), Cause.RESULT_EXPIRED, True),
        (modal_errors.NotFoundError("n"), Cause.RESULT_LOST, False),
        (ResultTooLarge(2 * 1024**3, 1024), Cause.RESULT_TOO_LARGE, True),
    ],
)
def test_a_few_answers_to_asking_are_an_end_too(error: BaseException, cause: Cause, is_certain: bool) -> None:
    outcome = classify(PollFailed(error))
    assert isinstance(outcome, CallFailed)
    assert (outcome.cause, outcome.is_certain) == (cause, is_certain)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (modal_errors.AuthError("a"), FailureReason.TOKEN_REFUSED),
        (modal_errors.PermissionDeniedError("p"), FailureReason.TOKEN_REFUSED),
        (modal_errors.ResourceExhaustedError("r"), FailureReason.THROTTLED),
        (PollTimedOut(30), FailureReason.TIMED_OUT),
        *(
            (error, FailureReason.UNAVAILABLE)
            for error in (
                modal_errors.ServiceError("s"), modal_errors.ConnectionError("c"), modal_errors.InternalError("i"),
                modal_errors.ConflictError("c"), modal_errors.VersionError("v"), modal_errors.ClientClosed("c"),
                modal_errors.DataLossError("d"), modal_errors.InvalidError("i"), modal_errors.UnimplementedError("u"),
                modal_errors.RemoteError("r"), aiohttp.ServerDisconnectedError(), aiohttp.ClientPayloadError(),
                OSError("o"),
            )
        ),
        (AttributeError("a fault of the SDK's own"), None),
        # What this machine lacks says nothing about Modal, and must not close it to everybody.
        (OSError(24, "Too many open files"), None),
        (FileNotFoundError(2, "No such file", "scratch"), None),
    ],
)  # fmt: skip
def test_not_being_able_to_ask_says_nothing_about_the_call(error: BaseException, reason: FailureReason | None) -> None:
    assert classify(PollFailed(error)) == CallUnknown(f"{type(error).__name__}: {error}", reason)


def test_a_result_that_cannot_be_fetched_is_asked_for_again_and_is_no_failure_of_modals() -> None:
    error = aiohttp.ServerDisconnectedError()
    assert classify(PollFailed(error, has_result=True)) == CallUnknown(
        f"ServerDisconnectedError: {error}", None, has_result=True
    )


@pytest.mark.parametrize("retryable", [True, False])  # (containers of an earlier version say that it is not)
def test_a_call_that_left_for_another_of_its_attempt_leaves_the_attempt_to_be_run_again(retryable: bool) -> None:
    left = Envelope(
        Timings(1, 2, 3), "ta-1", cold_start=True, peak_memory_bytes=1,
        error=RemoteError("superseded", "another call of the same attempt works already", retryable=retryable),
    )  # fmt: skip
    outcome = classify(Returned(left.to_wire()))
    assert isinstance(outcome, CallFailed)
    assert (outcome.cause, outcome.retryable, outcome.superseded) == (Cause.SPAWN_LOST, True, True)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        *(
            (error, NoCall(f"{type(error).__name__}: {error}", reason))
            for error, reason in (
                (modal_errors.AuthError("a"), FailureReason.TOKEN_REFUSED),
                (modal_errors.PermissionDeniedError("p"), FailureReason.TOKEN_REFUSED),
                (modal_errors.NotFoundError("n"), FailureReason.NOT_DEPLOYED),
                (modal_errors.ResourceExhaustedError("r"), FailureReason.THROTTLED),
                (modal_errors.VersionError("v"), FailureReason.UNAVAILABLE),
                (modal_errors.InvalidError("the job's own"), None),
                (modal_errors.RequestSizeError("the job's own"), None),
            )
        ),
        *(
            (error, MaybeCall(f"{type(error).__name__}: {error}", reason))
            for error, reason in (
                (SpawnTimedOut(1), FailureReason.TIMED_OUT),
                (modal_errors.ServiceError("s"), FailureReason.UNAVAILABLE),
                (modal_errors.ConnectionError("c"), FailureReason.UNAVAILABLE),
                (modal_errors.InternalError("i"), FailureReason.UNAVAILABLE),
                (modal_errors.ConflictError("c"), FailureReason.UNAVAILABLE),
                (modal_errors.ClientClosed("c"), FailureReason.UNAVAILABLE),
                (modal_errors.DataLossError("d"), FailureReason.UNAVAILABLE),
                (aiohttp.ServerDisconnectedError(), FailureReason.UNAVAILABLE),
                (ValueError("v"), None),
            )
        ),
    ],
)
def test_a_refused_spawn_made_no_call_and_a_lost_answer_may_have(
    error: BaseException, verdict: NoCall | MaybeCall
) -> None:
    assert classify_spawn_error(error) == verdict
