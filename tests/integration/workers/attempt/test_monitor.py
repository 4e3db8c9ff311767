"""What a process of the pool dies or hangs with is given up at once. (With a whole worker: test_hangs.py.)"""

import multiprocessing
import multiprocessing.process
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError
from celery import signals

from ledger import Kind, Ledger, State
from ledger.decisions import RunInhouse
from ledger.nudges import decide
from tasks.nudges import run_inhouse
from tasks.render import render
from tests.integration.workers.conftest import RecordingNudger
from tests.support.ledgers import place, submit
from workers.attempt.monitor import Clock, Overrun, WorkerProcessMonitor
from workers.attempt.slots import SlotTable, _Field
from workers.delivery import AttemptOf
from workers.resources import Resources

DIED = "Worker exited prematurely: signal 9 (SIGKILL) Job: 3."


def _started(ledger: Ledger, nudge_id: str) -> str:
    job_id = submit(ledger)
    place(ledger, RunInhouse())
    record = ledger.attempts.start_inhouse(Kind.RENDER, worker="gpu-1@here", lease_s=60, holder=nudge_id)
    assert record is not None
    assert record.id == job_id
    return job_id


def test_only_what_the_dead_process_had_is_given_up(resources: Resources, ledger: Ledger) -> None:
    # given two slots of one worker at work
    lost, other = _started(ledger, "nudge-1"), _started(ledger, "nudge-2")
    watch = WorkerProcessMonitor(resources, kills=lambda: 0)
    # when the process that took the first nudge dies; and one that had none, and the first once more
    for nudge_id in ("nudge-1", "nudge-3", "nudge-1"):
        watch.give_up(nudge_id, DIED, for_memory=False)
    # then that job waits again at once, somebody is told, and the other goes on
    record = ledger.jobs.get(lost)
    assert (record.state, record.attempt) == (State.QUEUED, 1)
    assert ledger.jobs.attempt(lost, 1)["outcome"] == "crash"
    assert DIED in ledger.jobs.attempt(lost, 1)["message"]
    assert ledger.jobs.get(other).state is State.RUNNING
    nudger = resources.nudger
    assert isinstance(nudger, RecordingNudger)
    assert nudger.sent == [decide(Kind.RENDER)]


def test_a_process_that_the_kernel_killed_for_memory_ran_out_of_it(resources: Resources, ledger: Ledger) -> None:
    # given a worker in whose group of processes none was killed yet
    kills = iter([0, 1])
    watch = WorkerProcessMonitor(resources, kills=lambda: next(kills))
    job_id = _started(ledger, "nudge-1")
    watch.start()
    # when Celery says that a process died, and the kernel counts one more
    try:
        told = {"task_id": "nudge-1", "exception": WorkerLostError(DIED)}
        signals.task_failure.send(sender=run_inhouse, **told)
    finally:
        watch.stop()
        watch.stop()
    watch.wait()
    # then it is an end for want of memory: counted as that, and kept in the job's history
    assert ledger.jobs.attempt(job_id, 1)["outcome"] == "out_of_memory"
    counters = ledger.counters()
    assert counters["out_of_memory_total|gpu=inhouse|kind=render|pool=inhouse|where=host"] == 1


def test_errors_of_tasks_are_none_of_its_business(resources: Resources, ledger: Ledger) -> None:
    # given a watch, and an attempt
    job_id = _started(ledger, "nudge-1")
    watch = WorkerProcessMonitor(resources)
    watch.start()
    # when a task raises, and a process that took another kind of message dies
    try:
        signals.task_failure.send(sender=run_inhouse, task_id="nudge-1", exception=ValueError("x"))
        signals.task_failure.send(sender=render, task_id="nudge-1", exception=WorkerLostError(DIED))
    finally:
        watch.stop()
    watch.wait()
    # then nothing happens
    assert ledger.jobs.get(job_id).state is State.RUNNING


@dataclass
class Hung:
    """A pool process that never beats, as its main process sees it, and the clock that passes for the monitor."""

    monitor: WorkerProcessMonitor
    process: multiprocessing.process.BaseProcess
    job_id: str
    now_s: list[float]

    def rounds(self, seconds: float) -> None:
        """Let the monitor look while so much time passes."""
        for _ in range(round(seconds)):
            self.now_s[0] += 1
            self.monitor.round()


@pytest.fixture
def hung(resources: Resources, ledger: Ledger) -> Iterator[Hung]:
    table = SlotTable(slots=1)
    job_id = _started(ledger, "nudge-1")
    context = multiprocessing.get_context("fork")
    began = context.Event()

    def work() -> None:
        table.take(AttemptOf(job_id, 1), Kind.RENDER, patience_s=20, wall_s=1000)
        began.set()
        signal.pause()

    process = context.Process(target=work)
    process.start()
    now_s = [0.0]
    try:
        assert began.wait(20)
        yield Hung(WorkerProcessMonitor(resources, table=table, clock=lambda: now_s[0]), process, job_id, now_s)
    finally:
        process.kill()
        process.join()


def _ends(ledger: Ledger, job_id: str) -> tuple[str, int]:
    attempt = ledger.jobs.attempt(job_id, 1)
    ended = [key for key in ledger.counters() if key.startswith("attempts_total|")]
    return attempt["outcome"], len(ended)


def test_the_death_that_celery_reports_after_a_hang_is_no_second_failure(hung: Hung, ledger: Ledger) -> None:
    # given a process that hung, was killed, and whose attempt has ended
    hung.rounds(25)
    hung.monitor.wait()
    hung.process.join(10)
    assert _ends(ledger, hung.job_id) == ("timeout", 1)
    # when Celery reports its death
    hung.monitor.give_up("nudge-1", DIED, for_memory=False)
    # then nothing is counted twice
    assert _ends(ledger, hung.job_id) == ("timeout", 1)


def test_the_death_that_celery_reports_first_is_a_hang_all_the_same(
    hung: Hung, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a process that hung and was killed, while the monitor's own word to the ledger is slow
    may_tell = threading.Event()
    tell = WorkerProcessMonitor._tell_hung

    def slowly(monitor: WorkerProcessMonitor, *args: Any) -> None:
        may_tell.wait(20)
        tell(monitor, *args)

    monkeypatch.setattr(WorkerProcessMonitor, "_tell_hung", slowly)
    hung.rounds(25)
    hung.process.join(10)
    # when Celery reports its death first
    hung.monitor.give_up("nudge-1", DIED, for_memory=False)
    # then the attempt ended as a timeout, and the other word changes nothing
    assert _ends(ledger, hung.job_id) == ("timeout", 1)
    may_tell.set()
    hung.monitor.wait()
    assert _ends(ledger, hung.job_id) == ("timeout", 1)


def test_a_host_that_was_suspended_has_no_hung_attempts(hung: Hung, ledger: Ledger) -> None:
    # given an attempt within its clock
    hung.rounds(2)
    # when the monitor did not run for an hour / then that hour does not count
    hung.now_s[0] += 3600
    hung.rounds(5)
    assert hung.process.is_alive()
    assert ledger.jobs.get(hung.job_id).state is State.RUNNING
    # and the rest of its time does
    hung.rounds(15)
    hung.process.join(10)
    hung.monitor.wait()
    assert _ends(ledger, hung.job_id) == ("timeout", 1)


def test_a_process_that_went_on_at_the_last_moment_lives(hung: Hung, ledger: Ledger) -> None:
    # given an attempt at the end of its clock
    hung.rounds(19)
    (view,) = hung.monitor._table.views()
    # when it was looked at before its last beat, and is stopped after it
    hung.monitor._table.write(0, _Field.BEATS, 1)
    assert not hung.monitor._end_hung(view, Overrun(Clock.START, 20))
    # then it goes on
    hung.rounds(2)
    assert hung.process.is_alive()
    assert ledger.jobs.get(hung.job_id).state is State.RUNNING


def test_a_death_that_celery_does_not_report_ends_the_attempt_all_the_same(hung: Hung, ledger: Ledger) -> None:
    # given a process that died
    hung.rounds(2)
    hung.process.kill()
    hung.process.join(10)
    # when Celery is given a while to say so / then the lease is kept
    lease = ledger.client.zscore(f"{ledger.prefix}:leases", hung.job_id)
    hung.rounds(5)
    assert ledger.client.zscore(f"{ledger.prefix}:leases", hung.job_id) != lease
    assert ledger.jobs.get(hung.job_id).state is State.RUNNING
    # and when it has not / then the monitor ends the attempt, once
    hung.rounds(10)
    hung.monitor.wait()
    assert _ends(ledger, hung.job_id) == ("crash", 1)


def test_a_death_that_celery_reports_in_time_is_no_second_failure(hung: Hung, ledger: Ledger) -> None:
    # given a process that died
    hung.rounds(2)
    hung.process.kill()
    hung.process.join(10)
    hung.rounds(2)
    # when Celery says so, and time goes on
    hung.monitor.give_up("nudge-1", DIED, for_memory=False)
    hung.rounds(10)
    hung.monitor.wait()
    # then the attempt has ended once, in Celery's words
    assert _ends(ledger, hung.job_id) == ("crash", 1)
    assert DIED in ledger.jobs.attempt(hung.job_id, 1)["message"]


def test_an_attempt_that_is_lost_hears_of_it_with_the_next_renewal(hung: Hung, ledger: Ledger) -> None:
    # given an attempt whose job is cancelled
    hung.rounds(2)
    ledger.jobs.cancel(hung.job_id)
    # when its lease is due
    hung.rounds(5)
    # then its process is told
    table = hung.monitor._table
    (view,) = table.views()
    assert table.read(0, _Field.LOST) == view.generation
