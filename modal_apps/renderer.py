"""The deployed renderer: `engines/render` behind a `modal.Cls`. Deploy with `modal deploy -m modal_apps.renderer`.

Stateless: it takes a request, returns an envelope with the MP4, and touches neither our Redis nor our S3. Its GPU
class is chosen by the caller (`with_options(gpu=...)`); each class is a pool of its own on Modal's side.
"""

import os
import time
from typing import Any

import modal

from engines.memory import peak_memory_bytes
from engines.render.contract import RenderRequest, RenderResult
from engines.render.errors import InvalidRenderRequest, RenderCancelled, RenderOutOfMemory, UnknownEngine
from engines.render.registry import get_engine
from modal_apps.announce import ContainerStart, announce_or_leave, hinter_of
from modal_apps.container import process_age_s
from modal_apps.envelope import Envelope, RemoteError, Timings
from modal_apps.hints import Hinter
from modal_apps.images import render_image
from modal_apps.names import RENDERER_APP
from modal_apps.signing import AttemptOf
from modal_apps.uploads import UploadAddress, UploadFailed, upload

#: Seconds that an idle container stays. 60 rather than 300 cuts spend by a tenth on short jobs (replayed traces).
SCALEDOWN_WINDOW_S = int(os.environ.get("OVERSPILL_MODAL_SCALEDOWN_WINDOW_S", "60"))
#: Modal's own bound of one call, seconds. Ours, in the ledger, is tighter.
TIMEOUT_S = int(os.environ.get("OVERSPILL_MODAL_TIMEOUT_S", "1800"))
#: Containers at most, in each GPU class: the blast radius, next to the ledger's caps.
MAX_CONTAINERS = int(os.environ.get("OVERSPILL_MODAL_MAX_CONTAINERS", "50"))
#: A larger video does not travel as a result: whoever fetches it must hold it in memory. It goes by `upload_to`.
MAX_RESULT_BYTES = int(os.environ.get("OVERSPILL_MODAL_MAX_RESULT_BYTES", str(256 * 1024**2)))
DEFAULT_GPU = "H100"

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
    env={"OVERSPILL_MODAL_MAX_RESULT_BYTES": str(MAX_RESULT_BYTES)},
)
class Renderer:
    """One GPU, one render at a time. Retries are the ledger's, never Modal's."""

    @modal.enter()
    def start(self) -> None:
        """Import what a render needs before the first request is taken."""
        self.container_started_at = time.time() - (process_age_s() or 0.0)
        self.inputs_seen = 0
        get_engine("procedural")

    @modal.method()
    def render(
        self,
        request: dict[str, Any],
        attempt_of: tuple[str, int] | tuple[str, int, str] | None = None,
        upload_to: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Render one request (`RenderRequest.to_wire()`); the answer is `Envelope.to_wire()`.

        `attempt_of` is the job and the attempt that it is for, and the key that signs for it: the call announces itself
        under them first, and leaves at once if another call of the same attempt works already. The value holds `mp4`,
        `thumbnail_webp`, `sha256` and `measurements`; or, with `upload_to` (file -> `UploadAddress.to_wire()`),
        `uploaded` instead of the files.
        """
        started_at, began = time.time(), time.monotonic()
        self.inputs_seen += 1
        here = ContainerStart(os.environ.get("MODAL_TASK_ID", ""), self.container_started_at)
        of = AttemptOf(*attempt_of) if attempt_of is not None else None
        announced, leaves = announce_or_leave(of, here)
        hinter = hinter_of(announced, of)
        value, error = _render(request, hinter, upload_to) if leaves is None else (None, leaves)
        peak_gpu_bytes = None if value is None else value["measurements"].get("peak_gpu_memory_bytes")
        if hinter is not None:
            hinter.done(peak_gpu_memory_bytes=peak_gpu_bytes, result_bytes=len((value or {}).get("mp4", b"")))
        envelope = Envelope(
            timings=Timings(
                self.container_started_at,
                started_at,
                time.time(),
                ran_s=time.monotonic() - began,
                container_age_s=process_age_s(),
            ),
            container_id=here.container_id,
            cold_start=self.inputs_seen == 1,
            peak_memory_bytes=peak_memory_bytes(),
            peak_gpu_memory_bytes=peak_gpu_bytes,
            value=value,
            error=error,
            earlier=tuple(
                (start.container_id, start.started_at)
                for start in (announced.containers if announced else ())
                if start.container_id != here.container_id
            ),
        )
        return envelope.to_wire()


def _render(
    request: dict[str, Any], hinter: Hinter | None, upload_to: dict[str, Any] | None
) -> tuple[dict[str, Any] | None, RemoteError | None]:
    """A value or a typed error. `KeyboardInterrupt` and cancellation are Modal's, and pass through."""

    def on_progress(share: float) -> None:
        if hinter is not None:
            hinter.progress(share * 100)

    try:
        parsed = RenderRequest.from_wire(request)
        result = get_engine(parsed.engine).render(parsed, on_progress=on_progress, is_cancelled=lambda: False)
        return _value_of(result, upload_to)
    except (InvalidRenderRequest, UnknownEngine) as error:
        return None, RemoteError("invalid_request", str(error), retryable=False)
    except (RenderOutOfMemory, MemoryError) as error:
        return None, RemoteError("out_of_memory", str(error), retryable=True)
    except RenderCancelled as error:
        return None, RemoteError("cancelled", str(error), retryable=True)
    except UploadFailed as error:
        return None, RemoteError("upload_failed", str(error), retryable=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the wire carries words, never an exception of the user's
        return None, RemoteError("error", f"{type(error).__name__}: {error}", retryable=True)


def _value_of(
    result: RenderResult, upload_to: dict[str, Any] | None
) -> tuple[dict[str, Any] | None, RemoteError | None]:
    """What is answered: the files themselves, or where they were put."""
    measurements = vars(result.measurements)
    if upload_to is not None:
        files = {"video": result.mp4, "thumbnail": result.thumbnail_webp}
        uploaded = {
            name: upload(UploadAddress.from_wire(upload_to[name]), body)
            for name, body in files.items()
            if body and name in upload_to
        }
        return {"uploaded": uploaded, "measurements": measurements}, None
    if len(result.mp4) > MAX_RESULT_BYTES:
        message = f"expected a video of at most {MAX_RESULT_BYTES} bytes as a result, got {len(result.mp4)}"
        return None, RemoteError("result_too_large", message, retryable=False)
    return {
        "mp4": result.mp4,
        "thumbnail_webp": result.thumbnail_webp,
        "sha256": result.sha256,
        "measurements": measurements,
    }, None
