"""The `dit` engine: denoised frames into the encoder, a few at a time."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engines.memory import peak_memory_bytes
from engines.render.contract import CancelCheck, ProgressCallback, RenderMeasurements, RenderRequest, RenderResult
from engines.render.dit.model import checkpoint_path, load_model
from engines.render.encode import Mp4Encoder, thumbnail_webp
from engines.render.errors import RenderCancelled, RenderOutOfMemory

if TYPE_CHECKING:
    from engines.train.trained import Trained

_PROGRESS_STEPS = 20  # one report for every 5 %


class DitEngine:
    """Samples a video from a trained diffusion transformer.

    Args:
        checkpoint: Its folder; None: the one that the request means, see `model.checkpoint_path`.
    """

    name = "dit"

    def __init__(self, checkpoint: Path | None = None) -> None:
        self._checkpoint = checkpoint

    def render(
        self, request: RenderRequest, *, on_progress: ProgressCallback, is_cancelled: CancelCheck
    ) -> RenderResult:
        """Makes the video; see `RenderEngine.render`.

        Raises:
            NoModel: There is no trained transformer to sample from.
        """
        begun_s = time.perf_counter()
        trained = load_model(request.engine, self._checkpoint or checkpoint_path(request.engine, os.environ))
        from engines.train import device  # noqa: PLC0415 - needs torch, which `load_model` has found

        try:
            with device.deterministic(None):
                return _render(request, trained, begun_s, on_progress, is_cancelled)
        except (MemoryError, RuntimeError) as error:
            memory = device.ran_out_of(error)
            if memory is None:
                raise
            raise RenderOutOfMemory(memory) from error


def _render(
    request: RenderRequest, trained: Trained, begun_s: float, on_progress: ProgressCallback, is_cancelled: CancelCheck
) -> RenderResult:
    from engines.render.dit.film import Film  # noqa: PLC0415 - needs torch
    from engines.train import device  # noqa: PLC0415 - needs torch

    where = next(trained.model.parameters()).device
    device.begin_gpu_peak(where)
    film = Film(request, trained)
    thumbnail, encode_s = b"", 0.0
    with Mp4Encoder(width=request.width, height=request.height, fps=request.fps) as encoder:
        for index, frame in enumerate(film.pictures()):
            if is_cancelled():
                raise RenderCancelled(index, request.frames)
            painted_s = time.perf_counter()
            thumbnail = thumbnail or thumbnail_webp(frame)
            encoder.add(frame)
            encode_s += time.perf_counter() - painted_s
            _report(on_progress, index, request.frames)
        painted_s = time.perf_counter()
        mp4 = encoder.finish()
        encode_s += time.perf_counter() - painted_s
    total_s = time.perf_counter() - begun_s
    measurements = RenderMeasurements(
        frames=request.frames,
        render_s=total_s - encode_s,
        encode_s=encode_s,
        total_s=total_s,
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_memory_bytes=device.peak_gpu_memory_bytes(where),
        bytes_out=len(mp4),
    )
    on_progress(1.0)
    return RenderResult(mp4, thumbnail, measurements, hashlib.sha256(mp4).hexdigest())


def _report(on_progress: ProgressCallback, index: int, frames: int) -> None:
    """Reports when a step is done; never 1.0, which is reported when the file is whole."""
    before, after = index * _PROGRESS_STEPS // frames, (index + 1) * _PROGRESS_STEPS // frames
    if after > before and after < _PROGRESS_STEPS:
        on_progress(after / _PROGRESS_STEPS)
