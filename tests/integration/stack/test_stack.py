"""The whole stack as processes, and the commands that speak to it."""

import io
import json
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from infra.celery_config import queue_names
from ledger import Kind, State
from ledger.store import Ledger
from overspill.cli.checks.finding import Health
from overspill.dev.errors import AlreadyRunning
from overspill.dev.procfile import read_procfile
from overspill.dev.stack import Stack, StackOptions
from overspill.dev.state_folder import read_environment
from tests.support.chromium import page_after_scripts
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.settings import ledger_settings_of
from tests.support.stack import REPOSITORY, overspill_command, processes_of
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(240)


class Answer:
    """What a command said."""

    def __init__(self, stack: Stack, *arguments: str) -> None:
        folder = stack.folder.path
        process = overspill_command("--state", str(folder), *arguments, cwd=folder)
        self.out, self.err = process.communicate(timeout=90)
        self.code = process.returncode

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def test_a_job_goes_the_whole_way_by_the_command_line(stack: Stack) -> None:
    # given a running stack / when a video is submitted and waited for
    answer = Answer(stack, "submit", "a kite over the dunes", "--size", "320x180", "--seconds", "1", "--wait")
    # then the id is all that stands on stdout, and it completed
    assert answer.code == 0, answer.err
    job_id = answer.out.strip()
    assert job_id.startswith("video_")
    assert "completed (in-house)" in answer.err
    # and the list has it, with what it cost
    [row] = [row for row in Answer(stack, "jobs", "--json").json if row["id"] == job_id]
    assert (row["state"], row["pool"], row["attempt"]) == ("completed", "inhouse", 1)
    assert row["cost_usd_micros"] > 0
    assert row["request"]["prompt"] == "a kite over the dunes"
    # and the API gives the video, through S3
    video = httpx.get(
        f"{stack.api_url}/v1/videos/{job_id}/content",
        headers={"Authorization": f"Bearer {stack.api_key}"},
        follow_redirects=True,
        trust_env=False,
    )
    with av.open(io.BytesIO(video.content)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (320, 180)


def test_a_job_on_modal_goes_the_whole_way(stack: Stack) -> None:
    # given a running stack / when a job must run on Modal
    answer = Answer(
        stack, "submit", "a whale", "--size", "320x180", "--seconds", "1", "--burst", "always", "--wait", "--json"
    )
    # then it did, on a GPU class, for dollars
    assert answer.code == 0, answer.err
    assert answer.json["pool"] == "modal"
    assert answer.json["gpu"]
    assert answer.json["cost_usd_micros"] > 0


def test_cancelling_and_watching(stack: Stack) -> None:
    # given a job that takes long
    job_id = Answer(stack, "submit", "a long journey", "--size", "1792x1024", "--seconds", "20").out.strip()
    # when it is cancelled / then that is said, and a second time there is nothing to cancel
    assert Answer(stack, "cancel", job_id).code == 0
    again = Answer(stack, "cancel", job_id)
    assert again.code == 1
    assert again.err.count("\n") == 1
    assert "has already ended: it is cancelled" in again.err
    # and watching it says how it ended, by the exit code too
    watched = Answer(stack, "watch", job_id)
    assert watched.code == 1
    assert "cancelled" in watched.err


def test_the_doctor_is_content_with_the_stack(stack: Stack) -> None:
    # given a running stack / when the doctor looks at it
    answer = Answer(stack, "doctor", "--json")
    # then nothing is wrong
    assert [finding for finding in answer.json if finding["health"] != Health.OK] == []
    assert answer.code == 0


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["submit", ""], "prompt"),
        (["submit", "x", "--seconds", "0"], "seconds"),
        (["submit", "x", "--seconds", "abc"], "--seconds"),
        (["submit", "x", "--size", "1x1"], "size"),
        (["submit", "x", "--burst", "maybe"], "burst"),
        (["watch", "video_unknown"], "video_unknown"),
        (["cancel", "video_unknown"], "video_unknown"),
        (["jobs", "--state", "lost"], "--state"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_trace(stack: Stack, arguments: list[str], names: str) -> None:
    # given the jobs that there are
    with ledger_of(stack) as ledger:
        before = len(ledger.jobs.page(Kind.RENDER, limit=100).records)
        # when a command is given wrongly
        answer = Answer(stack, *arguments)
        # then one sentence on stderr names what is wrong, and nothing else happens
        assert answer.code in (1, 2)
        assert answer.out == ""
        assert answer.err.startswith("overspill: ")
        assert names in answer.err
        assert answer.err.count("\n") == 1
        assert len(ledger.jobs.page(Kind.RENDER, limit=100).records) == before


def asked(stack: Stack, *, prompt: str, burst: str, **headers: str) -> str:
    """A small video, asked for over HTTP and waited for."""
    answer = httpx.post(
        f"{stack.api_url}/v1/videos",
        json={"prompt": prompt, "size": "320x180", "seconds": 1, "burst": burst},
        headers={"Authorization": f"Bearer {stack.api_key}", **headers},
        trust_env=False,
        timeout=30,
    )
    job_id = str(answer.json()["id"])
    with ledger_of(stack) as ledger:
        until(lambda: ledger.jobs.get(job_id).state, lambda state: state is State.COMPLETED, timeout_s=90)
    return job_id


def ledger_of(stack: Stack) -> Ledger:
    return Ledger(ledger_settings_of({"ledger_url": stack.environment["OVERSPILL_LEDGER_URL"]}))


def flower_json(stack: Stack, path: str) -> Any:
    """An answer of Flower's API, to who has the password."""
    user, _, password = stack.environment["FLOWER_BASIC_AUTH"].partition(":")
    url = stack.environment["OVERSPILL_FLOWER_URL"] + path
    answer = httpx.get(url, auth=(user, password), trust_env=False, timeout=20)
    assert answer.status_code == 200, answer.text[:500]
    return answer.json()


@pytest.mark.parametrize(
    ("burst", "way"),
    [
        ("never", {"POST /v1/videos", "decide", "run in-house", "put into S3"}),
        ("always", {"POST /v1/videos", "decide", "spawn", "call on Modal", "execute", "put into S3"}),
    ],
)
def test_a_job_is_one_trace_from_its_request_to_its_artifact(
    stack: Stack, collector: OtlpReceiver, burst: str, way: set[str]
) -> None:
    # given a caller with a trace of its own
    trace_id, caller = secrets.token_hex(16), secrets.token_hex(8)
    # when it asks for a video that runs in-house, or on Modal
    job_id = asked(stack, prompt="a heron", burst=burst, traceparent=f"00-{trace_id}-{caller}-01")
    # then every step of it is in the caller's trace, across all processes
    spans = until(lambda: collector.trace(trace_id), lambda found: way <= {span.name for span in found}, timeout_s=30)
    # and connected: each has its parent in the trace, up to the caller
    ids = {span.span_id for span in spans}
    roots = [span for span in spans if span.parent_id not in ids]
    assert [(span.name, span.parent_id) for span in roots] == [("POST /v1/videos", caller)]
    assert {span.attributes["overspill.job_id"] for span in spans if "overspill.job_id" in span.attributes} == {job_id}
    # and in the order of time; what the container did lies within its call
    by_name = {span.name: span for span in spans}
    assert all(span.began_at <= span.ended_at for span in spans)
    if burst == "always":
        call, work = by_name["call on Modal"], by_name["execute"]
        assert call.began_at - 0.05 <= work.began_at <= work.ended_at <= call.ended_at + 0.05
        assert work.parent_id == call.span_id == by_name["put into S3"].parent_id
    # and no prompt is in it
    assert "heron" not in str(spans)


def test_flower_refuses_whoever_has_no_password(stack: Stack) -> None:
    # given Flower of the stack / when its pages and its API are asked without a password, or with a wrong one
    url = stack.environment["OVERSPILL_FLOWER_URL"]
    user = stack.environment["FLOWER_BASIC_AUTH"].partition(":")[0]
    # then it refuses
    for path in ("/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/api/queues/length"):
        assert httpx.get(url + path, trust_env=False).status_code == 401, path
        assert httpx.get(url + path, auth=(user, "wrong"), trust_env=False).status_code == 401, path
    # and nobody without it can have a task sent, or a worker shut down
    assert httpx.post(f"{url}/api/task/send-task/tasks.render", json={}, trust_env=False).status_code == 401
    assert httpx.post(f"{url}/api/worker/shutdown/gpu-1@here", trust_env=False).status_code == 401


def test_flower_shows_what_runs(stack: Stack, tmp_path: Path) -> None:
    # given jobs that run in-house and on Modal
    ids = [asked(stack, prompt="a kite", burst=burst) for burst in ("never", "always")]
    # when Flower's API is asked / then it knows the workers by their events
    workers = until(
        lambda: flower_json(stack, "/workers?json=1")["data"],
        lambda rows: all(any(name in str(row) for row in rows) for name in ("gpu-1@", "dispatch-1@", "overflow-1@")),
        timeout_s=60,
    )
    assert len(workers) == 3
    # and our queues in the broker, each with its length
    queues = {row["name"] for row in flower_json(stack, "/api/queues/length")["active_queues"]}
    assert queues == set(queue_names())
    # and the tasks, each with the job that it was about
    tasks = until(
        lambda: flower_json(stack, "/api/tasks?state=SUCCESS"),
        lambda found: any(ids[0] in str(task["result"]) for task in found.values()),
        timeout_s=30,
    )
    assert {"tasks.dispatch", "tasks.run_inhouse", "tasks.spawn_overflow"} <= {task["name"] for task in tasks.values()}
    # and the length of tasks is counted up to a day
    metrics = httpx.get(stack.environment["OVERSPILL_FLOWER_URL"] + "/metrics", trust_env=False).text
    assert 'le="86400.0"' in metrics
    # when a person opens its pages in a browser / then they show the same
    address = stack.environment["OVERSPILL_FLOWER_URL"].replace("://", f"://{stack.environment['FLOWER_BASIC_AUTH']}@")
    page = page_after_scripts(f"{address}/tasks", profile=tmp_path / "chromium")
    assert "tasks.run_inhouse" in page
    assert ids[0] in page
    page = page_after_scripts(f"{address}/broker", profile=tmp_path / "chromium")
    assert all(f">{name}<" in "".join(page.split()) for name in queue_names())


def test_flower_does_not_run_open(stack: Stack) -> None:
    # given the Procfile's own line, without a password in the environment
    environment = {name: value for name, value in stack.process_environment.items() if name != "FLOWER_BASIC_AUTH"}
    command = read_procfile(REPOSITORY / "Procfile")["flower"]
    # when it is run / then it refuses, and says why
    ended = subprocess.run(
        ["/bin/sh", "-c", command],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode != 0
    assert "FLOWER_BASIC_AUTH" in ended.stderr


def test_a_second_stack_in_the_same_folder_is_refused(stack: Stack) -> None:
    # given a running stack / when another is started in its folder
    second = Stack(StackOptions(folder=stack.folder.path, root=REPOSITORY))
    # then it is refused, and the first is not disturbed
    with pytest.raises(AlreadyRunning):
        second.start()
    second.stop()
    assert stack.dead_service() is None
    assert httpx.get(f"{stack.api_url}/readyz", trust_env=False).status_code == 200
    assert read_environment(stack.folder.path)["OVERSPILL_API_URL"] == stack.api_url


def test_a_killed_worker_comes_back(stack: Stack) -> None:
    # given the in-house worker
    assert stack.supervisor is not None
    worker = stack.supervisor["gpu.1"]
    starts = worker.starts
    # when it is killed as a crash would
    worker.process.signal(signal.SIGKILL)
    # then it is started again, and work is done by it
    answer = Answer(stack, "submit", "again", "--size", "320x180", "--seconds", "1", "--burst", "never", "--wait")
    assert answer.code == 0, answer.err
    assert worker.starts == starts + 1


@pytest.mark.chaos
def test_up_leaves_nothing_when_it_is_killed(tmp_path: Path) -> None:
    # given `overspill up`, ready
    folder = tmp_path / "state"
    up = overspill_command("--state", str(folder), "up", "--slots", "1", "--no-flower", "--no-logs", cwd=tmp_path)
    try:
        assert up.stdout is not None
        lines = []
        for line in up.stdout:
            lines.append(line)
            if line == "ready\n":
                break
        names = [line.split()[0] for line in lines]
        assert names[:2] == ["api", "api_key"]
        assert names[-1] == "ready"
        assert len(processes_of(folder)) > 8
    finally:
        # when it gets SIGKILL, which nobody can handle
        up.kill()
        up.communicate(timeout=20)
    # then all its processes end, and the folder can be used again
    until(lambda: processes_of(folder), lambda left: not left, timeout_s=20)
    _starts_and_stops_in_good_order(folder, signal.SIGTERM)


def test_up_stops_in_good_order(tmp_path: Path) -> None:
    _starts_and_stops_in_good_order(tmp_path / "state", signal.SIGINT)


def _starts_and_stops_in_good_order(folder: Path, number: signal.Signals) -> None:
    # given `overspill up` that is being started: the most awkward moment
    up = overspill_command("--state", str(folder), "up", "--slots", "1", "--no-flower", "--no-logs", cwd=folder.parent)
    assert up.stderr is not None
    for line in up.stderr:
        if line.startswith("... starting"):
            break
    # when it is asked to stop
    up.send_signal(number)
    _, err = up.communicate(timeout=60)
    # then it does, without a traceback, and nothing is left
    assert up.returncode == 0, err
    assert "Traceback" not in err
    assert err.endswith("... stopped\n")
    assert processes_of(folder) == {}


def test_the_exporter_shows_the_stack(stack: Stack) -> None:
    # given the stack's exporter / when it is scraped
    text = httpx.get(stack.environment["OVERSPILL_EXPORTER_URL"] + "/metrics", trust_env=False, timeout=10).text
    # then it shows the ledger, the slot that lives, and the duties that are done
    assert "overspill_up 1.0" in text
    assert 'overspill_slots_live{kind="render"} 1.0' in text
    assert 'overspill_duty_timestamp_seconds{duty="expired-leases"}' in text
    assert 'overspill_duty_timestamp_seconds{duty="follower"}' in text
    # and nothing is counted that it does not know
    assert "overspill_exporter_unlisted_series 0.0" in text
