"""The `procedural` engine: scene and titles, frame by frame, into the encoder. One frame is held at a time."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

import av
from av.video.reformatter import Colorspace, VideoReformatter

from engines.memory import peak_memory_bytes
from engines.render.contract import CancelCheck, ProgressCallback, RenderMeasurements, RenderRequest, RenderResult
from engines.render.encode import Mp4Encoder, thumbnail_webp
from engines.render.errors import RenderCancelled, RenderOutOfMemory
from engines.render.procedural import scene
from engines.render.procedural.titles import Titles

_PROGRESS_STEPS = 20  # one report for every 5 %


class Film:
    """The pictures of a request: `picture(n)` depends on the request and n alone."""

    def __init__(self, request: RenderRequest) -> None:
        self._request = request
        self._scene = scene.compose(request)
        self._titles = Titles(request, self._scene.palette)
        self._enlarger = VideoReformatter()

    def picture(self, index: int) -> av.VideoFrame:
        """Frame `index` at full size, yuv420p, BT.709."""
        t_s = index / self._request.fps
        small = av.VideoFrame.from_ndarray(self._scene.paint(t_s), format="rgb24")
        frame = self._enlarger.reformat(
            small,
            width=self._request.width,
            height=self._request.height,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            interpolation="BICUBIC",
            threads=1,
        )
        self._titles.draw(frame, t_s)
        return frame


@dataclass
class _Stopwatch:
    """Adds up wall-clock seconds by what they were spent on."""

    started_s: float = field(default_factory=time.perf_counter)
    render_s: float = 0.0
    encode_s: float = 0.0


class ProceduralEngine:
    """CPU only, deterministic from the request; under two seconds of one core for 96 frames of 1280x720."""

    name = "procedural"

    def render(
        self, request: RenderRequest, *, on_progress: ProgressCallback, is_cancelled: CancelCheck
    ) -> RenderResult:
        """Makes the video; see `RenderEngine.render`."""
        try:
            return _render(request, on_progress, is_cancelled)
        except MemoryError as error:
            raise RenderOutOfMemory("host") from error


def _render(request: RenderRequest, on_progress: ProgressCallback, is_cancelled: CancelCheck) -> RenderResult:
    watch = _Stopwatch()
    film = Film(request)
    watch.render_s = time.perf_counter() - watch.started_s
    thumbnail = b""
    with Mp4Encoder(width=request.width, height=request.height, fps=request.fps) as encoder:
        for index in range(request.frames):
            if is_cancelled():
                raise RenderCancelled(index, request.frames)
            begun_s = time.perf_counter()
            frame = film.picture(index)
            painted_s = time.perf_counter()
            if index == 0:
                thumbnail = thumbnail_webp(frame)
            encoder.add(frame)
            watch.render_s += painted_s - begun_s
            watch.encode_s += time.perf_counter() - painted_s
            _report(on_progress, index, request.frames)
        begun_s = time.perf_counter()
        mp4 = encoder.finish()
        watch.encode_s += time.perf_counter() - begun_s
    measurements = RenderMeasurements(
        frames=request.frames,
        render_s=watch.render_s,
        encode_s=watch.encode_s,
        total_s=time.perf_counter() - watch.started_s,
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_memory_bytes=None,
        bytes_out=len(mp4),
    )
    on_progress(1.0)
    return RenderResult(mp4, thumbnail, measurements, hashlib.sha256(mp4).hexdigest())


def _report(on_progress: ProgressCallback, index: int, frames: int) -> None:
    """Reports when a step is done; never 1.0, which is reported when the file is whole."""
    before, after = index * _PROGRESS_STEPS // frames, (index + 1) * _PROGRESS_STEPS // frames
    if after > before and after < _PROGRESS_STEPS:
        on_progress(after / _PROGRESS_STEPS)
