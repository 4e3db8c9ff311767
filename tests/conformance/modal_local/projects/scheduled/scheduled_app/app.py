"""Functions with schedules."""

import os
import time
from pathlib import Path

import modal

LOG = os.environ.get("SCHEDULED_LOG", "/nowhere")
image = modal.Image.debian_slim().env({"SCHEDULED_LOG": LOG}).add_local_python_source("scheduled_app")
app = modal.App("scheduled", image=image, include_source=False)


def _note(name: str) -> None:
    with Path(LOG).open("a") as file:
        file.write(f"{name}\n")


@app.function(scaledown_window=2, schedule=modal.Period(hours=5))
def every_five_hours() -> None:
    _note("period")


@app.function(scaledown_window=2, schedule=modal.Cron("0 6 * * *", timezone="America/New_York"))
def at_six() -> None:
    _note("cron")


@app.function(scaledown_window=2, schedule=modal.Period(seconds=1))
def often() -> None:
    _note("often")


@app.local_entrypoint()
def wait() -> None:
    deadline = time.monotonic() + 20
    while not Path(LOG).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
