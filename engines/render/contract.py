"""The render engine contract: what is asked, what is measured, what comes back. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from engines.render.errors import InvalidRenderRequest

# The prompt bound is the Videos API's own (1..32000 characters). The other bounds are what the engines can honour with
# bounded memory; which sizes and lengths are *offered* to customers is the API's decision, and narrower.
MAX_PROMPT_CHARS: Final = 32_000
MIN_SIDE_PX: Final = 64
MAX_SIDE_PX: Final = 3_840
MAX_FRAME_PX: Final = 3_840 * 2_160
MAX_SECONDS: Final = 60
MAX_FPS: Final = 60
MAX_SEED: Final = 2**63 - 1
MAX_ENGINE_NAME_CHARS: Final = 64

ProgressCallback = Callable[[float], None]
"""Told the finished share, 0.0 to 1.0, never falling, at most a few dozen times; 1.0 is the last one of a success."""

CancelCheck = Callable[[], bool]
"""Asked at every frame or step; True means: stop soon, by raising `RenderCancelled`. It must answer at once."""


@dataclass(frozen=True)
class RenderRequest:
    """One video to make. An instance is always within bounds: building an invalid one raises.

    Attributes:
        prompt: What the video shows; 1 to 32000 characters, at least one of them not white space.
        width: Pixels, even (4:2:0 chroma has half the columns), 64 to 3840.
        height: Pixels, even, 64 to 3840; width x height is at most 3840 x 2160.
        seconds: Whole seconds, 1 to 60. The video has exactly seconds x fps frames.
        fps: Frames per second, 1 to 60.
        seed: Same prompt and seed, same video; 0 to 2**63 - 1.
        engine: Name of the engine, as the registry knows it.

    Raises:
        InvalidRenderRequest: A field has the wrong type or is out of bounds; the first such field is named.
    """

    prompt: str
    width: int
    height: int
    seconds: int
    fps: int
    seed: int
    engine: str = "procedural"

    def __post_init__(self) -> None:
        _check_text("prompt", self.prompt, MAX_PROMPT_CHARS)
        _check_side("width", self.width)
        _check_side("height", self.height)
        if self.width * self.height > MAX_FRAME_PX:
            expected = f"width x height of at most {MAX_FRAME_PX} pixels"
            raise InvalidRenderRequest("height", f"{self.width}x{self.height}", expected)
        _check_int("seconds", self.seconds, 1, MAX_SECONDS)
        _check_int("fps", self.fps, 1, MAX_FPS)
        _check_int("seed", self.seed, 0, MAX_SEED)
        _check_text("engine", self.engine, MAX_ENGINE_NAME_CHARS)

    @property
    def frames(self) -> int:
        """Number of frames: seconds x fps, exactly."""
        return self.seconds * self.fps

    def to_wire(self) -> dict[str, object]:
        """The request as a dict of JSON types; `from_wire` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_wire(cls, wire: Mapping[str, object]) -> RenderRequest:
        """Builds a request from what `to_wire` made, trusting nothing.

        Only `engine` may be left out. A field that this version does not know is refused, not ignored: it would
        otherwise be paid for and not be honoured.

        Raises:
            InvalidRenderRequest: Not a mapping, a field is missing, unknown, of the wrong type or out of bounds.
        """
        if not isinstance(wire, Mapping):
            raise InvalidRenderRequest("request", wire, "an object with the fields of a render request")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in wire:
            if name not in fields:
                raise InvalidRenderRequest(str(name), wire[name], f"one of the fields {', '.join(fields)}")
        for name, field in fields.items():
            if name not in wire and field.default is dataclasses.MISSING:
                raise InvalidRenderRequest(name, None, "a value; the field is required")
        return cls(**dict(wire))  # type: ignore[arg-type]  # the constructor checks every type itself


@dataclass(frozen=True)
class RenderMeasurements:
    """What one render cost.

    Attributes:
        frames: Frames made.
        render_s: Wall-clock seconds spent on making pictures.
        encode_s: Wall-clock seconds spent in the encoder and the muxer.
        total_s: Wall-clock seconds from the call to its return; includes set-up and the thumbnail.
        peak_memory_bytes: Peak resident memory of the process, as the operating system counts it. It is a high-water
            mark of the whole process, so an earlier, larger job in the same process shows in it.
        peak_gpu_memory_bytes: Peak GPU memory; None if no GPU was used.
        bytes_out: Size of the MP4.
    """

    frames: int
    render_s: float
    encode_s: float
    total_s: float
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int | None
    bytes_out: int


@dataclass(frozen=True)
class RenderResult:
    """A finished video.

    Attributes:
        mp4: H.264 in MP4, yuv420p, index (`moov`) at the front so that it plays while it loads.
        thumbnail_webp: The first frame as WebP, its longer side at most 640 pixels.
        measurements: What it cost.
        sha256: Hex digest of `mp4`.
    """

    mp4: bytes
    thumbnail_webp: bytes
    measurements: RenderMeasurements
    sha256: str


@runtime_checkable
class RenderEngine(Protocol):
    """What every render engine is."""

    @property
    def name(self) -> str:
        """The name that requests and the registry use."""
        ...

    def render(
        self, request: RenderRequest, *, on_progress: ProgressCallback, is_cancelled: CancelCheck
    ) -> RenderResult:
        """Makes the video.

        Args:
            request: What to make.
            on_progress: Told the finished share as it grows; an exception out of it ends the render.
            is_cancelled: Asked at every frame.

        Raises:
            RenderCancelled: `is_cancelled` returned true. Nothing is left behind.
            RenderOutOfMemory: The host or the GPU had too little memory.
        """
        ...


def _check_int(field: str, value: object, low: int, high: int) -> None:
    # bool is an int to Python, and True seconds is not a length.
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRenderRequest(field, value, f"a whole number from {low} to {high}")


def _check_side(field: str, value: object) -> None:
    _check_int(field, value, MIN_SIDE_PX, MAX_SIDE_PX)
    if isinstance(value, int) and value % 2:
        raise InvalidRenderRequest(field, value, "an even number (4:2:0 halves the chroma)")


def _check_text(field: str, value: object, max_chars: int) -> None:
    expected = f"text of 1 to {max_chars} characters that is not only white space"
    if not isinstance(value, str) or len(value) > max_chars or not value.strip():
        raise InvalidRenderRequest(field, value, expected)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRenderRequest(field, value, "valid Unicode text (no lone surrogates)") from None
