"""The deployed renderer: `engines/render` behind a `modal.Cls`. Deploy with `modal deploy -m modal_apps.renderer`.

Stateless: it takes a request, returns an envelope with the MP4, and touches neither our Redis nor our S3. Its GPU
class is chosen by the caller (`with_options(gpu=...)`); each class is a pool of its own on Modal's side.
"""

import os
import time
from typing import Any

import modal

from engines.memory import peak_memory_bytes
from engines.render.contract import RenderRequest
from engines.render.errors import InvalidRenderRequest, RenderCancelled, RenderOutOfMemory, UnknownEngine
from engines.render.registry import get_engine
from modal_apps.announce import ContainerStart, announce
from modal_apps.envelope import Envelope, RemoteError, Timings
from modal_apps.images import render_image
from modal_apps.names import RENDERER_APP

#: Seconds that an idle container stays. 60 rather than 300 cuts spend by a tenth on short jobs (replayed traces).
SCALEDOWN_WINDOW_S = int(os.environ.get("OVERSPILL_MODAL_SCALEDOWN_WINDOW_S", "60"))
#: Modal's own bound of one call, seconds. Ours, in the ledger, is tighter.
TIMEOUT_S = int(os.environ.get("OVERSPILL_MODAL_TIMEOUT_S", "1800"))
#: Containers at most, in each GPU class: the blast radius, next to the ledger's caps.
MAX_CONTAINERS = int(os.environ.get("OVERSPILL_MODAL_MAX_CONTAINERS", "50"))
DEFAULT_GPU = "H100"

#: What a second call of the same attempt answers.
SUPERSEDED = RemoteError("superseded", "another call of the same attempt works already", retryable=False)

app = modal.App(RENDERER_APP, include_source=False)


@app.cls(
    image=render_image(),
    gpu=DEFAULT_GPU,
    cpu=2.0,
    memory=8192,
    timeout=TIMEOUT_S,
    scaledown_window=SCALEDOWN_WINDOW_S,
    min_containers=0,
    max_containers=MAX_CONTAINERS,
    retries=0,
)
class Renderer:
    """One GPU, one render at a time. Retries are the ledger's, never Modal's."""

    @modal.enter()
    def start(self) -> None:
        """Import what a render needs before the first request is taken."""
        self.container_started_at = _process_started_at()
        self.inputs_seen = 0
        get_engine("procedural")

    @modal.method()
    def render(self, request: dict[str, Any], attempt_of: tuple[str, int] | None = None) -> dict[str, Any]:
        """Render one request (`RenderRequest.to_wire()`); the answer is `Envelope.to_wire()`.

        `attempt_of` is the job and the attempt that it is for: the call announces itself under them first, and leaves
        at once if another call of the same attempt works already. The value holds `mp4`, `thumbnail_webp`, `sha256`
        and `measurements`.
        """
        started_at = time.time()
        self.inputs_seen += 1
        here = ContainerStart(os.environ.get("MODAL_TASK_ID", ""), self.container_started_at)
        announced = announce(*attempt_of, here) if attempt_of is not None else None
        wanted = attempt_of is None or announced is not None
        value, error = _render(request) if wanted else (None, SUPERSEDED)
        envelope = Envelope(
            timings=Timings(self.container_started_at, started_at, time.time()),
            container_id=here.container_id,
            cold_start=self.inputs_seen == 1,
            peak_memory_bytes=peak_memory_bytes(),
            peak_gpu_memory_bytes=None if value is None else value["measurements"].get("peak_gpu_memory_bytes"),
            value=value,
            error=error,
            earlier=tuple(
                (start.container_id, start.started_at)
                for start in (announced.containers if announced else ())
                if start.container_id != here.container_id
            ),
        )
        return envelope.to_wire()


def _process_started_at() -> float:
    """When this container's process began, seconds since 1970: what is billed begins with it, not with our code."""
    try:
        with open("/proc/self/stat", encoding="ascii") as stat, open("/proc/uptime", encoding="ascii") as uptime:  # noqa: PTH123 - /proc
            ticks = int(stat.read().rpartition(")")[2].split()[19])
            up_s = float(uptime.read().split()[0])
    except (OSError, ValueError, IndexError):
        return time.time()
    return time.time() - (up_s - ticks / os.sysconf("SC_CLK_TCK"))


def _render(request: dict[str, Any]) -> tuple[dict[str, Any] | None, RemoteError | None]:
    """A value or a typed error. `KeyboardInterrupt` and cancellation are Modal's, and pass through."""
    try:
        parsed = RenderRequest.from_wire(request)
        result = get_engine(parsed.engine).render(parsed, on_progress=lambda _: None, is_cancelled=lambda: False)
    except (InvalidRenderRequest, UnknownEngine) as error:
        return None, RemoteError("invalid_request", str(error), retryable=False)
    except (RenderOutOfMemory, MemoryError) as error:
        return None, RemoteError("out_of_memory", str(error), retryable=True)
    except RenderCancelled as error:
        return None, RemoteError("cancelled", str(error), retryable=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the wire carries words, never an exception of the user's
        return None, RemoteError("error", f"{type(error).__name__}: {error}", retryable=True)
    return {
        "mp4": result.mp4,
        "thumbnail_webp": result.thumbnail_webp,
        "sha256": result.sha256,
        "measurements": vars(result.measurements),
    }, None
