"""What the commands say of a job."""

import json
from dataclasses import replace

import pytest

from ledger.models import BurstMode, JobRecord, Kind
from ledger.states import Pool, State
from overspill.terminal.records import age_s, as_json, how_it_stands, place, summary
from overspill.terminal.text import dollars

RENDER = JobRecord(
    id="video_0123456789ab00112233445566778899aabb",
    kind=Kind.RENDER,
    tenant="default",
    state=State.RUNNING,
    priority=5,
    burst=BurstMode.AUTO,
    created_ms=10_000,
    changed_ms=12_000,
    attempt=1,
    pool=Pool.MODAL,
    gpu="H100",
    progress=40,
    spec='{"kind": "render", "prompt": "a red\\n ball"}',
)


@pytest.mark.parametrize(
    ("usd_micros", "words"),
    [(0, "$0.0000"), (2_529, "$0.0025"), (999_999, "$1.0000"), (1_440_000, "$1.44"), (1_234_567_890, "$1,234.57")],
)
def test_dollars_have_as_many_digits_as_they_need(usd_micros: int, words: str) -> None:
    # given an amount / when it is said / then small ones keep their digits
    assert dollars(usd_micros) == words


def test_a_place_names_the_gpu_class() -> None:
    # given jobs in each pool / then it is said where they are
    assert place(RENDER) == "modal H100"
    assert place(replace(RENDER, pool=Pool.INHOUSE, gpu=None)) == "in-house"
    assert place(replace(RENDER, pool=None, gpu=None)) == "-"


def test_age_stops_at_the_end() -> None:
    # given a job that runs, and one that has ended / then the age of the second does not grow
    assert age_s(RENDER, 15_000) == 5.0
    assert age_s(replace(RENDER, finished_ms=14_500), 99_000) == 4.5


def test_what_holds_or_ended_a_job_is_said() -> None:
    # given a held job and a failed one / then the reason is named
    held = replace(RENDER, state=State.HELD, pool=None, held_reason="budget_exhausted")
    assert how_it_stands(held) == "held: budget_exhausted"
    failed = replace(RENDER, state=State.FAILED, error_code="out_of_memory", error_message="48 GiB are too few")
    assert how_it_stands(failed) == "failed (modal H100): out_of_memory: 48 GiB are too few"


def test_a_summary_fits_a_line() -> None:
    # given a prompt with a line break, and a training run / then each is one line
    assert summary(RENDER) == "a red ball"
    training = replace(RENDER, kind=Kind.TRAIN, spec='{"kind": "train", "recipe": "image_classifier", "steps": 70}')
    assert summary(training) == "image_classifier, 70 steps"


def test_the_json_of_a_job_is_json() -> None:
    # given a record / when it is made into JSON and back / then nothing is lost
    facts = json.loads(json.dumps(as_json(RENDER)))
    assert facts["state"] == "running"
    assert facts["pool"] == "modal"
    assert facts["error"] is None
    assert facts["request"]["prompt"] == "a red\n ball"
