"""What the demo shows, and what it takes for a success."""

import io
from collections.abc import Sequence
from dataclasses import replace

import av
import numpy as np
import pytest
from rich.console import Console

from ledger.decisions import SpillState
from ledger.models import JobRecord, Kind
from ledger.states import Pool, State
from ledger.view import ClusterView, KindView, MoneyView
from overspill.demo.burst import PROMPTS
from overspill.demo.picture import Picture, changes, table
from overspill.demo.proof import what_is_wrong_with
from overspill.demo.render import judge
from overspill.terminal.records import short
from tests.unit.overspill.terminal.test_records import RENDER

VIEW = ClusterView(
    now_ms=20_000,
    kinds={Kind.RENDER: KindView(waiting_inhouse=3, active_inhouse=2, live_slots=2, spill=SpillState(active=True))},
    modal_attempts=4,
    money=MoneyView(spent_usd_micros=12_345, reserved_usd_micros=240_000),
)
QUIET = replace(VIEW, kinds={Kind.RENDER: KindView(live_slots=2)})


def jobs(count: int, *, state: State = State.COMPLETED, modal_from: int = 5) -> list[JobRecord]:
    return [
        replace(
            RENDER,
            id=f"video_{number:032x}",
            state=state,
            pool=Pool.INHOUSE if number < modal_from else Pool.MODAL,
            gpu=None if number < modal_from else "H100",
            cost_usd_micros=1_000,
        )
        for number in range(count)
    ]


def picture(records: Sequence[JobRecord], view: ClusterView = VIEW) -> Picture:
    return Picture(expected=12, records=records, view=view, containers=2, elapsed_s=4.2)


def drawn(shown: Picture, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, record=True)
    console.print(table(shown, width=width))
    return console.export_text()


def test_there_are_twelve_different_prompts() -> None:
    # given / when / then
    assert len(set(PROMPTS)) == 12


@pytest.mark.parametrize("width", [80, 118, 200])
def test_the_table_shows_every_job_and_fits(width: int) -> None:
    # given eight jobs that run, and four to come / when the table is drawn
    text = drawn(picture(jobs(8, state=State.RUNNING)), width)
    # then it fits, and each job is there whole with its state and place
    assert max(map(len, text.splitlines())) <= width
    for record in jobs(8):
        assert short(record.id) in text
    assert text.count("running") == 8
    assert text.count("modal H100") == 3
    assert text.count("not yet arrived") == 4
    # and above it stands what the placement sees
    for words in ("2 of 2 slots busy, 3 wait", "spill ON", "4 calls, 2 containers", "$0.0123 + $0.2400 reserved"):
        assert words in text


def test_the_prompt_is_shown_where_there_is_room() -> None:
    # given a job / when it is drawn wide and narrow / then its prompt is there, and is not
    assert "a red ball" in drawn(picture(jobs(1)), 118)
    assert "a red ball" not in drawn(picture(jobs(1)), 80)


def test_lines_tell_changes_once() -> None:
    # given a job that was queued, and then runs while the spill begins
    [record] = jobs(1)
    before = picture([replace(record, state=State.QUEUED, pool=None)], QUIET)
    after = picture([replace(record, state=State.RUNNING)])
    # then the first picture tells the job, the second what has changed, the same again tells nothing
    assert [line.partition(" s ")[2].strip() for line in changes(None, before)] == [f"1 {record.id} queued"]
    told = changes(before, after)
    assert len(told) == 2
    assert "spill ON, 3 wait in-house" in told[0]
    assert f"{record.id} running on in-house" in told[1]
    assert changes(after, after) == []


def test_success_needs_all_twelve_on_both_sides() -> None:
    # given twelve completed jobs on both sides / then it is a success, and the last line says so
    verdict = judge(jobs(12), expected=12, spent_usd_micros=63_900)
    assert verdict.exit_code == 0
    assert verdict.last_line == "demo: 12 completed, 0 failed, 5 in-house, 7 on modal, $0.0639 spent"


@pytest.mark.parametrize(
    ("records", "spent_usd_micros", "doubts", "complaint"),
    [
        (jobs(11), 1, [], "expected 12 jobs, 11 were accepted"),
        ([*jobs(11), replace(RENDER, state=State.FAILED, error_code="crash")], 1, [], "is failed: crash"),
        ([*jobs(11), replace(RENDER, state=State.RUNNING)], 1, [], "is running"),
        (jobs(12, modal_from=12), 1, [], "expected some jobs to run on Modal"),
        (jobs(12, modal_from=0), 1, [], "expected some jobs to run in-house"),
        (jobs(12), 0, [], "nothing was spent"),
        (jobs(12), 1, ["video_x: it cannot be played"], "cannot be played"),
    ],
)
def test_everything_else_is_a_failure_with_its_reason(
    records: list[JobRecord], spent_usd_micros: int, doubts: list[str], complaint: str
) -> None:
    # given something that is not as it should be / when it is judged / then the exit code is 1, and the reason is said
    verdict = judge(records, expected=12, spent_usd_micros=spent_usd_micros, doubts=doubts)
    assert verdict.exit_code == 1
    assert any(complaint in said for said in verdict.complaints), verdict.complaints
    assert verdict.completed + verdict.failed == 12


def mp4(width: int, height: int, frames: int) -> bytes:
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            blank = np.zeros((height, width, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(blank, format="rgb24")))
        container.mux(stream.encode())
    return sink.getvalue()


def test_a_video_is_looked_at_frame_by_frame() -> None:
    # given a whole video, a short one, a small one, half of one, and none at all / then only the first is well
    whole = mp4(1280, 720, 96)
    assert what_is_wrong_with(whole) is None
    assert "95 frames" in str(what_is_wrong_with(mp4(1280, 720, 95)))
    assert "got 640x360" in str(what_is_wrong_with(mp4(640, 360, 96)))
    assert what_is_wrong_with(whole[: len(whole) // 2]) is not None
    assert "cannot be played" in str(what_is_wrong_with(b"no video"))
