"""The app that the conformance tests deploy."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import modal
from basic_engine import VERSION, double

image = (
    modal.Image.debian_slim().env({"BASIC_MARK": "from the image"}).add_local_python_source("basic_app", "basic_engine")
)
app = modal.App("basic", image=image, include_source=False)


class OddError(Exception):
    """An error of the app's own."""


@app.function(timeout=30, scaledown_window=3)
def square(number: int) -> int:
    return number * number


@app.function(scaledown_window=3)
def fail(kind: str) -> None:
    if kind == "value":
        raise ValueError("a bad value")
    if kind == "own":
        raise OddError("of our own")
    if kind == "timeout":
        raise TimeoutError("not the pending one")
    if kind == "exit":
        sys.exit(7)
    os._exit(int(kind))


@app.function(timeout=1, scaledown_window=3)
def too_slow() -> None:
    time.sleep(20)


@app.function(scaledown_window=3)
def nap(seconds: float, mark: str = "") -> str:
    try:
        time.sleep(seconds)
    except BaseException as error:
        if mark:
            with Path(mark).open("a") as file:
                file.write(type(error).__name__ + "\n")
        raise
    return "slept"


@app.function(scaledown_window=3, retries=modal.Retries(max_retries=2, initial_delay=0.0, backoff_coefficient=1.0))
def flaky(counter: str, good_from: int) -> int:
    with Path(counter).open("a") as file:
        file.write("x")
    tries = Path(counter).stat().st_size
    if tries < good_from:
        raise RuntimeError(f"try {tries}")
    return tries


@app.function(scaledown_window=3)
def die_once(counter: str, how: int) -> int:
    with Path(counter).open("a") as file:
        file.write("x")
    tries = Path(counter).stat().st_size
    if tries == 1:
        os.kill(os.getpid(), how)
        time.sleep(10)
    return tries


@app.function(scaledown_window=3)
def big(size_bytes: int) -> bytes:
    return b"x" * size_bytes


@app.function(scaledown_window=3)
def measure(payload: bytes) -> int:
    return len(payload)


@app.function(scaledown_window=3)
def child_of(number: int) -> int:
    return square.remote(number) + 1


@app.function(scaledown_window=3)
def count_to(limit: int):
    yield from range(limit)


@app.function(scaledown_window=3)
@modal.concurrent(max_inputs=20)
async def together(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return os.environ["MODAL_TASK_ID"]


@app.function(scaledown_window=3)
@modal.batched(max_batch_size=4, wait_ms=500)
def batch(numbers: list[int]) -> list[tuple[int, int]]:
    return [(number, len(numbers)) for number in numbers]


@app.function(scaledown_window=3)
def where() -> dict[str, object]:
    return {
        "path": list(sys.path),
        "file": __file__,
        "cwd": str(Path.cwd()),
        "mark": os.environ.get("BASIC_MARK"),
        "task": os.environ["MODAL_TASK_ID"],
        "version": VERSION,
        "sigint_ignored": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "pid": os.getpid(),
    }


@app.cls(scaledown_window=3, timeout=60)
class Worker:
    greeting: str = modal.parameter(default="hello")
    log: str = modal.parameter(default="")

    @modal.enter()
    def begin(self) -> None:
        self.began = time.time()
        self._note("enter")

    def _note(self, text: str) -> None:
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(text + "\n")

    @modal.method()
    def greet(self, name: str) -> str:
        return f"{self.greeting} {name} {double(21)} {VERSION}"

    @modal.method()
    def task(self, seconds: float = 0.0) -> str:
        time.sleep(seconds)
        return os.environ["MODAL_TASK_ID"]

    @modal.method()
    def boom(self) -> None:
        raise KeyError("boom")

    @modal.exit()
    def end(self) -> None:
        self._note("exit")


@app.cls(scaledown_window=3)
class Broken:
    @modal.enter()
    def begin(self) -> None:
        raise RuntimeError("no weights here")

    @modal.method()
    def run(self) -> int:
        return 1


@app.function(scaledown_window=3)
def shout() -> None:
    print("shouting from a container")  # noqa: T201 - to be found in the logs


@app.cls(scaledown_window=3, enable_memory_snapshot=True)
class Snapped:
    @modal.enter(snap=True)
    def load(self) -> None:
        self.steps = ["loaded"]

    @modal.enter(snap=False)
    def restored(self) -> None:
        self.steps.append("restored")

    @modal.method()
    def story(self) -> list[str]:
        return self.steps


@app.cls(scaledown_window=3, startup_timeout=2, timeout=50)
class SlowStart:
    @modal.enter()
    def begin(self) -> None:
        time.sleep(30)

    @modal.method()
    def run(self) -> int:
        return 1


@app.function(scaledown_window=2)
def leave_a_child() -> int:
    return subprocess.Popen(["sleep", "300"]).pid
