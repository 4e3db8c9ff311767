"""What a process of the pool died with is given up at once, by its nudge. (With a whole worker: integration/flow.)"""

from billiard.exceptions import WorkerLostError
from celery import signals

from ledger import Kind, Ledger, State
from ledger.decisions import RunInhouse
from ledger.nudges import decide
from tasks.nudges import run_inhouse
from tasks.render import render
from tests.integration.workers.conftest import RecordingNudger
from tests.support.ledgers import place, submit
from workers.attempt.monitor import WorkerProcessMonitor
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
    record = ledger.desk.get(lost)
    assert (record.state, record.attempt) == (State.QUEUED, 1)
    assert ledger.desk.attempt(lost, 1)["outcome"] == "crash"
    assert DIED in ledger.desk.attempt(lost, 1)["message"]
    assert ledger.desk.get(other).state is State.RUNNING
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
    assert ledger.desk.attempt(job_id, 1)["outcome"] == "out_of_memory"
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
    assert ledger.desk.get(job_id).state is State.RUNNING
