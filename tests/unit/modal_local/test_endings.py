"""What becomes of an input after a failure, or after its container's death."""

import pytest
from modal_proto import api_pb2

from modal_local.scheduler.endings import EndWith, RunAgain, after_death, after_failure

FAILED = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE)
POLICY = api_pb2.FunctionRetryPolicy(retries=2, initial_delay_ms=1000, backoff_coefficient=2.0, max_delay_ms=60_000)


def test_retries_are_used_up_one_by_one() -> None:
    assert after_failure(POLICY, 1, FAILED) == RunAgain(1.0)
    assert after_failure(POLICY, 2, FAILED) == RunAgain(2.0)
    assert after_failure(POLICY, 3, FAILED) == EndWith(FAILED)
    assert after_failure(api_pb2.FunctionRetryPolicy(), 1, FAILED) == EndWith(FAILED)


def test_by_default_a_death_never_ends_an_input() -> None:
    assert after_death("reschedule", 0, 1_000, 137) == RunAgain()


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        ("internal_failure", api_pb2.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE),
        ("remote_error", api_pb2.GenericResult.GENERIC_STATUS_FAILURE),
        ("init_failure", api_pb2.GenericResult.GENERIC_STATUS_INIT_FAILURE),
    ],
)
def test_other_policies_forgive_so_many_deaths(policy: str, status: int) -> None:
    assert after_death(policy, 2, 2, 137) == RunAgain()  # type: ignore[arg-type]  # from the table above
    ending = after_death(policy, 2, 3, 137)  # type: ignore[arg-type]  # from the table above
    assert isinstance(ending, EndWith)
    assert ending.result.status == status
    assert "137" in ending.result.exception
