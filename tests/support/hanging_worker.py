"""A GPU worker whose engine hangs on request: `celery -A tests.support.hanging_worker worker ...`.

The prompt says what the engine does, as words: what it does, and, after `once`, a file that it makes at the first
attempt and is good after (`sleep once /tmp/here`).
"""

import ctypes
import subprocess
import sys
import time
from pathlib import Path

import engines.render.registry
from engines.render.contract import CancelCheck, ProgressCallback, RenderRequest, RenderResult
from engines.render.procedural.engine import ProceduralEngine
from workers.app import app

__all__ = ["app"]

#: Longer than any test.
FOREVER_S = 10_000
#: The environment variable that names the engine.
ENGINE = "hanging"
#: What the engine tells of progress, and how often: for as long as a test asks.
STEP_S = 0.1


class HangingEngine:
    """Renders as the procedural engine does, unless the prompt asks for something else first."""

    name = ENGINE

    def render(
        self, request: RenderRequest, *, on_progress: ProgressCallback, is_cancelled: CancelCheck
    ) -> RenderResult:
        """Does what the prompt says."""
        what, *words = request.prompt.split()
        marker = Path(words[words.index("once") + 1]) if "once" in words else None
        if marker is None or not marker.exists():
            if marker is not None:
                marker.touch()
            _BEHAVIOURS.get(what, _nothing)(words, on_progress)
        return ProceduralEngine().render(request, on_progress=on_progress, is_cancelled=is_cancelled)


def _nothing(words: list[str], on_progress: ProgressCallback) -> None:
    """Renders at once."""


def _sleep(words: list[str], on_progress: ProgressCallback) -> None:
    """Hangs as in a wait that nobody ends: other threads of the process go on."""
    on_progress(0.01)
    time.sleep(FOREVER_S)


def _hold(words: list[str], on_progress: ProgressCallback) -> None:
    """Hangs in C, with the interpreter's lock held: no thread of the process goes on."""
    on_progress(0.01)
    ctypes.PyDLL(None).sleep(FOREVER_S)


def _descend(words: list[str], on_progress: ProgressCallback) -> None:
    """Hangs with a child that has a child of its own, as torchrun has; their ids are in the file that is named."""
    program = (
        "import os, subprocess, sys, time; own = subprocess.Popen(['sleep', '10000']); "
        "open(sys.argv[1], 'w').write(f'{os.getpid()} {own.pid} '); time.sleep(10000)"
    )
    subprocess.Popen([sys.executable, "-c", program, words[0]])
    time.sleep(FOREVER_S)


def _steady(words: list[str], on_progress: ProgressCallback) -> None:
    """Goes on for so many seconds, with progress all the while."""
    seconds = float(words[0])
    began = time.monotonic()
    while (done := time.monotonic() - began) < seconds:
        on_progress(done / seconds / 2)
        time.sleep(STEP_S)


_BEHAVIOURS = {"sleep": _sleep, "hold": _hold, "descend": _descend, "steady": _steady}

engines.render.registry._ENGINES[ENGINE] = ("tests.support.hanging_worker", "HangingEngine")  # type: ignore[index]
