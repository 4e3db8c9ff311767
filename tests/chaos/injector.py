"""Strikes the planned faults, each in its time, and says what each of them struck."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import psutil
import redis

from ledger.errors import LedgerError
from modal_local.admin_client import AdminClient, AdminError
from overspill.dev.errors import DevError
from tests.chaos.messages import Messages
from tests.chaos.observations import RawLedger
from tests.chaos.plan import Fault, Plan, PlannedFault
from tests.chaos.records import Planter
from tests.chaos.stack import SKEWED, ChaosStack
from tests.chaos.submitter import Submitter
from tests.chaos.victims import NoVictimError, Victims, chosen, wait_for

T = TypeVar("T")

#: Faults that may be under way at once; one that is due while all are taken comes later, and is not left out.
_AT_ONCE = 24
#: Where no message waits to be shuffled for so long, seconds, old ones are sent.
_SILENCE_S = 3.0
#: A process that hangs is killed well before, seconds; else it goes on.
_LONGEST_HANG_S = 90.0
_LOOK_AGAIN_S = 0.1
#: Between the ledger's word that an attempt has begun and its engine's beginning, seconds.
_AT_WORK_AFTER_S = 0.05
#: From a pool process's begin until the death of the one before has been told, seconds.
_PREDECESSOR_TOLD_S = 5.0
#: A user cancels one of so many newest jobs.
_NEWEST = 12


@dataclass(frozen=True)
class Strike:
    """One fault that has struck.

    Attributes:
        planned: the step of the plan.
        target: what was struck.
        at_ms: when, milliseconds since 1970.
        until_ms: when it was over.
        jobs: the jobs that it struck in the middle, as far as can be known.
        missed: why it struck nothing; empty if it did.
    """

    planned: PlannedFault
    target: str
    at_ms: int
    until_ms: int = 0
    jobs: tuple[str, ...] = ()
    missed: str = ""


def _unless_gone(act: Callable[[], T]) -> T | None:
    """What it gives, or None where the process has just ended."""
    try:
        return act()
    except psutil.NoSuchProcess:
        return None


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Injector:
    """Does to a stack what a plan says. Everything that it breaks, it mends."""

    def __init__(self, stack: ChaosStack, raw: RawLedger, submitter: Submitter, *, host: str, seed: int) -> None:
        self._stack = stack
        self._raw = raw
        self._submitter = submitter
        self._host = host
        self._victims = Victims(stack)
        self._messages = Messages(raw.broker, random.Random(f"messages {seed}"))
        # One outage of a service at a time: the next waits until the last one is mended.
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()
        self.strikes: list[Strike] = []
        self._actions: dict[Fault, Callable[[PlannedFault], Strike]] = {
            Fault.KILL_API: lambda step: self._kill("api", step),
            Fault.KILL_DISPATCH: lambda step: self._kill("dispatch", step),
            Fault.KILL_GPU: lambda step: self._kill("gpu", step),
            Fault.KILL_GPU_CHILD: self._kill_gpu_child,
            Fault.KILL_OVERFLOW: lambda step: self._kill("overflow", step),
            Fault.KILL_CONTAINER: self._kill_container,
            Fault.KILL_MODAL: self._kill_modal,
            Fault.KILL_EXPORTER: lambda step: self._kill("exporter", step),
            Fault.STOP_DISPATCH: lambda step: self._stop("dispatch", step),
            Fault.STOP_GPU: lambda step: self._stop("gpu", step),
            Fault.STOP_OVERFLOW: lambda step: self._stop("overflow", step),
            Fault.HANG_ENGINE: self._hang_engine,
            Fault.KILL_REDIS: self._kill_redis,
            Fault.CUT_REDIS: self._cut_redis,
            Fault.REFUSE_REDIS: self._refuse_redis,
            Fault.SLOW_REDIS: self._slow_redis,
            Fault.HOLD_REDIS: self._hold_redis,
            Fault.KILL_S3: self._kill_s3,
            Fault.REFUSE_S3: self._refuse_s3,
            Fault.HANG_S3: self._hang_s3,
            Fault.LOSE_S3_ANSWERS: self._lose_s3_answers,
            Fault.LOSE_MODAL_ANSWERS: self._lose_modal_answers,
            Fault.DUPLICATE_MESSAGES: self._duplicate,
            Fault.REORDER_MESSAGES: self._reorder,
            Fault.LOSE_NUDGES: self._lose_nudges,
            Fault.NEWER_RECORD: self._newer_record,
            Fault.JUMP_CLOCK: self._jump_clock,
            Fault.JUMP_WORKER_CLOCK: self._jump_worker_clock,
            Fault.CANCEL: self._cancel,
        }

    def run(self, plan: Plan, *, began: float) -> None:
        """Strike every planned fault; returns when all are over and mended."""
        futures: list[Future[None]] = []
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fault") as pool:
            for step in plan.faults:
                time.sleep(max(0.0, began + step.at_s - time.monotonic()))
                futures.append(pool.submit(self._strike, step))
            for future in futures:
                future.result()
        self._mend()

    def _strike(self, step: PlannedFault) -> None:
        began_ms = now_ms()
        try:
            strike = self._actions[step.fault](step)
        except (NoVictimError, AdminError, LedgerError, DevError, redis.exceptions.RedisError) as error:
            strike = Strike(step, "nothing", began_ms, missed=f"{type(error).__name__}: {error}")
        with self._lock:
            self.strikes.append(replace(strike, until_ms=now_ms()))

    def _mend(self) -> None:
        redis_proxy, s3_proxy = self._stack.proxies()
        redis_proxy.heal()
        s3_proxy.heal()
        s3_proxy.forgive()
        self._admin().clear()

    # Our processes.

    def _kill(self, role: str, step: PlannedFault) -> Strike:
        name = self._victims.name(role, step.victim)
        self._victims.process(name)
        jobs = self._jobs_on(name)
        at_ms = now_ms()
        self._victims.kill(name)
        return Strike(step, name, at_ms, jobs=jobs)

    def _kill_gpu_child(self, step: PlannedFault) -> Strike:
        name = self._victims.name("gpu", step.victim)
        self._victims.process(name)
        jobs, at_ms = self._jobs_on(name), now_ms()
        self._victims.kill_child(name)
        return Strike(step, name, at_ms, jobs=jobs)

    def _stop(self, role: str, step: PlannedFault) -> Strike:
        name = self._victims.name(role, step.victim)
        with self._locks[name]:
            self._victims.process(name)
            jobs = self._jobs_on(name)
            at_ms = now_ms()
            self._victims.stop_for(name, step.lasts_s)
            return Strike(step, name, at_ms, jobs=jobs)

    def _hang_engine(self, step: PlannedFault) -> Strike:
        """Stop a pool process amid an attempt, until it is killed for that, or its attempt has ended otherwise."""
        first = self._victims.name("gpu", step.victim)
        # Late in a run its own worker may have nothing more to do.
        names = sorted(self._victims.names("gpu"), key=lambda name: name != first)
        return wait_for(lambda: next(filter(None, (self._hang(name, step) for name in names)), None))

    def _hang(self, name: str, step: PlannedFault) -> Strike | None:
        with self._locks[name]:
            struck = _unless_gone(lambda: self._suspended(name))
            if struck is None:
                return None
            child, jobs, at_ms = struck
            until = time.monotonic() + _LONGEST_HANG_S
            try:
                while child.is_running() and not self._runs_others(name, jobs) and time.monotonic() < until:
                    time.sleep(_LOOK_AGAIN_S)
            finally:
                _unless_gone(child.resume)
            return Strike(step, f"{name} process {child.pid}", at_ms, jobs=jobs)

    def _suspended(self, name: str) -> tuple[psutil.Process, tuple[str, ...], int] | None:
        """A worker's pool process that was stopped amid an attempt, the job, and when; None: there is none just now."""
        jobs, child = self._jobs_on(name), self._victims.child(name)
        # A process that has just begun has not the attempt that is still its predecessor's.
        if not jobs or child is None or time.time() - child.create_time() < _PREDECESSOR_TOLD_S:
            return None
        time.sleep(_AT_WORK_AFTER_S)
        at_ms = now_ms()
        child.suspend()
        # It may have gone on to its delivery or to the next attempt just before.
        if self._jobs_on(name) == jobs and self._are_running(jobs):
            return child, jobs, at_ms
        child.resume()
        return None

    def _are_running(self, jobs: tuple[str, ...]) -> bool:
        try:
            return all(state == "running" for state in self._raw.states(list(jobs)).values())
        except redis.exceptions.RedisError:
            return False

    def _runs_others(self, name: str, jobs: tuple[str, ...]) -> bool:
        """Whether a GPU worker runs other jobs than these by now. While Redis is away nothing says so."""
        try:
            return tuple(self._raw.running_on(f"{name.replace('.', '-')}@{self._host}")) != jobs
        except redis.exceptions.RedisError:
            return False

    def _jobs_on(self, name: str) -> tuple[str, ...]:
        """What a GPU worker runs, or what all overflow workers hold; unknown while Redis is away."""
        try:
            if name.startswith("gpu."):
                return tuple(self._raw.running_on(f"{name.replace('.', '-')}@{self._host}"))
            return tuple(self._raw.in_overflow_hands()) if name.startswith("overflow.") else ()
        except redis.exceptions.RedisError:
            return ()

    # Redis.

    def _kill_redis(self, step: PlannedFault) -> Strike:
        service = self._stack.services()[0]
        with self._locks["redis"]:
            at_ms = now_ms()
            service.kill()
            time.sleep(step.lasts_s)
            service.start()
            service.ready()
        return Strike(step, "redis", at_ms)

    def _cut_redis(self, step: PlannedFault) -> Strike:
        at_ms = now_ms()
        cut = self._stack.proxies()[0].cut()
        return Strike(step, f"{cut} connections", at_ms)

    def _refuse_redis(self, step: PlannedFault) -> Strike:
        return self._redis_outage(step, self._stack.proxies()[0].refuse)

    def _slow_redis(self, step: PlannedFault) -> Strike:
        return self._redis_outage(step, lambda: self._stack.proxies()[0].delay(step.amount / 1000))

    def _hold_redis(self, step: PlannedFault) -> Strike:
        return self._redis_outage(step, self._stack.proxies()[0].hold)

    def _redis_outage(self, step: PlannedFault, begin: Callable[[], None]) -> Strike:
        with self._locks["way to redis"]:
            at_ms = now_ms()
            begin()
            time.sleep(step.lasts_s)
            self._stack.proxies()[0].heal()
        return Strike(step, "way to redis", at_ms)

    # S3.

    def _kill_s3(self, step: PlannedFault) -> Strike:
        service = self._stack.services()[1]
        with self._locks["s3"]:
            at_ms = now_ms()
            service.kill()
            time.sleep(step.lasts_s)
            service.start()
            service.ready()
        return Strike(step, "s3", at_ms)

    def _refuse_s3(self, step: PlannedFault) -> Strike:
        with self._locks["way to s3"]:
            at_ms = now_ms()
            self._stack.proxies()[1].refuse()
            time.sleep(step.lasts_s)
            self._stack.proxies()[1].heal()
        return Strike(step, "way to s3", at_ms)

    def _hang_s3(self, step: PlannedFault) -> Strike:
        with self._locks["way to s3"]:
            at_ms = now_ms()
            self._stack.proxies()[1].hold()
            time.sleep(step.lasts_s)
            self._stack.proxies()[1].heal()
        return Strike(step, "way to s3", at_ms)

    def _lose_s3_answers(self, step: PlannedFault) -> Strike:
        at_ms = now_ms()
        self._stack.proxies()[1].lose_answers(step.amount)
        return Strike(step, f"{step.amount} puts", at_ms)

    # Modal.

    def _admin(self) -> AdminClient:
        return AdminClient(self._stack.admin_url)

    def _kill_container(self, step: PlannedFault) -> Strike:
        def strike() -> Strike | None:
            try:
                admin = self._admin()
                living = admin.containers(live=True)
                busy = [row for row in living if row["running_inputs"]] or living
                if not busy:
                    return None
                row = busy[int(step.victim * len(busy))]
                jobs = self._jobs_of(admin, row["running_inputs"])
                at_ms = now_ms()
                admin.inject("kill", task_id=row["task_id"])
            except AdminError:
                return None  # it has just ended, or modal_local is being started again
            return Strike(step, str(row["task_id"]), at_ms, jobs=jobs)

        return wait_for(strike)

    def _jobs_of(self, admin: AdminClient, inputs: list[str]) -> tuple[str, ...]:
        calls = {
            call["call_id"]
            for call in (admin.call(row["call_id"]) for row in admin.calls(state="running"))
            if {entry["input_id"] for entry in call["inputs"]} & set(inputs)
        }
        try:
            jobs = self._raw.jobs(self._raw.modal_ids())
        except redis.exceptions.RedisError:
            return ()
        return tuple(job.id for job in jobs.values() if job.fields.get("call_id") in calls)

    def _kill_modal(self, step: PlannedFault) -> Strike:
        service = self._stack.services()[2]
        with self._locks["modal"]:
            at_ms = now_ms()
            service.kill()
            time.sleep(step.lasts_s)
            service.start()
            service.ready()
        return Strike(step, "modal_local", at_ms)

    def _lose_modal_answers(self, step: PlannedFault) -> Strike:
        def strike() -> Strike | None:
            at_ms = now_ms()
            try:
                self._admin().inject("lost_answer", count=step.amount, methods=["FunctionMap"])
            except AdminError:
                return None
            return Strike(step, f"{step.amount} spawns", at_ms)

        return wait_for(strike)

    # Messages, time, users.

    def _patiently(self, operation: Callable[[], str | None], step: PlannedFault) -> Strike:
        """Until Redis answers and there is something to strike."""

        def strike() -> Strike | None:
            at_ms = now_ms()
            try:
                target = operation()
            except (redis.exceptions.RedisError, LedgerError):
                return None
            return None if target is None else Strike(step, target, at_ms)

        return wait_for(strike)

    def _duplicate(self, step: PlannedFault) -> Strike:
        def duplicate() -> str | None:
            copied = self._messages.duplicate(step.amount)
            sent = self._submitter.send_again(step.amount)
            return f"{copied} copied, {sent} sent again" if copied + sent else None

        return self._patiently(duplicate, step)

    def _reorder(self, step: PlannedFault) -> Strike:
        silent_at = time.monotonic() + _SILENCE_S

        def reorder() -> str | None:
            done = self._messages.reorder(step.amount)
            if done is not None or time.monotonic() < silent_at:
                return done
            # The last jobs may have come in, and none waits to be shuffled: then old ones come once more, last first.
            sent = self._submitter.send_again(step.amount)
            return f"{sent} sent again, last first" if sent else None

        return self._patiently(reorder, step)

    def _lose_nudges(self, step: PlannedFault) -> Strike:
        return self._patiently(lambda: self._messages.lose_nudges(step.amount), step)

    def _newer_record(self, step: PlannedFault) -> Strike:
        at_ms = now_ms()
        newer, unreadable = (self._planted(step, readable=readable) for readable in (True, False))
        return Strike(step, "two queued jobs", at_ms, jobs=(newer, unreadable))

    def _planted(self, step: PlannedFault, *, readable: bool) -> str:
        prompt = f"chaos record of fault {step.number}, readable {readable}"
        return wait_for(Planter(self._raw, url=self._stack.services()[0].url(0), prompt=prompt, readable=readable))

    def _jump_clock(self, step: PlannedFault) -> Strike:
        # Redis might do it and its answer be lost; twice would be further than planned. So it is set, not added.
        lock = self._locks["clock"]
        with lock:
            before = wait_for(self._clock_offset_ms)
            return self._patiently(lambda: self._raw.set_clock_offset(before + step.amount), step)

    def _jump_worker_clock(self, step: PlannedFault) -> Strike:
        name, at_ms = chosen(SKEWED, step.victim), now_ms()
        self._stack.set_clock(name, step.amount)
        return Strike(step, f"{name} {step.amount / 1000:+.0f} s", at_ms)

    def _clock_offset_ms(self) -> int | None:
        try:
            return self._raw.clock_offset_ms()
        except redis.exceptions.RedisError:
            return None

    def _cancel(self, step: PlannedFault) -> Strike:
        tried: set[str] = set()

        def cancel() -> str | None:
            states = self._raw.states(self._submitter.newest_accepted(_NEWEST))
            live = [job for job, state in states.items() if state not in ("completed", "failed", "cancelled")]
            live = [job for job in live if job not in tried]
            if not live:
                return None
            job_id = chosen(live, step.victim)
            said = self._submitter.cancel(job_id)
            if said == "Cancelled":
                return job_id
            tried.add(job_id)
            return None

        strike = self._patiently(cancel, step)
        return replace(strike, jobs=(strike.target,))
