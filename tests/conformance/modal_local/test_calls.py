"""Calls, as the SDK makes them: spawn, remote, get, map, generators, options, sizes."""

import asyncio
import time

import modal
import pytest

from .conftest import Target

pytestmark = pytest.mark.modal_conformance


def test_remote_gives_the_result(target: Target) -> None:
    assert target.function("square").remote(7) == 49


def test_spawn_is_pending_then_done_and_the_result_stays(target: Target) -> None:
    # given a call that takes a while
    call = target.function("nap").spawn(1.0)

    # when it is asked for at once, by its id alone
    with pytest.raises(TimeoutError) as pending:
        target.call(call.object_id).get(timeout=0)

    # then it is pending, told by an empty builtin TimeoutError, and later there, as often as one asks
    assert type(pending.value) is TimeoutError
    assert pending.value.args == ()
    assert target.call(call.object_id).get(timeout=30) == "slept"
    assert target.call(call.object_id).get(timeout=0) == "slept"


def test_async_spawn_and_get(target: Target) -> None:
    async def both() -> int:
        call = await target.function("square").spawn.aio(5)
        return await call.get.aio(timeout=30)

    assert asyncio.run(both()) == 25


def test_class_method_with_parameters_and_options(target: Target) -> None:
    worker = target.cls("Worker")
    # given one class and a variant of it on a GPU with a parameter of its own
    plain = worker().greet.remote("you")
    varied = worker.with_options(gpu="H100", timeout=50)(greeting="good day").greet.spawn("you").get(timeout=30)

    assert plain == "hello you 42 one"
    assert varied == "good day you 42 one"


def test_each_option_set_has_containers_of_its_own(target: Target) -> None:
    worker = target.cls("Worker")
    tasks = {worker.with_options(gpu=gpu)().task.remote() for gpu in ("L4", "T4")}
    again = worker.with_options(gpu="L4")().task.remote()
    assert len(tasks) == 2
    assert again in tasks


def test_unknown_gpu_is_told_when_the_variant_is_first_used(target: Target) -> None:
    variant = target.cls("Worker").with_options(gpu="RIVA128")
    with pytest.raises(modal.exception.InvalidError, match="RIVA128"):
        variant().greet.spawn("x")


@pytest.mark.parametrize("size_bytes", [0, 7_000, 9_000, 3_000_000])
def test_results_of_any_size(target: Target, size_bytes: int) -> None:
    assert target.function("big").spawn(size_bytes).get(timeout=30) == b"x" * size_bytes


@pytest.mark.parametrize("size_bytes", [9_000, 3_000_000])
def test_arguments_of_any_size(target: Target, size_bytes: int) -> None:
    assert target.function("measure").spawn(b"y" * size_bytes).get(timeout=30) == size_bytes


def test_map_and_starmap_keep_order(target: Target) -> None:
    square = target.function("square")
    assert list(square.map(range(25))) == [number * number for number in range(25)]
    assert list(square.starmap([(number,) for number in range(5)])) == [0, 1, 4, 9, 16]


def test_map_returns_exceptions_if_asked(target: Target) -> None:
    results = list(target.function("fail").map(["value"], return_exceptions=True))
    assert isinstance(results[0], ValueError)


def test_spawn_map_is_one_call_with_many_results(target: Target) -> None:
    call = target.function("square").experimental_spawn_map(range(60))
    assert list(call.iter()) == [number * number for number in range(60)]
    assert call.get(index=7) == 49
    assert call.num_inputs() == 60


def test_gather_collects_in_order(target: Target) -> None:
    calls = [target.function("square").spawn(number) for number in range(4)]
    assert modal.FunctionCall.gather(*calls) == [0, 1, 4, 9]


def test_generator_streams(target: Target) -> None:
    assert list(target.function("count_to").remote_gen(12)) == list(range(12))


def test_call_graph_shows_who_called_whom(target: Target) -> None:
    # given a function that calls another
    call = target.function("child_of").spawn(6)
    assert call.get(timeout=40) == 37

    # then the graph has one root with one child, both done
    roots = call.get_call_graph()
    assert [root.function_name for root in roots] == ["child_of"]
    assert [child.function_name for child in roots[0].children] == ["square"]
    assert roots[0].children[0].status == modal.call_graph.InputStatus.SUCCESS


def test_unknown_names_and_ids_are_not_found(target: Target) -> None:
    with pytest.raises(modal.exception.NotFoundError):
        modal.Function.from_name("no-such-app", "f", client=target.client).hydrate()
    with pytest.raises(modal.exception.NotFoundError):
        target.function("no-such-function").hydrate()
    with pytest.raises(modal.exception.NotFoundError):
        target.cls("NoSuchClass").hydrate()
    with pytest.raises(modal.exception.NotFoundError):
        target.call("fc-0000000000000000000000").get(timeout=0)


def test_a_wait_of_some_seconds_ends_in_time(target: Target) -> None:
    call = target.function("nap").spawn(20.0)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        call.get(timeout=0.5)
    assert 0.4 < time.monotonic() - began < 3.0
    call.cancel(terminate_containers=True)
