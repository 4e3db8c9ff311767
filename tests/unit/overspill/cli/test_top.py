"""`overspill top`: one frame, in every room; and the live view on a real terminal, whose ledger comes and goes."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ledger import Ledger
from ledger.decisions import RunInhouse
from ledger.limits import Limits
from ledger.models import Kind
from ledger.states import State
from overspill.cli.top import Snapshot, frame, take
from tests.support.ledgers import MODAL, fresh_ledger, move_clock, place, start_inhouse, submit
from tests.support.redis_server import RedisServer, running_redis
from tests.support.settings import ledger_settings_of

REPOSITORY = Path(__file__).parents[4]
CAP = 20_000_000


@pytest.fixture
def ledger(redis_server: RedisServer) -> Iterator[Ledger]:
    with fresh_ledger(redis_server.url(2)) as fresh:
        yield fresh


def busy(ledger: Ledger) -> Snapshot:
    """Two slots, a job that runs in-house and two that wait; a call that runs, one that is stopped, one to spawn."""
    ledger.attempts.slot_lives([Kind.RENDER], worker="a", lease_s=1000)
    ledger.attempts.slot_lives([Kind.RENDER], worker="b", lease_s=1000)
    submit(ledger)
    start_inhouse(ledger)
    ids = []
    for decision in (RunInhouse(), RunInhouse(), MODAL, MODAL, MODAL):
        ids.append(submit(ledger))
        place(ledger, decision, limits=Limits(month_cap_usd_micros=CAP, max_modal_attempts=100))
    ids = ids[2:]
    for number, job_id in enumerate(ids[:2]):
        ledger.modal_calls.record_call(job_id, 1, call_id=f"fc-{number}", first_check_s=1, deadline_s=100)
    ledger.jobs.cancel(ids[0])
    move_clock(ledger, 65)
    submit(ledger)
    return take(ledger, before=Snapshot(ledger.address, month_cap_usd_micros=CAP), since_s=0)


def drawn(shot: Snapshot, width: int, height: int | None = None) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(frame(shot, width=width, height=height))
    return console.export_text()


def test_a_frame_has_everything_that_there_is(ledger: Ledger) -> None:
    # given a busy system / when it is drawn
    text = re.sub(r" +", " ", drawn(busy(ledger), 120))
    # then queues, slots, calls, money and events are there
    assert "render 1 2 1 1 of 2 busy 1 min 5 s off" in text
    assert "3 calls: 1 running, 1 to spawn, 1 stopping H100 x3" in text
    assert "$0.0000 spent + $3.00 set aside of $20.00 this month" in text
    assert "15%" in text
    assert "job.cancelled modal H100 cancelled by request" in text
    assert "$1.00 set aside attempt 1" in text


def test_who_keeps_jobs_off_modal_is_shown(ledger: Ledger) -> None:
    # given an operator who turned spilling off, and a breaker that opened / when it is drawn / then both are there
    ledger.money.set_override("off", who="ada", why="")
    ledger.modal_calls.move_breaker(version=0, phase="open", reason="token_refused", memory="{}")
    text = drawn(take(ledger, before=Snapshot(ledger.address, month_cap_usd_micros=CAP), since_s=0), 100)
    assert "off, by an operator" in text
    assert "breaker open: token refused" in text


@pytest.mark.parametrize("width", [20, 40, 63, 80, 99, 150])
@pytest.mark.parametrize("height", [8, 24, 60])
def test_a_frame_fits(ledger: Ledger, width: int, height: int) -> None:
    # given a busy system whose ledger is away / when it is drawn in this room
    shot = replace(busy(ledger), away="expected an answer from Redis, got none", away_s=12)
    lines = drawn(shot, width, height).splitlines()
    # then no line is too long, the height is kept where it can be, and the counts are there
    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 16)
    assert any("render" in line for line in lines)
    assert any("away" in line for line in lines)


def test_an_empty_ledger_and_one_never_seen_can_be_drawn(ledger: Ledger, tmp_path: Path) -> None:
    # given an empty ledger / then it is drawn
    nothing = Snapshot(ledger.address, month_cap_usd_micros=0)
    assert "0 calls" in drawn(take(ledger, before=nothing, since_s=0), 80)
    # given a ledger that never answered / then that is drawn too, with how long
    with fresh_away() as away:
        first = take(away, before=nothing, since_s=1)
        later = take(away, before=first, since_s=3)
    text = drawn(later, 100)
    assert "nothing has been seen yet" in text
    assert "away for 3.0 s" in text


def fresh_away() -> Ledger:
    return Ledger(ledger_settings_of({"ledger_url": "redis://127.0.0.1:1/0"}))


def test_calls_in_flight_are_bounded_and_counted(ledger: Ledger) -> None:
    # given three calls / when two are asked for / then two come, the oldest first, and all are counted
    busy(ledger)
    calls, total = ledger.stats.calls_in_flight(limit=2)
    assert total == 3
    assert [call.is_stopping for call in calls] == [False, False]
    assert {call.state for call in calls} == {State.PLACED, State.RUNNING}
    assert len(ledger.stats.events(limit=4)) == 4


class Terminal:
    """A command on a pseudo-terminal, read as it goes."""

    def __init__(self, *arguments: str, environment: dict[str, str], cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "overspill.cli", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "90", "LINES": "30"}
            | environment,
        )
        os.close(theirs)

    def until(self, words: str, timeout_s: float = 20) -> None:
        """Read on until the words appear after what was read before."""
        seen, end = "", time.monotonic() + timeout_s
        while words not in seen:
            assert time.monotonic() < end, (words, seen[-2000:])
            seen += self._read(0.2)

    def _read(self, wait_s: float) -> str:
        if not select.select([self._ours], [], [], wait_s)[0]:
            return ""
        try:
            text = os.read(self._ours, 65_536).decode(errors="replace")
        except OSError:
            return ""
        self.shown += text
        return text

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(20)
        while self._read(0.1):
            pass
        os.close(self._ours)
        return code


def test_on_a_terminal_it_lives_through_a_ledger_that_goes_and_comes(tmp_path: Path) -> None:
    # given `top` on a terminal, and a Redis of its own
    with running_redis(tmp_path) as server:
        terminal = Terminal("top", "--every", "0.1", environment={"OVERSPILL_LEDGER_URL": server.url()}, cwd=tmp_path)
        try:
            terminal.until("UTC")
            # when Redis dies, and comes back
            server.kill()
            terminal.until("the ledger is away")
            server.start()
            terminal.until("calls")
            assert "Traceback" not in terminal.shown
        finally:
            # when somebody presses Ctrl-C / then it ends well, and gives the terminal back as it was
            code = terminal.end(2)
    assert code == 0
    assert terminal.shown.count("\x1b[?1049h") == terminal.shown.count("\x1b[?1049l") == 1
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")
    assert "Traceback" not in terminal.shown


def test_without_a_terminal_it_is_one_plain_frame(redis_server: RedisServer, tmp_path: Path) -> None:
    # given no terminal / when it is run / then one frame comes, without a control character
    ended = subprocess.run(
        [sys.executable, "-m", "overspill.cli", "top"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OVERSPILL_LEDGER_URL": redis_server.url(4)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("UTC") == 1
    assert "\x1b" not in ended.stdout
