"""A pool's counts stay true, whatever order things happen in."""

import random

from hypothesis import example, given
from hypothesis import strategies as st
from modal_proto import api_pb2

from modal_local.records import CallRecord, InputRecord, InputState, PoolSettings
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
