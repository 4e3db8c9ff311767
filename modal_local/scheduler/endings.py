"""What happens to an input after a failure: it runs again, or it ends with a result. Pure."""

from dataclasses import dataclass

from modal_proto import api_pb2

from modal_local.records import CANCELLED_MESSAGE
from modal_local.scheduler.autoscale import retry_delay_s
from modal_local.settings import CrashPolicy

OOM_EXIT_CODE = 137


@dataclass(frozen=True, slots=True)
class RunAgain:
    """The input waits for a delay, then it is handed out again."""

    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EndWith:
    """The input ends with this result."""

    result: api_pb2.GenericResult


Ending = RunAgain | EndWith


def after_failure(policy: api_pb2.FunctionRetryPolicy, failures: int, result: api_pb2.GenericResult) -> Ending:
    """The user's code failed or ran out of time.

    Args:
        policy: the function's retry policy.
        failures: how often this input has failed, this time included.
        result: what is reported when no retry is left.
    """
    if failures > policy.retries:
        return EndWith(result)
    return RunAgain(retry_delay_s(policy.initial_delay_ms, policy.backoff_coefficient, policy.max_delay_ms, failures))


def after_death(policy: CrashPolicy, limit: int, crashes: int, exit_code: int | None) -> Ending:
    """The container died while it ran the input.

    What Modal sends in the end is not known (see docs/modal_local.md), so each known form can be chosen.

    Args:
        policy: `reschedule` runs it again for ever; the others end it in their own form.
        limit: deaths that are tolerated before another policy than `reschedule` ends the input.
        crashes: how often a container died with this input, this time included.
        exit_code: of the container's process.
    """
    if policy == "reschedule" or crashes <= limit:
        return RunAgain()
    return EndWith(death_result(policy, exit_code))


def death_result(policy: CrashPolicy, exit_code: int | None) -> api_pb2.GenericResult:
    """The result that stands for a dead container, in the form of a policy."""
    message = f"Runner failed with exit code: {exit_code}"
    status = {
        "reschedule": api_pb2.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE,
        "internal_failure": api_pb2.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE,
        "remote_error": api_pb2.GenericResult.GENERIC_STATUS_FAILURE,
        "init_failure": api_pb2.GenericResult.GENERIC_STATUS_INIT_FAILURE,
    }[policy]
    return api_pb2.GenericResult(status=status, exception=message, exitcode=exit_code or 0)


def cancelled_result() -> api_pb2.GenericResult:
    """The result of a cancelled input, or of one whose app was stopped."""
    return api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_TERMINATED, exception=CANCELLED_MESSAGE)


def timeout_result(input_id: str, timeout_s: float) -> api_pb2.GenericResult:
    """The result of an input that ran longer than its function allows."""
    return api_pb2.GenericResult(
        status=api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT,
        exception=f"Task's current input in {input_id} hit its timeout of {timeout_s:g}s",
    )
