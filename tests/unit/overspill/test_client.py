"""The client's pure parts: how often it looks, what it makes of its arguments, and what it says when it gives up."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ledger.models import BurstMode, JobRecord, Kind, RenderJob, TrainJob
from ledger.states import TERMINAL, State
from overspill.client import (
    POLL_MAX_S,
    POLL_MIN_S,
    JobFailed,
    WaitTimeout,
    _ended,
    _job_of,
    _next_sleep_s,
    poll_interval_s,
)

# Machines differ: what is checked is the outcome, never how fast it was found.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

RECORD = JobRecord(
    id="video_1",
    kind=Kind.RENDER,
    tenant="default",
    state=State.QUEUED,
    priority=5,
    burst=BurstMode.AUTO,
    created_ms=0,
    changed_ms=0,
)


@patient
@given(st.floats(0, 1e9))
def test_the_interval_is_a_tenth_of_the_wait_within_bounds(waited_s: float) -> None:
    interval = poll_interval_s(waited_s)
    assert POLL_MIN_S <= interval <= POLL_MAX_S
    assert interval <= max(POLL_MIN_S, waited_s * 0.1)


@patient
@given(timeout_s=st.floats(0, 100))
def test_a_wait_never_oversleeps_and_ends_with_a_look_at_its_very_end(timeout_s: float) -> None:
    # given a clock that only sleeping moves
    now, looks = 0.0, 1
    # when
    while now < timeout_s:
        now += _next_sleep_s("video_1", now, timeout_s, RECORD)
        looks += 1
    with pytest.raises(WaitTimeout) as gave_up:
        _next_sleep_s("video_1", now, timeout_s, RECORD)
    # then
    assert now == pytest.approx(timeout_s)
    assert looks <= 2 + timeout_s / POLL_MIN_S
    assert (gave_up.value.job_id, gave_up.value.timeout_s, gave_up.value.record) == ("video_1", timeout_s, RECORD)


def test_without_a_timeout_it_never_gives_up() -> None:
    assert _next_sleep_s("video_1", 1e9, None, None) == POLL_MAX_S


def test_a_timeout_is_also_pythons_and_says_what_is_known() -> None:
    with pytest.raises(TimeoutError, match=r"within 3 s; it is queued"):
        raise WaitTimeout("video_1", 3, RECORD)
    assert "the ledger did not answer" in str(WaitTimeout("video_1", 3, None))


@pytest.mark.parametrize("state", State)
def test_each_state_goes_on_or_ends(state: State) -> None:
    record = replace(RECORD, state=state, error_code="why", error_message="because")
    if state in (State.FAILED, State.CANCELLED):
        with pytest.raises(JobFailed) as failed:
            _ended(record)
        assert (failed.value.code, failed.value.message, failed.value.record) == ("why", "because", record)
    else:
        assert _ended(record) is (state in TERMINAL)


def test_a_job_is_given_whole_or_by_its_fields() -> None:
    job = RenderJob(prompt="x")
    assert _job_of(job, None, {}) is job
    assert _job_of(None, None, {"prompt": "x"}) == job
    assert _job_of(None, "render", {"prompt": "x"}) == job
    assert isinstance(_job_of(None, "train", {"recipe": "image_classifier"}), TrainJob)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((RenderJob(prompt="x"), "render", {}), TypeError),
        ((RenderJob(prompt="x"), None, {"seconds": 4}), TypeError),
        ((None, "paint", {"prompt": "x"}), ValueError),
        ((None, None, {}), ValidationError),
        ((None, None, {"prompt": "x", "zoom": 2}), ValidationError),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[Any, Any, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        _job_of(*arguments)
