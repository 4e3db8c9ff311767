"""The overflow plane at scale: `make bench-overflow CALLS=10000` (`python -m benchmarks.overflow --calls 10000`).

So many calls are placed by racing dispatchers under a cap that fits exactly, spawned through the real SDK on a
simulated modal_local, followed by one process (or `--followers N`), a twentieth of them cancelled on the way, and a few
orphans left behind that the ledger never knew. Printed are a table and, last, one line of JSON:

    calls                 that ran
    notice_p50_s, _p99_s  from a call's end to the follower's look that saw it
    cpu_cores, rss_bytes  of all followers together, while they followed; the largest one's peak memory
    overshoot_usd_micros  most by which spent + reserved ever passed the cap
    alive_after_sweep     calls that ran on Modal after everything had ended, and one sweep

Server, Redis, dispatchers, spawner and followers share the machine's cores. S3 is left out.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.overflow_follower import modal_of, resources_of
from ledger import BurstMode, Kind, Ledger, RenderJob, State
from ledger.decisions import RunOnModal
from ledger.models import JobRecord
from ledger.view import ClusterView
from modal_local.admin_client import AdminClient
from tests.support.redis_server import running_redis
from tests.support.simulated_modal import simulated_modal
from workers.dispatch import Dispatcher, policy_from
from workers.logs import configure_logging
from workers.overflow.gate import Gate
from workers.overflow.orphans import OrphanSweep
from workers.overflow.shared import breaker_rules
from workers.overflow.spawner import Spawner
from workers.resources import Resources
from workers.settings import MICROS_PER_USD, Settings

ROOT = Path(__file__).parents[1]
#: Dispatchers that race for the cap, and how many more jobs than fit there are.
DISPATCHERS, SURPLUS_RATIO = 4, 0.02
#: Calls that end each second, about, once all are in flight; and spawned, to guess how long all must last.
ENDS_PER_S, SPAWNS_PER_S = 55.0, 150.0
CANCELLED_RATIO, CANCELLED_MOST = 0.05, 500
ORPHANS = 20


@dataclass
class Watch:
    """What is seen from outside while it runs."""

    ledger: Ledger
    settings: Settings
    over: threading.Event = field(default_factory=threading.Event)
    overshoot_usd_micros: int = 0
    most_in_flight: int = 0

    def run(self) -> None:
        """Look at the money twice a second."""
        cap = self.settings.limits.month_cap_usd_micros
        while not self.over.wait(0.5):
            view = self.ledger.placing.view()
            committed = view.money.spent_usd_micros + view.money.reserved_usd_micros
            self.overshoot_usd_micros = max(self.overshoot_usd_micros, committed - cap, 0)
            self.most_in_flight = max(self.most_in_flight, view.modal_attempts)


def main() -> int:
    """Run and print. Returns 1 if something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--followers", type=int, default=1)
    parser.add_argument("--lost-hints", type=float, default=0.0, help="share of hints that are lost on their way")
    arguments = parser.parse_args()
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
        )
        reserve_usd = reserve_of(Settings()) / MICROS_PER_USD
        os.environ["OVERSPILL_MONTH_CAP_USD"] = f"{reserve_usd * arguments.calls:.6f}"
        settings = Settings()
        configure_logging(settings)
        subprocess.run([sys.executable, "-m", "modal", "deploy", "-m", "modal_apps.renderer"], check=True,
                       capture_output=True, cwd=ROOT)  # fmt: skip
        followers = [stack.enter_context(follower()) for _ in range(arguments.followers)]
        figures = Run(settings, followers, arguments.calls, modal["MODAL_LOCAL_ADMIN_URL"]).run()
    tell(figures)
    return 0 if figures["overshoot_usd_micros"] == 0 and figures["alive_after_sweep"] == 0 else 1


class Run:
    """One benchmark."""

    def __init__(self, settings: Settings, followers: list[psutil.Process], calls: int, admin_url: str) -> None:
        self.settings = settings
        self.open_ends: Resources = resources_of(settings)
        self.ledger = self.open_ends.ledger
        self.followers = followers
        self.calls = calls
        self.admin = AdminClient(admin_url)
        self.modal = modal_of(settings)
        self.random = random.Random(7)
        self.shortest_s = 10 + calls / SPAWNS_PER_S
        self.ids: list[str] = []

    def run(self) -> dict[str, Any]:
        """All of it, in order."""
        watch = Watch(Ledger(self.settings), self.settings)
        watcher = threading.Thread(target=watch.run)
        watcher.start()
        began = time.perf_counter()
        self.submit()
        placed = self.place()
        ready = time.perf_counter()
        spawned = self.spawn()
        in_flight = time.perf_counter()
        cpu_before = self.cpu_s()
        cancelled = self.cancel_some()
        self.wait_for_the_ends()
        ended = time.perf_counter()
        cpu_s = self.cpu_s() - cpu_before
        looks = _count(self.admin.rpcs(), "FunctionGetOutputs")
        peak_bytes = max(_peak_bytes(process.pid) for process in self.followers)
        asyncio.run(self.leave_orphans_and_sweep())
        watch.over.set()
        watcher.join()
        lags = self.lags_s()
        return {
            "calls": len(lags) + len(cancelled),
            "notice_p50_s": _quantile(lags, 0.50),
            "notice_p99_s": _quantile(lags, 0.99),
            "cpu_cores": round(cpu_s / (ended - in_flight), 3),
            "rss_bytes": peak_bytes,
            "overshoot_usd_micros": watch.overshoot_usd_micros,
            "alive_after_sweep": len(self.admin.calls(state="running")),
            "followers": len(self.followers),
            "most_in_flight": watch.most_in_flight,
            "placed": placed,
            "spawns_per_s": round(spawned / (in_flight - ready), 1),
            "follow_s": round(ended - in_flight, 1),
            "whole_s": round(time.perf_counter() - began, 1),
            "notice_max_s": _quantile(lags, 1.0),
            "cancel_p95_s": _quantile(self.stop_times_s(cancelled), 0.95),
            "cancelled": len(cancelled),
            "cpu_ms_per_call": round(1000 * cpu_s / max(1, len(lags) + len(cancelled)), 2),
            "looks_per_call": round(looks / max(1, len(lags) + len(cancelled)), 2),
            "violations": len(self.ledger.audit(self.settings.limits)),
            "machine_cores": os.cpu_count(),
        }

    def submit(self) -> None:
        """A few more jobs than the cap has room for."""
        longest_s = self.shortest_s + self.calls / ENDS_PER_S
        for _ in range(round(self.calls * (1 + SURPLUS_RATIO))):
            seconds = self.random.uniform(self.shortest_s, longest_s)
            job = RenderJob(prompt=f"simulated {seconds:.2f}", burst=BurstMode.ALWAYS)
            self.ids.append(self.ledger.desk.submit(job, source="client").job_id)

    def place(self) -> int:
        """Dispatchers race for the cap."""
        tally: Counter[str] = Counter()

        def dispatch(_: int) -> dict[str, int]:
            return Dispatcher(self.ledger, self.open_ends.nudger, self.settings).run(Kind.RENDER)

        with ThreadPoolExecutor(DISPATCHERS) as threads:
            for one in threads.map(dispatch, range(DISPATCHERS)):
                tally.update(one)
        return tally["placed_modal"]

    def spawn(self) -> int:
        """Spawn all that was placed."""
        tally: Counter[str] = Counter()
        spawner = Spawner(self.open_ends, self.modal, Gate(self.ledger, breaker_rules(self.settings)))
        while self.ledger.client.zcard(f"{self.ledger.prefix}:waiting:modal"):
            tally.update(spawner.run(worker="benchmark"))
        return tally["spawned"]

    def cancel_some(self) -> list[str]:
        """Cancel a share of the calls in flight, all at once."""
        running = [one for one in self.ids[: self.calls] if self.ledger.desk.get(one).state is State.RUNNING]
        number = min(CANCELLED_MOST, round(self.calls * CANCELLED_RATIO), len(running))
        chosen = self.random.sample(running, number)
        for job_id in chosen:
            self.ledger.desk.cancel(job_id)
        return chosen

    def wait_for_the_ends(self) -> None:
        """Until no attempt is alive any more."""
        until = time.monotonic() + self.shortest_s + self.calls / ENDS_PER_S + 120
        while self.ledger.placing.view().modal_attempts:
            if time.monotonic() > until:
                raise SystemExit(f"calls are still alive: {self.ledger.placing.view()}")
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
        lags = []
        for job_id in self.ids:
            measured = self.ledger.desk.attempt(job_id, 1).get("measurements")
            if measured:
                lags.append(float(json.loads(measured)["follow_lag_s"]))
        return sorted(lags)

    def stop_times_s(self, cancelled: list[str]) -> list[float]:
        """From each cancellation to the settlement of its call, which has ended then."""
        times = []
        for job_id in cancelled:
            record, attempt = self.ledger.desk.get(job_id), self.ledger.desk.attempt(job_id, 1)
            times.append((int(attempt["settled_ms"]) - (record.finished_ms or 0)) / 1000)
        return sorted(times)

    def cpu_s(self) -> float:
        """Processor time of the followers so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.followers)


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


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def _quantile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


def tell(figures: dict[str, Any]) -> None:
    """A table for people, and one line for programs."""
    for name, value in figures.items():
        print(f"{name:<22} {value:>16,}" if isinstance(value, int) else f"{name:<22} {value!s:>16}")
    print(json.dumps(figures))


if __name__ == "__main__":
    sys.exit(main())
