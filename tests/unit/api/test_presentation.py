"""Records into Video objects, as OpenAI's own types read them."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types import Video, VideoDeleteResponse

from api.presentation import POLL_MAX_MS, POLL_MIN_MS, deletion, poll_after_ms, video, video_list
from ledger.models import Artifact, BurstMode, JobRecord, Kind, RenderJob, TrainJob
from ledger.states import Pool, State

# Machines differ: what is checked is the outcome, never how fast it was found.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

WAITING = JobRecord(
    id="video_1",
    kind=Kind.RENDER,
    tenant="default",
    state=State.QUEUED,
    priority=5,
    burst=BurstMode.AUTO,
    created_ms=1_700_000_000_999,
    changed_ms=1_700_000_000_999,
    spec=RenderJob(prompt="a ball", seconds=8, model="sora-2").model_dump_json(),
)
DONE = replace(
    WAITING,
    state=State.COMPLETED,
    progress=100,
    attempt=2,
    pool=Pool.MODAL,
    gpu="H100",
    started_ms=1_700_000_010_000,
    finished_ms=1_700_000_020_500,
    cost_usd_micros=123_456,
    artifact=Artifact("b", "k", None, 3, "0"),
)
REQUIRED = {
    "id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at", "prompt", "size",
    "seconds", "remixed_from_video_id", "error",
}  # fmt: skip


def test_a_completed_job_is_read_by_openais_type_strictly() -> None:
    # when
    answer = video(DONE)
    read = Video.model_validate(answer, strict=True)
    # then
    assert answer.keys() >= REQUIRED
    assert (read.id, read.status, read.progress, read.seconds, read.model) == (
        "video_1", "completed", 100, "8", "sora-2",
    )  # fmt: skip
    assert (read.created_at, read.completed_at, read.error) == (1_700_000_000, 1_700_000_020, None)
    assert answer["x_pool"] == "modal"
    assert answer["x_gpu"] == "H100"
    assert answer["x_attempt"] == 2
    assert answer["x_cost_usd"] == 0.123456


@pytest.mark.parametrize("state", State)
def test_each_state_has_one_of_the_four_words(state: State) -> None:
    answer = video(replace(WAITING, state=state))
    Video.model_validate(answer, strict=True)
    assert answer["status"] in ("queued", "in_progress", "completed", "failed")
    assert answer["x_state"] == state
    assert (answer["error"] is not None) == (state in (State.FAILED, State.CANCELLED))


def test_a_cancelled_job_has_failed_with_the_code_cancelled() -> None:
    answer = video(replace(WAITING, state=State.CANCELLED, error_code="cancelled", error_message="by request"))
    assert answer["status"] == "failed"
    assert answer["error"] == {"code": "cancelled", "message": "The job was cancelled."}


def test_a_page_names_its_ends() -> None:
    assert video_list([], has_more=False) == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False,
    }  # fmt: skip
    page = video_list([DONE, replace(WAITING, id="video_2")], has_more=True)
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("video_1", "video_2", True)


@pytest.mark.parametrize(
    ("state", "deleted"), [(State.CANCELLED, True), (State.FAILED, True), (State.COMPLETED, False)]
)
def test_deletion_says_honestly_whether_a_video_is_left(state: State, *, deleted: bool) -> None:
    answer = VideoDeleteResponse.model_validate(deletion("video_1", state), strict=True)
    assert (answer.id, answer.deleted, answer.object) == ("video_1", deleted, "video.deleted")


@patient
@given(
    waited_ms=st.integers(-(10**6), 10**10),
    progress=st.integers(0, 100),
    started=st.none() | st.integers(-(10**6), 10**10),
)
def test_the_wait_between_looks_is_a_bounded_whole_number(waited_ms: int, progress: int, started: int | None) -> None:
    record = replace(
        WAITING,
        state=State.RUNNING,
        progress=progress,
        started_ms=None if started is None else WAITING.created_ms + started,
    )
    wait_ms = poll_after_ms(record, WAITING.created_ms + waited_ms)
    assert isinstance(wait_ms, int)
    assert POLL_MIN_MS <= wait_ms <= POLL_MAX_MS


def test_the_wait_follows_what_is_known() -> None:
    # given a job that has just come: by the length of its clip
    assert poll_after_ms(WAITING, WAITING.created_ms) == 2000
    # when it has waited for two minutes: a twentieth of that
    assert poll_after_ms(WAITING, WAITING.created_ms + 120_000) == 6000
    # when it has run for 60 s and is half done: a twentieth of the other half
    running = replace(WAITING, state=State.RUNNING, progress=50, started_ms=WAITING.created_ms)
    assert poll_after_ms(running, WAITING.created_ms + 60_000) == 3000
    # then, ended: no more looks
    assert poll_after_ms(DONE, WAITING.created_ms) is None


def test_a_train_job_is_no_video() -> None:
    with pytest.raises(TypeError, match="render"):
        video(replace(WAITING, kind=Kind.TRAIN, spec=TrainJob(recipe="image_classifier").model_dump_json()))


def test_a_listing_leaves_out_what_this_version_cannot_read() -> None:
    # given a page of two, of which another version wrote one
    page = video_list([replace(WAITING, id="video_new", spec="{"), WAITING], has_more=False)
    # when it is shown / then the other is there, and the next page begins where it would have
    assert [entry["id"] for entry in page["data"]] == [WAITING.id]  # type: ignore[attr-defined]
    assert page["first_id"] == "video_new"
