"""One real Celery worker in a process of its own, on a Redis of the test's."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from tests.support.waiting import until

REPOSITORY = Path(__file__).parents[2]
START_TIMEOUT_S = 60


@dataclass
class Worker:
    """A running worker."""

    process: "subprocess.Popen[bytes]"
    log: Path
    name: str

    @property
    def lives(self) -> bool:
        """Whether its process has not ended."""
        return self.process.poll() is None

    def logged(self) -> str:
        """Everything that it has logged."""
        return self.log.read_text(errors="replace")


@contextmanager
def running_worker(
    folder: Path, *, queues: str, environment: Mapping[str, str], app: Celery | None = None, pool: str = "threads"
) -> Iterator[Worker]:
    """A worker of some queues that is ready, for the time of the block.

    Args:
        folder: for its log.
        queues: what it consumes, comma separated.
        environment: its settings.
        app: asks it whether it is ready; None: its log is read for that.
        pool: Celery's pool.
    """
    name = f"worker-{os.getpid()}-{folder.name}@test"
    log = folder / f"worker-{queues.replace(',', '-')}.log"
    command = [
        sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", queues, "-P", pool, "-c", "2", "-n", name,
    ]  # fmt: skip
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "OVERSPILL_LOG_FORMAT": "json",
                "OVERSPILL_MAX_MODAL_ATTEMPTS": "0",
                **environment,
            },
            stdout=sink,
            stderr=sink,
        )
    worker = Worker(process, log, name)
    try:

        def ready() -> bool:
            assert worker.lives, f"the worker ended: {worker.logged()[-3000:]}"
            if app is None:
                return "service.started" in worker.logged()
            return bool(app.control.ping(destination=[name], timeout=0.5))

        until(ready, bool, timeout_s=START_TIMEOUT_S)
        yield worker
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
