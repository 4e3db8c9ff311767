"""What the caller sees when something goes wrong, by type."""

import modal
import pytest

from .conftest import Target, make_client

pytestmark = pytest.mark.modal_conformance


def test_a_users_exception_comes_back_as_itself(target: Target) -> None:
    with pytest.raises(ValueError, match="a bad value"):
        target.function("fail").remote("value")
    with pytest.raises(KeyError, match="boom"):
        target.cls("Worker")().boom.spawn().get(timeout=30)


def test_an_exception_type_that_is_not_here_becomes_an_execution_error(target: Target) -> None:
    with pytest.raises(modal.exception.ExecutionError, match="Could not deserialize remote exception"):
        target.function("fail").remote("own")


def test_a_users_timeout_error_is_the_builtin_one_with_its_text(target: Target) -> None:
    with pytest.raises(TimeoutError) as caught:
        target.function("fail").spawn("timeout").get(timeout=30)
    assert type(caught.value) is TimeoutError
    assert caught.value.args == ("not the pending one",)


def test_a_users_system_exit_is_raised_here(target: Target) -> None:
    with pytest.raises(SystemExit) as caught:
        target.function("fail").spawn("exit").get(timeout=30)
    assert caught.value.code == 7


def test_a_function_that_runs_too_long_is_a_function_timeout_error(target: Target) -> None:
    with pytest.raises(modal.exception.FunctionTimeoutError) as caught:
        target.function("too_slow").spawn().get(timeout=30)
    assert not isinstance(caught.value, TimeoutError)


def test_a_wrong_token_is_an_auth_error_on_the_first_call(local_target: Target) -> None:
    assert local_target.server is not None
    # given a client with a wrong secret, which is made without complaint
    client = make_client(local_target.server, "as-wrong")

    # then the first RPC tells
    with pytest.raises(modal.exception.AuthError, match="Token validation failed"):
        modal.Function.from_name("basic", "square", client=client).hydrate()


def test_a_failing_enter_hook_is_told_by_its_own_exception(target: Target) -> None:
    with pytest.raises(RuntimeError, match="no weights here"):
        target.cls("Broken")().run.spawn().get(timeout=60)


def test_retries_run_again_and_the_last_failure_is_raised(local_target: Target, tmp_path: object) -> None:
    flaky = local_target.function("flaky")
    assert flaky.spawn(f"{tmp_path}/good", 3).get(timeout=30) == 3
    with pytest.raises(RuntimeError, match="try 3"):
        flaky.spawn(f"{tmp_path}/bad", 9).get(timeout=30)
