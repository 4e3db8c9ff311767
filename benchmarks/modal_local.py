"""How fast modal_local is, through the unmodified SDK: `python -m benchmarks.modal_local [--quick]`.

Prints one line for each figure, with the target that it has to reach and the machine's cores.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import modal

from tests.conformance.modal_local.conftest import make_client
from tests.support.modal_local import ModalLocalProcess, start_modal_local

PROJECT = Path(__file__).parents[1] / "tests" / "conformance" / "modal_local" / "projects" / "basic"
CONCURRENCY = 50


def main() -> int:
    """Runs all benchmarks. Returns 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    scale = 10 if parser.parse_args().quick else 1
    print(f"cores: {os.cpu_count()}, modal {modal.__version__}")
    met = [
        *asyncio.run(spawns_and_polls(4_000 // scale)),
        cold_start(max(3, 10 // scale)),
        *asyncio.run(in_flight(50_000 // scale)),
    ]
    return 0 if all(met) else 1


def tell(name: str, value: float, unit: str, target: float, *, at_most: bool = False) -> bool:
    """Prints a figure. Returns whether it reaches its target."""
    met = value <= target if at_most else value >= target
    sign = "<=" if at_most else ">="
    print(f"{name}: {value:,.3g} {unit} (target {sign} {target:,g}: {'met' if met else 'MISSED'})", flush=True)
    return met


def deployed(server: ModalLocalProcess) -> modal.Client:
    """Deploys the test project. Returns a client."""
    command = [sys.executable, "-m", "modal", "deploy", "-m", "basic_app.app"]
    subprocess.run(command, cwd=PROJECT, env=server.environ(), check=True, capture_output=True)
    return make_client(server)


class Cpu:
    """Processor time of this process and the server's, which tells what a busy machine's wall clock cannot."""

    def __init__(self, server_pid: int) -> None:
        self._stat = Path(f"/proc/{server_pid}/stat")
        self._before = self._now()

    def _now(self) -> tuple[float, float]:
        ticks = self._stat.read_text().rsplit(")", 1)[1].split()[11:13]
        return time.process_time(), sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    def tell(self, name: str, count: int) -> None:
        """Prints milliseconds for each of so many, since the last time."""
        now = self._now()
        client, server = (1000 * (after - before) / count for after, before in zip(now, self._before, strict=True))
        self._before = now
        print(f"  processor time of a {name}: {client:.2f} ms in the client, {server:.2f} ms in the server")


async def in_parallel(count: int, action: Any) -> float:
    """Does something so many times, a bounded number at once. Returns the seconds that it took."""
    gate = asyncio.Semaphore(CONCURRENCY)

    async def one(number: int) -> None:
        async with gate:
            await action(number)

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(count)))
    return time.perf_counter() - began


async def spawns_and_polls(count: int) -> list[bool]:
    """One client process, real mode, state on disk; the pool waits for a card, so no container shares the cores."""
    with tempfile.TemporaryDirectory() as state:
        server = start_modal_local(state, gpus="H100=0")
        try:
            client = await asyncio.to_thread(deployed, server)
            worker = modal.Cls.from_name("basic", "Worker", client=client).with_options(gpu="H100")()
            # Bound once, as a caller in a hurry does: looking the method up copies its options each time.
            task = worker.task
            calls: list[modal.FunctionCall[Any]] = [await task.spawn.aio() for _ in range(20)]

            async def spawn(_: int) -> None:
                calls.append(await task.spawn.aio())

            async def poll(number: int) -> None:
                try:
                    await calls[number % len(calls)].get.aio(timeout=0)
                except TimeoutError:
                    return
                raise AssertionError("a call without a card has ended")

            cpu = Cpu(server.process.pid)
            spawn_s = await in_parallel(count, spawn)
            cpu.tell("spawn", count)
            poll_s = await in_parallel(count, poll)
            cpu.tell("poll", count)
            return [
                tell("spawns", count / spawn_s, "per second", 800),
                tell("polls", count / poll_s, "per second", 600),
            ]
        finally:
            server.stop()


def cold_start(times: int) -> bool:
    """From spawn to result with no container there, trivial function; the median."""
    server = start_modal_local(starts_per_s=100)
    try:
        client = deployed(server)
        worker = modal.Cls.from_name("basic", "Worker", client=client)
        worker().task.remote()  # compiles what was deployed
        seconds = []
        for number in range(times):
            variant = worker.with_options(timeout=100 + number)()
            began = time.perf_counter()
            variant.task.remote()
            seconds.append(time.perf_counter() - began)
        return tell("cold start to result, median", statistics.median(seconds), "s", 0.5, at_most=True)
    finally:
        server.stop()


def peak_memory_gib(pid: int) -> float:
    """The most memory that a process has had."""
    [line] = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) / 2**20


async def in_flight(count: int) -> list[bool]:
    """Fast mode: so many calls in flight at once, each in a simulated container, then cancelled poll by poll."""
    server = start_modal_local(simulate=True)
    try:
        client = await asyncio.to_thread(deployed, server)
        nap = modal.Function.from_name("basic", "nap", client=client)
        await nap.hydrate.aio()
        ids: list[str] = []

        async def spawn(_: int) -> None:
            ids.append((await nap.spawn.aio(600.0)).object_id)

        seconds = await in_parallel(count, spawn)
        stats = await nap.get_current_stats.aio()
        print(
            f"  in flight: {stats.num_running_inputs:,} running, {stats.backlog:,} waiting, spawned in {seconds:.0f} s"
        )
        assert stats.num_running_inputs + stats.backlog == count
        return [
            tell("calls in flight", stats.num_running_inputs, "calls", count),
            tell("memory of the server", peak_memory_gib(server.process.pid), "GiB", 1.5, at_most=True),
        ]
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
