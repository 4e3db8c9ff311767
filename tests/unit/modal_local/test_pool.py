"""A pool's counts stay true, whatever order things happen in."""

import random

from hypothesis import example, given
from hypothesis import strategies as st
from modal_proto import api_pb2

from modal_local.records import CallRecord, ContainerRecord, ContainerState, InputRecord, InputState, PoolSettings
from modal_local.scheduler.pool import Pool

CALL = CallRecord("fc", "fu", "ap", 1, 3, "", 0.0)


def an_input(number: int) -> InputRecord:
    return InputRecord(f"in-{number}", CALL, number, api_pb2.FunctionInput(), 0.0)


@example(["add"] * 5 + ["cancel"] * 3 + ["add"] * 2 + ["cancel"] * 2 + ["take"] * 2, random.Random(0))
@given(st.lists(st.sampled_from(["add", "cancel", "take"]), max_size=60), st.randoms(use_true_random=False))
def test_the_backlog_is_what_waits_and_is_not_cancelled(steps: list[str], draw: object) -> None:
    pool = Pool("fu", "ap", PoolSettings(), "de")
    waiting: list[InputRecord] = []
    for number, step in enumerate(steps):
        if step == "add":
            record = an_input(number)
            pool.queue.append(record)
            waiting.append(record)
        elif step == "cancel" and waiting:
            record = draw.choice(waiting)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
            waiting.remove(record)
            record.state = InputState.DONE
            pool.forget()
        elif step == "take":
            expected = waiting.pop(0) if waiting else None
            assert pool.next_input() is expected
        assert pool.backlog == len(waiting)
        assert len(pool.queue) <= 2 * len(waiting) + 1


def test_a_container_of_several_inputs_is_idle_when_it_has_answered_the_last() -> None:
    # given a container that has two inputs, with a request for more open
    pool = Pool("fu", "ap", PoolSettings(inputs_per_container=8), "de")
    container = ContainerRecord("ta", "fu", "ap", "de", pool.settings, 0.0, state=ContainerState.READY)
    pool.add(container)
    pool.rest(container, 1.0)
    for number in range(2):
        pool.give(container, an_input(number))
    assert not pool.idle

    # when it answers one, it is busy still; when it answers the other, it is idle, since then
    pool.take(container, "in-0", 5.0)
    assert not pool.idle
    pool.take(container, "in-1", 6.0)
    assert pool.view(7.0).idle == [("ta", 6.0)]

    # and to ask again makes it idle no later
    pool.rest(container, 8.0)
    assert pool.view(9.0).idle == [("ta", 6.0)]


def test_a_container_that_is_to_end_is_not_idle() -> None:
    pool = Pool("fu", "ap", PoolSettings(), "de")
    container = ContainerRecord("ta", "fu", "ap", "de", pool.settings, 0.0, state=ContainerState.READY)
    pool.add(container)
    pool.give(container, an_input(0))
    pool.retire(container, ContainerState.DRAINING)
    pool.take(container, "in-0", 5.0)
    assert not pool.idle
