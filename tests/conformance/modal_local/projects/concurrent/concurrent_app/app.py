"""An app whose containers take several inputs at once, in every way in which a function or a class can."""

import asyncio
import os
import time

import modal

image = (
    modal.Image.debian_slim()
    .env({"CONCURRENT_MARK": os.environ.get("CONCURRENT_MARK", "first")})
    .add_local_python_source("concurrent_app")
)
app = modal.App("concurrent", image=image, include_source=False)
WINDOW_S = 2


@app.function(scaledown_window=WINDOW_S)
@modal.concurrent(max_inputs=8)
async def plain(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@app.function(scaledown_window=WINDOW_S)
@modal.concurrent(max_inputs=8)
def threaded(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.function(scaledown_window=WINDOW_S)
@modal.concurrent(max_inputs=8, target_inputs=2)
async def targeted(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@app.function(scaledown_window=WINDOW_S)
@modal.concurrent(max_inputs=8)
async def counted(limit: int):
    for number in range(limit):
        yield number


@app.function(scaledown_window=WINDOW_S)
@modal.concurrent(max_inputs=2)
@modal.batched(max_batch_size=4, wait_ms=50)
async def batched(numbers: list[int]) -> list[int]:
    return [number + 1 for number in numbers]


@app.function(scaledown_window=WINDOW_S)
@modal.batched(max_batch_size=4, wait_ms=50)
async def batched_alone(numbers: list[int]) -> list[int]:
    return [number + 1 for number in numbers]


@app.function(scaledown_window=WINDOW_S, timeout=1)
@modal.concurrent(max_inputs=8)
async def overdue() -> None:
    await asyncio.sleep(60)


@app.function(scaledown_window=WINDOW_S)
@modal.concurrent(max_inputs=8)
async def failing() -> None:
    raise ValueError("not this time")


@app.cls(scaledown_window=WINDOW_S)
@modal.concurrent(max_inputs=8)
class Renderer:
    @modal.enter()
    def begin(self) -> None:
        self.ready = True

    @modal.method()
    async def render(self, seconds: float = 0.0) -> bool:
        await asyncio.sleep(seconds)
        return self.ready


@app.cls(scaledown_window=WINDOW_S)
@modal.concurrent(max_inputs=8, target_inputs=2)
class Tuned:
    size: int = modal.parameter(default=1)

    @modal.method()
    def work(self, seconds: float = 0.0) -> int:
        time.sleep(seconds)
        return self.size

    @modal.method()
    async def each(self, limit: int):
        for number in range(limit):
            yield number * self.size
