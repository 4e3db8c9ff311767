"""From moments to pictures: denoises several frames at a time, and widens each to the shape of the video."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from engines.render.contract import RenderRequest
from engines.render.dit.script import Moment, moment, wanted_classes
from engines.train.models.transformer import DiffusionTransformer
from engines.train.recipes import flow
from engines.train.seeding import generator
from engines.train.trained import Trained

#: Frames denoised together: enough to fill a small GPU, few enough that a cancelled job stops soon.
FRAMES_AT_ONCE: Final = 12
_HALF_SCALE: Final = 127.5
_FADE_SHARE: Final = 0.25


class Film:
    """The pictures of a request, in order.

    Args:
        request: What to show.
        trained: The transformer.
    """

    def __init__(self, request: RenderRequest, trained: Trained) -> None:
        if not isinstance(trained.model, DiffusionTransformer):
            raise TypeError(f"expected a DiffusionTransformer, got {type(trained.model).__name__}")
        self._request, self._model, self._config = request, trained.model, trained.config
        self._classes = wanted_classes(request.prompt, trained.classes, request.seed)
        chance = generator(request.seed, "film")
        side = trained.config.image_size
        self._noises = torch.randn(2, 3, side, side, generator=chance).to(self._device)
        self._enlarger = VideoReformatter()

    def pictures(self) -> Iterator[av.VideoFrame]:
        """Every frame at full size, yuv420p, BT.709."""
        request = self._request
        moments = [
            moment(self._classes, time_s=index / request.fps, duration_s=request.seconds)
            for index in range(request.frames)
        ]
        for start in range(0, len(moments), FRAMES_AT_ONCE):
            for small in self._denoised(moments[start : start + FRAMES_AT_ONCE]):
                yield self._enlarged(widened(small, width=request.width, height=request.height))

    @property
    def _device(self) -> torch.device:
        return self._model.label.weight.device

    def _denoised(self, moments: list[Moment]) -> NDArray[np.uint8]:
        with torch.no_grad():
            angles = self._numbers([one.angle for one in moments])[:, None, None, None]
            # On the circle, not on the line between them: every mixture is again noise of strength 1.
            noise = angles.cos() * self._noises[0] + angles.sin() * self._noises[1]
            shares = self._numbers([one.share for one in moments])[:, None]
            before = self._features([one.before for one in moments])
            after = self._features([one.after for one in moments])
            *_, images = flow.denoise(
                self._model.velocity,
                noise,
                before + shares * (after - before),
                self._features([self._model.classes] * len(moments)),
                guidance=self._config.guidance,
                steps=self._config.sample_steps,
            )
        scaled = (images.clamp(-1, 1) + 1) * _HALF_SCALE
        return np.asarray(scaled.round().byte().permute(0, 2, 3, 1).cpu().numpy())

    def _numbers(self, numbers: list[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float32, device=self._device)

    def _features(self, labels: list[int]) -> Tensor:
        features: Tensor = self._model.label(torch.tensor(labels, device=self._device))
        return features

    def _enlarged(self, small: NDArray[np.uint8]) -> av.VideoFrame:
        return self._enlarger.reformat(
            av.VideoFrame.from_ndarray(small, format="rgb24"),
            width=self._request.width,
            height=self._request.height,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            interpolation="BICUBIC",
            threads=1,
        )


def widened(square: NDArray[np.uint8], *, width: int, height: int) -> NDArray[np.uint8]:
    """The square picture with its ground continued on two sides, until it has the shape width : height.

    Its longer side is even, as the chroma of a video wants it. At the seam the ground is that of the square's edge;
    outwards it fades to the mean colour of all four edges.
    """
    side = len(square)
    long_side = round(side * max(width, height) / min(width, height) / 2) * 2
    if long_side <= side:
        return square
    before = (long_side - side) // 2
    after = long_side - side - before
    upright = square if width >= height else square.transpose(1, 0, 2)
    border = np.concatenate((square[0], square[-1], square[:, 0], square[:, -1])).mean(axis=0)
    padded = np.pad(upright.astype(np.float32), ((0, 0), (before, after), (0, 0)), mode="edge")
    columns = np.arange(long_side)
    outside = np.maximum(before - columns, columns - (before + side - 1)).clip(0)
    kept = (1 - outside / max(1.0, side * _FADE_SHARE)).clip(0, 1).astype(np.float32)[None, :, None]
    wide = np.rint(padded * kept + border * (1 - kept)).astype(np.uint8)
    return np.ascontiguousarray(wide if width >= height else wide.transpose(1, 0, 2))
