"""The overflow plane at scale: `make bench-overflow CALLS=10000` (`python -m benchmarks.overflow --calls 10000`).

So many calls are placed by racing dispatchers under a cap that fits exactly, spawned through the real SDK on a
simulated modal_local, followed by one process (or `--followers N`, which share the calls by the ledger's leases), a
twentieth of them cancelled on the way, and a few orphans left behind that the ledger never knew. Printed are a table
and, last, one line of JSON, of which:

    calls                 that ran
    notice_p50_s, _p99_s  from a call's end to the follower's poll that saw it
    cpu_cores, rss_bytes  of all followers together, while they followed; the largest one's peak memory
    overshoot_usd_micros  most by which spent + reserved ever passed the cap
    alive_after_sweep     calls that ran on Modal after everything had ended, and one sweep
    most_in_flight        calls on Modal at the peak; near_peak_s: for how long at least nine tenths of it were
    cpu_cores_each        of each follower; rss_bytes_each: its peak memory
    machine_busy_ratio    of all cores, by everybody, meanwhile; cpu_cores_beside: by the benchmark's other processes

Server, Redis, dispatchers, spawner and followers share the machine's cores. S3 is left out. Fifty thousand calls with
three followers (`make bench-overflow CALLS=50000 FOLLOWERS=3`) take about 17 minutes on two cores; there reservations
cover the longest call (benchmarks/overflow_load.py says why).
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.overflow_follower import modal_of, resources_of
from benchmarks.overflow_load import Load
from benchmarks.overflow_watch import Meter, Watch
from infra.logs import configure_logging
from infra.settings import MICROS_PER_USD, Settings
from ledger import BurstMode, Kind, Ledger, RenderJob, State
from ledger.decisions import RunOnModal
from ledger.models import JobRecord
from ledger.view import ClusterView
from modal_local.admin_client import AdminClient
from tests.support.redis_server import running_redis
from tests.support.simulated_modal import simulated_modal
from workers.dispatch import Dispatcher, policy_from
from workers.overflow.breaker import BreakerRules, Gate
from workers.overflow.orphans import OrphanSweep
from workers.overflow.spawner import Spawner
from workers.resources import Resources

ROOT = Path(__file__).parents[1]
#: Dispatchers that race for the cap, and how many more jobs than fit there are.
DISPATCHERS, SURPLUS_RATIO = 4, 0.02
CANCELLED_RATIO, CANCELLED_MOST = 0.05, 500
ORPHANS = 20
#: Longer than all should last, seconds: then something is wrong.
PATIENCE_S = 120.0
#: Attempts read at a time.
READ_AT_ONCE = 1000


def main() -> int:
    """Run and print. Returns 1 if something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--followers", type=int, default=1)
    parser.add_argument("--lost-hints", type=float, default=0.0, help="share of hints that are lost on their way")
    arguments = parser.parse_args()
    load = Load(arguments.calls, arguments.followers)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis_server = stack.enter_context(running_redis(folder))
        modal = stack.enter_context(simulated_modal(lost_hints_ratio=arguments.lost_hints))
        os.environ.update(modal)
        os.environ.update(
            OVERSPILL_LEDGER_URL=redis_server.url(0),
            OVERSPILL_BROKER_URL=redis_server.url(1),
            OVERSPILL_LEDGER_TIMEOUT_S="10",
            OVERSPILL_LOG_LEVEL="error",
            OVERSPILL_MAX_MODAL_ATTEMPTS=str(arguments.calls),
            OVERSPILL_SPAWN_RATE_PER_S="1000",
            OVERSPILL_DRAIN_RATIO="1",
            OVERSPILL_MODAL_MAX_CONTAINERS=str(2 * arguments.calls),
            OVERSPILL_CALL_DEADLINE_S="3600",
            OVERSPILL_RENDER_CALL_ESTIMATE_S=f"{load.reserve_for_s(Settings().modal.render_call_estimate_s):.0f}",
        )
        reserve_usd = reserve_of(Settings()) / MICROS_PER_USD
        os.environ["OVERSPILL_MONTH_CAP_USD"] = f"{reserve_usd * arguments.calls:.6f}"
        settings = Settings()
        configure_logging(settings)
        subprocess.run([sys.executable, "-m", "modal", "deploy", "-m", "modal_apps.renderer"], check=True,
                       capture_output=True, cwd=ROOT)  # fmt: skip
        followers = [stack.enter_context(follower()) for _ in range(load.followers)]
        figures = Run(settings, followers, load, modal["MODAL_LOCAL_ADMIN_URL"]).run()
    tell(figures)
    return 0 if figures["overshoot_usd_micros"] == 0 and figures["alive_after_sweep"] == 0 else 1


class Run:
    """One benchmark."""

    def __init__(self, settings: Settings, followers: list[psutil.Process], load: Load, admin_url: str) -> None:
        self.settings = settings
        self.resources: Resources = resources_of(settings)
        self.ledger = self.resources.ledger
        self.followers = followers
        self.load = load
        self.admin = AdminClient(admin_url)
        self.modal = modal_of(settings)
        self.random = random.Random(7)
        self.ids: list[str] = []

    def run(self) -> dict[str, Any]:
        """All of it, in order."""
        watch = Watch(Ledger(self.settings.ledger), self.settings)
        watcher = threading.Thread(target=watch.run)
        watcher.start()
        began = time.perf_counter()
        self.submit()
        placed = self.place()
        ready = time.perf_counter()
        spawned = self.spawn()
        in_flight = time.perf_counter()
        meter = Meter(self.followers)
        cancelled = self.cancel_some()
        self.wait_for_the_ends()
        cost = meter.read()
        # (Some had ended by themselves when it came to them.)
        cancelled = [one for one in cancelled if self.ledger.jobs.get(one).state is State.CANCELLED]
        polls = _count(self.admin.rpcs(), "FunctionGetOutputs")
        asyncio.run(self.leave_orphans_and_sweep())
        watch.over.set()
        watcher.join()
        lags = self.lags_s()
        calls = len(lags) + len(cancelled)
        return {
            "calls": calls,
            "notice_p50_s": _quantile(lags, 0.50),
            "notice_p99_s": _quantile(lags, 0.99),
            "cpu_cores": round(cost.cpu_s / cost.seconds, 3),
            "rss_bytes": max(cost.peak_bytes_each),
            "overshoot_usd_micros": watch.overshoot_usd_micros,
            "alive_after_sweep": len(self.admin.calls(state="running")),
            "followers": len(self.followers),
            "most_in_flight": watch.most_in_flight,
            "near_peak_s": watch.near_the_peak_s,
            "cpu_cores_each": cost.cores_each,
            "rss_bytes_each": list(cost.peak_bytes_each),
            "placed": placed,
            "spawns_per_s": round(spawned / (in_flight - ready), 1),
            "submit_and_place_s": round(ready - began, 1),
            "spawn_s": round(in_flight - ready, 1),
            "follow_s": round(cost.seconds, 1),
            "whole_s": round(time.perf_counter() - began, 1),
            "notice_max_s": _quantile(lags, 1.0),
            "cancel_p95_s": _quantile(self.stop_times_s(cancelled), 0.95),
            "cancelled": len(cancelled),
            "cpu_ms_per_call": round(1000 * cost.cpu_s / max(1, calls), 2),
            "polls_per_call": round(polls / max(1, calls), 2),
            "violations": len(self.ledger.audit(self.ledger.money.limits())),
            "machine_cores": os.cpu_count(),
            "machine_busy_ratio": round(cost.machine_busy_ratio, 2),
            "cpu_cores_beside": dict(cost.cores_beside),
        }

    def submit(self) -> None:
        """A few more jobs than the cap has room for."""
        lives = [self.load.works_s(n, self.random) for n in range(round(self.load.calls * (1 + SURPLUS_RATIO)))]
        for seconds in lives:
            job = RenderJob(prompt=f"simulated {seconds:.2f}", burst=BurstMode.ALWAYS)
            self.ids.append(self.ledger.jobs.submit(job, source="client").job_id)

    def place(self) -> int:
        """Dispatchers race for the cap."""
        tally: Counter[str] = Counter()

        def dispatch(_: int) -> dict[str, int]:
            return Dispatcher(self.ledger, self.resources.nudger, self.settings).run(Kind.RENDER)

        with ThreadPoolExecutor(DISPATCHERS) as threads:
            for one in threads.map(dispatch, range(DISPATCHERS)):
                tally.update(one)
        return tally["placed_modal"]

    def spawn(self) -> int:
        """Spawn all that was placed."""
        tally: Counter[str] = Counter()
        spawner = Spawner(self.resources, self.modal, Gate(self.ledger, BreakerRules()))
        while self.ledger.client.zcard(f"{self.ledger.prefix}:waiting:modal"):
            tally.update(spawner.run(worker="benchmark"))
        return tally["spawned"]

    def cancel_some(self) -> list[str]:
        """Cancel a share of the calls in flight, all at once."""
        number = min(CANCELLED_MOST, round(self.load.calls * CANCELLED_RATIO))
        drawn = self.random.sample(self.ids[: self.load.calls], min(2 * number, self.load.calls))
        chosen = [one for one in drawn if self.ledger.jobs.get(one).state is State.RUNNING][:number]
        for job_id in chosen:
            self.ledger.jobs.cancel(job_id)
        return chosen

    def wait_for_the_ends(self) -> None:
        """Until no attempt is alive any more."""
        until = time.monotonic() + self.load.last_end_s + PATIENCE_S
        while self.ledger.placement.view().modal_attempts:
            if time.monotonic() > until:
                raise SystemExit(f"calls are still alive: {self.ledger.placement.view()}")
            time.sleep(0.25)

    async def leave_orphans_and_sweep(self) -> None:
        """Calls that no ledger knows, found and stopped by one sweep."""
        request = {"prompt": "orphan 600", "width": 320, "height": 180, "seconds": 4, "fps": 24, "seed": 0}
        for number in range(ORPHANS):
            await self.modal.spawn(request, attempt_of=(f"video_orphan{number}", 1), gpu="H100", timeout_s=30)
        await asyncio.sleep(2.0)  # each of them announces itself as soon as it begins
        sweep = OrphanSweep(self.ledger, self.modal, self.settings, owner="benchmark")
        await sweep.sweep()

    def lags_s(self) -> list[float]:
        """From each call's end to its notice."""
        lags: list[float] = []
        for start in range(0, len(self.ids), READ_AT_ONCE):
            pipe = self.ledger.client.pipeline(transaction=False)
            for job_id in self.ids[start : start + READ_AT_ONCE]:
                pipe.hget(f"{self.ledger.prefix}:attempt:{job_id}:1", "measurements")
            lags += [float(json.loads(measured)["follow_lag_s"]) for measured in pipe.execute() if measured]
        return sorted(lags)

    def stop_times_s(self, cancelled: list[str]) -> list[float]:
        """From each cancellation to the settlement of its call, which has ended then."""
        times = []
        for job_id in cancelled:
            record, attempt = self.ledger.jobs.get(job_id), self.ledger.jobs.attempt(job_id, 1)
            times.append((int(attempt["settled_ms"]) - (record.finished_ms or 0)) / 1000)
        return sorted(times)


def reserve_of(settings: Settings) -> int:
    """What is set aside for one call on the class that all of them get, micro-dollars."""
    job = JobRecord(
        id="video_sample", kind=Kind.RENDER, tenant="default", state=State.QUEUED, priority=5, burst=BurstMode.ALWAYS,
        created_ms=0, changed_ms=0, spec=RenderJob(prompt="sample").model_dump_json(),
    )  # fmt: skip
    decision = policy_from(settings).decide(job, ClusterView(now_ms=0, kinds={})).decision
    assert isinstance(decision, RunOnModal)
    return decision.reserve_usd_micros


@contextmanager
def follower() -> Iterator[psutil.Process]:
    """A follower's process, at work."""
    with _process([sys.executable, "-m", "benchmarks.overflow_follower"], dict(os.environ)) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield psutil.Process(process.pid)


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _count(rpcs: dict[str, Any], name: str) -> int:
    """How often an RPC was called, wherever the answer has it."""
    found = [_count(value, name) for value in rpcs.values() if isinstance(value, dict)]
    return int(rpcs[name]) if isinstance(rpcs.get(name), int) else max(found, default=0)


def _quantile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


def tell(figures: dict[str, Any]) -> None:
    """A table for people, and one line for programs."""
    for name, value in figures.items():
        print(f"{name:<22} {value:>24,}" if isinstance(value, int) else f"{name:<22} {value!s:>24}")
    print(json.dumps(figures))


if __name__ == "__main__":
    sys.exit(main())
