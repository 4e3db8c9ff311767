"""The worker-process monitor: a GPU worker's main process keeps its pool's attempts, and ends those that hang or die.

It renews the leases, kills a process whose attempt is over one of its clocks, and hears from Celery that a process has
died. What a process dies of without a word (a crash in a driver, the kernel's out-of-memory killer) would else be
noticed when its lease lapses, and as no more than that. The lease stays what makes sure: of the death of a whole
worker, and of a ledger that is away just now, nobody tells.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psutil
import structlog
from billiard.exceptions import WorkerLostError
from celery import signals

from infra.background import BackgroundService
from infra.logs import bound
from ledger import Kind, LedgerError
from ledger.nudges import INHOUSE_TASK
from ledger.outcomes import Lost, Renewed
from ledger.retries import Cause
from workers.attempt.ending import fail
from workers.attempt.oom_kills import oom_kills
from workers.attempt.process_tree import kill_tree
from workers.attempt.results import Failure
from workers.attempt.slots import Phase, SlotTable, SlotView, slot_table
from workers.delivery import AttemptOf
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: Renewals in one lease time.
RENEWALS_PER_LEASE = 3
#: Between two rounds, seconds.
ROUND_S = 0.2
#: Celery has so long to report a death, with the signal that it was; the monitor then ends the attempt itself, seconds.
REPORTED_WITHIN_S = 5.0
#: What one round may add to an attempt's clocks, seconds: a longer one was a stopped or starved host, not a hang.
LONGEST_ROUND_S = 5.0


class Clock(StrEnum):
    """Which of an attempt's clocks ran out."""

    START = "start"
    PROGRESS = "progress"
    WALL = "wall"
    DELIVERY = "delivery"


@dataclass(frozen=True)
class Overrun:
    """An attempt has hung: the clock that ran out, and its length, seconds."""

    clock: Clock
    after_s: float

    def __str__(self) -> str:
        """In words."""
        match self.clock:
            case Clock.START:
                return f"no progress for {self.after_s:g} s since its start"
            case Clock.PROGRESS:
                return f"no progress for {self.after_s:g} s since its last progress"
            case Clock.WALL:
                return f"its wall clock of {self.after_s:g} s ran out"
            case Clock.DELIVERY:
                return f"its delivery took longer than {self.after_s:g} s"


@dataclass
class Watched:
    """What the monitor has seen of one attempt. Times are seconds, by clocks of its own.

    Attributes:
        generation: of the slot, which tells the attempt.
        began_s: when it was first seen, by the clock of rounds.
        moved_s: when its last beat was seen, by the clock of rounds.
        beats: how many.
        renew_at_s: when its lease is due, by the monotonic clock.
        is_lost: the ledger says that it is not its process's any more; its lease is left alone.
        dead_s: when its process was first seen to be dead, by the monotonic clock; None: it lives.
        is_over: it has ended.
    """

    generation: int
    began_s: float
    moved_s: float
    beats: int
    renew_at_s: float
    is_lost: bool = False
    dead_s: float | None = None
    is_over: bool = False

    def see(self, view: SlotView, now_s: float) -> Overrun | None:
        """Whether an attempt has hung by `now_s`, on the clock of rounds; None: it keeps within its clocks."""
        if view.beats != self.beats:
            self.beats, self.moved_s = view.beats, now_s
        if now_s - self.began_s > view.wall_s:
            return Overrun(Clock.WALL, view.wall_s)
        if now_s - self.moved_s <= view.patience_s:
            return None
        if view.phase is Phase.DELIVERING:
            return Overrun(Clock.DELIVERY, view.patience_s)
        return Overrun(Clock.PROGRESS if view.beats else Clock.START, view.patience_s)


class WorkerProcessMonitor(BackgroundService):
    """Works from `start` to `stop`, which may be called twice.

    Args:
        resources: the main process's.
        table: what its pool processes write down.
        kills: how many processes the kernel has killed for memory so far; None: it does not say.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        resources: Resources,
        *,
        table: SlotTable = slot_table,
        kills: Callable[[], int | None] = oom_kills,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("worker-process-monitor")
        self._resources = resources
        self._lease_s = resources.settings.attempts.lease_s
        self._table = table
        self._kills = kills
        self._killed = kills() or 0
        self._clock = clock
        self._last_round_s = clock()
        self._awake_s = 0.0
        self._watched: dict[int, Watched] = {}
        #: Why attempts were killed, until the ledger knows.
        self._hung: dict[AttemptOf, Overrun] = {}
        self._telling: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to watch and to listen."""
        signals.task_failure.connect(self._on_failure)
        super().start()

    def stop(self) -> None:
        """Watch and listen no more. Leases are not renewed from here on."""
        signals.task_failure.disconnect(self._on_failure)
        super().stop()

    def wait(self) -> None:
        """Wait until the ledger knows of everything that was seen and heard."""
        for thread in self._telling:
            thread.join()

    def run(self) -> None:
        """A round every `ROUND_S` seconds."""
        self._last_round_s = self._clock()
        self.is_ready.set()
        while not self.stopping.wait(ROUND_S):
            self.round()

    def round(self) -> None:
        """Look at every attempt once."""
        now_s = self._clock()
        self._awake_s += min(now_s - self._last_round_s, LONGEST_ROUND_S)
        self._last_round_s = now_s
        views = self._table.views()
        for index in self._watched.keys() - {view.index for view in views}:
            del self._watched[index]
        for view in views:
            with bound(job_id=view.of.job_id, attempt=view.of.attempt, kind=str(view.kind)):
                try:
                    self._attend(view, now_s)
                except Exception:  # one attempt's trouble is no other's
                    log.exception("attempt.not_attended")

    def _attend(self, view: SlotView, now_s: float) -> None:
        watched = self._watched.get(view.index)
        if watched is None or watched.generation != view.generation:
            due_s = now_s + self._lease_s / RENEWALS_PER_LEASE
            watched = Watched(view.generation, self._awake_s, self._awake_s, view.beats, due_s)
            self._watched[view.index] = watched
        if watched.is_over:
            return
        if not _is_ours(view.process_id):
            self._attend_dead(view, watched, now_s)
        elif (overrun := watched.see(view, self._awake_s)) is not None:
            watched.is_over = self._end_hung(view, overrun)
        if not watched.is_over:
            self._keep(view, watched, now_s)

    def _attend_dead(self, view: SlotView, watched: Watched, now_s: float) -> None:
        """Celery reports what a process died of. Its lease is kept until then, or it would end as a lost one."""
        if watched.dead_s is None:
            watched.dead_s = now_s
        watched.is_over = watched.is_lost or now_s - watched.dead_s > REPORTED_WITHIN_S
        if watched.is_over and not watched.is_lost:
            failure = _crash(view.of, "it is gone", for_memory=self._was_killed_for_memory())
            self._in_background(self._fail, view.of, view.kind, failure)

    def _keep(self, view: SlotView, watched: Watched, now_s: float) -> None:
        """Renew an attempt's lease when that is due."""
        if now_s >= watched.renew_at_s and not watched.is_lost:
            watched.renew_at_s = now_s + self._lease_s / RENEWALS_PER_LEASE
            watched.is_lost = not self._renew(view)

    def _renew(self, view: SlotView) -> bool:
        """Keep an attempt's lease. False: the attempt is lost."""
        try:
            outcome = self._resources.ledger.attempts.renew(
                view.of.job_id, view.of.attempt, lease_s=self._lease_s, progress=view.progress
            )
        except LedgerError as error:
            # No loss: the work goes on, and the fencing token decides at the end.
            log.warning("lease.not_renewed", error=str(error))
            return True
        match outcome:
            case Renewed():
                return True
            case Lost(state, attempt):
                log.warning("lease.lost", job_state=state, newest_attempt=attempt)
                self._table.mark_lost(view)
                return False

    def _end_hung(self, view: SlotView, overrun: Overrun) -> bool:
        """Kill the process of an attempt that hangs, and end the attempt. False: it has gone on meanwhile."""
        if view.process_id == os.getpid():
            # No pool of processes: killing this one would end everything else in it.
            log.error("attempt.hung", reason=str(overrun), killed=False)
            self._table.mark_lost(view)
        else:
            self._hung[view.of] = overrun  # first: Celery may report the death before the next line is over
            if not kill_tree(view.process_id, parent_id=os.getpid(), confirm=lambda: self._still_hangs(view)):
                del self._hung[view.of]
                return False
            log.error("attempt.hung", reason=str(overrun), killed=True)
        self._in_background(self._tell_hung, view.of, view.kind, overrun)
        return True

    def _still_hangs(self, view: SlotView) -> bool:
        """Whether nothing has changed since the attempt was looked at."""
        again = self._table.view(view.index)
        return again is not None and (again.generation, again.beats) == (view.generation, view.beats)

    def _tell_hung(self, of: AttemptOf, kind: Kind, overrun: Overrun) -> None:
        self._fail(of, kind, _timeout(of, overrun))
        try:
            self._resources.ledger.tally("hangs_total", f"clock={overrun.clock}|kind={kind}")
        except LedgerError as error:
            log.warning("attempt.hang_not_counted", error=str(error))

    def _on_failure(self, *, sender: Any = None, task_id: str = "", exception: object = None, **_: Any) -> None:
        if not isinstance(exception, WorkerLostError) or sender.name != INHOUSE_TASK:
            return
        self._in_background(self.give_up, task_id, str(exception), for_memory=self._was_killed_for_memory())

    def _was_killed_for_memory(self) -> bool:
        before, self._killed = self._killed, self._kills() or 0
        return self._killed > before

    def give_up(self, nudge_id: str, died: str, *, for_memory: bool) -> None:
        """End the attempt that the process had which took a nudge.

        Args:
            nudge_id: the message's id.
            died: how the process ended, in Celery's words.
            for_memory: the kernel killed it because memory ran out.
        """
        try:
            record = self._resources.ledger.attempts.held_by(nudge_id)
        except LedgerError as error:
            log.warning("attempt.left_to_its_lease", error=str(error))
            return
        if record is not None:
            of = AttemptOf(record.id, record.attempt)
            overrun = self._hung.get(of)
            failure = _crash(of, died, for_memory=for_memory) if overrun is None else _timeout(of, overrun)
            self._fail(of, record.kind, failure)

    def _fail(self, of: AttemptOf, kind: Kind, failure: Failure) -> None:
        with bound(job_id=of.job_id, attempt=of.attempt, kind=str(kind)):
            try:
                fail(self._resources, of, kind, failure)
            except LedgerError as error:
                log.warning("attempt.left_to_its_lease", error=str(error))
            else:
                self._hung.pop(of, None)

    def _in_background(self, tell: Callable[..., None], *args: Any, **named: Any) -> None:
        """The ledger may be away: neither Celery's loop nor the other leases wait for it."""
        thread = threading.Thread(target=tell, args=args, kwargs=named, daemon=True)
        self._telling = [*(one for one in self._telling if one.is_alive()), thread]
        thread.start()


def _timeout(of: AttemptOf, overrun: Overrun) -> Failure:
    return Failure(Cause.TIMEOUT, f"attempt {of.attempt} hung and was stopped: {overrun}")


def _crash(of: AttemptOf, died: str, *, for_memory: bool) -> Failure:
    cause = Cause.OUT_OF_MEMORY if for_memory else Cause.CRASH
    why = "the kernel killed it because the host's memory ran out" if for_memory else died
    message = f"the process that worked on attempt {of.attempt} died: {why}"
    return Failure(cause, message, where="host" if for_memory else None)


def _is_ours(process_id: int) -> bool:
    """Whether a process lives and is this one, or its child."""
    if process_id == os.getpid():
        return True
    try:
        process = psutil.Process(process_id)
        return process.ppid() == os.getpid() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
