"""A render travels the whole way, from each of its front doors to a playable MP4 in S3."""

import io
import subprocess
import sys
import sysconfig
import textwrap

import av
import openai
import pytest

from infra.nudging import CeleryNudger
from ledger import Kind, Pool, RenderJob, State
from ledger.nudges import decide
from tests.integration.flow.conftest import Whole
from tests.support.waiting import until


def _submit(whole: Whole, **fields: object) -> str:
    job = RenderJob.model_validate({"prompt": "a paper boat on a stream", "seconds": 2, "size": "320x180", **fields})
    return whole.ledger.jobs.submit(job, source="client").job_id


def _nudge(whole: Whole) -> None:
    nudger = CeleryNudger(whole.settings)
    assert nudger.send(decide(Kind.RENDER))
    nudger.close()


@pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The Videos API:DeprecationWarning")
def test_the_openai_client_creates_polls_and_downloads(whole: Whole) -> None:
    # Given the real client, pointed at us
    with openai.OpenAI(base_url=f"{whole.stack.api_url}/v1", api_key=whole.stack.api_key) as client:
        # When it makes a video and waits for it
        video = client.videos.create_and_poll(
            prompt="a lighthouse in a storm at night", model="sora-2", seconds="4", size="1280x720"
        )
        # Then it is there, whole, and as it was asked for
        assert (video.status, video.progress, video.seconds, video.size) == ("completed", 100, "4", "1280x720")
        content = client.videos.download_content(video.id).read()
        thumbnail = client.videos.download_content(video.id, variant="thumbnail").read()
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 1280, 720)
        assert (float(stream.average_rate or 0), frames) == (24.0, 96)
    assert thumbnail[8:12] == b"WEBP"


def test_a_burst_fills_the_slots_and_spills_the_rest(whole: Whole) -> None:
    # Given two slots and a watermark of two, when nine jobs arrive at once
    ids = [_submit(whole, prompt=f"kite number {number}", seconds=4, size="640x360") for number in range(9)]
    _nudge(whole)
    ended = [whole.ended(job_id, timeout_s=90) for job_id in ids]
    # Then all complete, on both pools, each with one artifact, and no dollar is left reserved
    assert {record.state for record in ended} == {State.COMPLETED}
    assert {record.pool for record in ended} == {Pool.INHOUSE, Pool.MODAL}
    for record in ended:
        assert sorted(key.rsplit("/", 1)[1] for key in whole.objects(record.id)) == ["thumbnail.webp", "video.mp4"]
        assert record.artifact is not None
        assert record.artifact.key in whole.objects(record.id)
        assert record.cost_usd_micros > 0
        assert len(whole.ledger.jobs.receipts(record.id)) == 1
    spilled = [record for record in ended if record.pool is Pool.MODAL]
    assert {record.gpu for record in spilled} == {"H100"}
    view = whole.settled()
    assert view.money.spent_usd_micros >= sum(record.cost_usd_micros for record in spilled)


def test_a_process_with_only_celery_enqueues(whole: Whole) -> None:
    # Given a Python that has Celery and nothing of ours (-S leaves our path entry out)
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.append({sysconfig.get_path("purelib")!r})
        for ours in ("ledger", "infra", "workers", "overspill", "tasks"):
            try:
                __import__(ours)
            except ModuleNotFoundError:
                continue
            sys.exit(f"{{ours}} was importable")
        from celery import Celery
        app = Celery(broker={whole.stack.redis.url(1)!r})
        sent = app.send_task("tasks.render", kwargs={{"prompt": "only celery", "seconds": "4", "size": "320x180"}})
        app.close()
        print(sent.id)
        """
    )
    known = {record.id for record in whole.ledger.jobs.page(Kind.RENDER, limit=500).records}
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, timeout=60, cwd="/")

    # Then the job is in the ledger, and completes
    def new() -> list[str]:
        return [r.id for r in whole.ledger.jobs.page(Kind.RENDER, limit=500).records if r.id not in known]

    (job_id,) = until(new, bool, timeout_s=30)
    record = whole.ended(job_id)
    assert record.state is State.COMPLETED
    assert isinstance(record.job, RenderJob)
    assert (record.job.prompt, record.job.seconds) == ("only celery", 4)


def test_a_job_that_must_not_burst_stays_in_house_and_one_that_must_does(whole: Whole) -> None:
    never, always = _submit(whole, burst="never"), _submit(whole, burst="always")
    _nudge(whole)
    assert whole.ended(never).pool is Pool.INHOUSE
    assert whole.ended(always).pool is Pool.MODAL


def test_a_lost_nudge_costs_time_and_never_the_job(whole: Whole) -> None:
    # Given a job whose nudge was never sent, when nobody does anything, then it completes all the same
    assert whole.ended(_submit(whole), timeout_s=60).state is State.COMPLETED


def test_a_train_job_ends_with_an_honest_reason_while_there_is_no_engine(whole: Whole) -> None:
    from ledger import TrainJob

    submitted = whole.ledger.jobs.submit(TrainJob(recipe="image_classifier"), source="client")
    record = whole.ended(submitted.job_id)
    assert (record.state, record.error_code) == (State.FAILED, "no_engine")
    assert "render" in (record.error_message or "")


def test_spilling_ends_when_the_queue_is_short_though_no_job_comes(whole: Whole) -> None:
    until(lambda: whole.ledger.placement.view().of(Kind.RENDER), lambda here: here.waiting_inhouse == 0, timeout_s=60)
    until(lambda: whole.ledger.placement.view().of(Kind.RENDER).spill, lambda spill: not spill.active, timeout_s=15)
