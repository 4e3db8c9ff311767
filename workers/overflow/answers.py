"""What an envelope's value holds, by what was asked for: read once, here, before anything is done with it."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from engines.train.contract import TrainOutcome
from infra.artifacts import MOST_THUMBNAIL_BYTES, Uploaded, Video, check_picture
from infra.mp4 import NotTheVideo, VideoWanted, check, probe
from modal_apps.envelope import BadEnvelope, Envelope
from modal_apps.wire import (
    LONGEST_S,
    NAME_CHARS,
    WrongPart,
    fields,
    flag,
    number,
    plain,
    text,
    whole,
    whole_or_none,
)

_SHA256, _MD5 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{32}")
_MOST_METRICS = 200


@dataclass(frozen=True)
class RenderAnswer:
    """A render's files, or what was put into S3, and what was measured."""

    result: Video | Uploaded
    measurements: Mapping[str, Any]


@dataclass(frozen=True)
class SegmentAnswer:
    """A training segment's end. `value` holds the parts that are read on, each checked."""

    value: Mapping[str, Any]


def render_answer(envelope: Envelope) -> RenderAnswer:
    """A render's value.

    Raises:
        BadEnvelope: it is something else.
    """
    value = envelope.value or {}
    with _checked():
        measurements = fields("measurements", plain("measurements", value["measurements"]))
        if "uploaded" in value:
            return RenderAnswer(Uploaded(_uploaded(fields("uploaded", value["uploaded"]))), measurements)
        thumbnail = value["thumbnail_webp"]
        video = Video(
            _bytes("mp4", value["mp4"]),
            None if not thumbnail else _bytes("thumbnail_webp", thumbnail, most=MOST_THUMBNAIL_BYTES),
            _digest("sha256", value["sha256"], _SHA256),
        )
        return RenderAnswer(video, measurements)


def segment_answer(envelope: Envelope) -> SegmentAnswer:
    """A training segment's value.

    Raises:
        BadEnvelope: it is something else.
    """
    value = envelope.value or {}
    with _checked():
        outcome = text("outcome", value["outcome"], most=NAME_CHARS)
        if outcome not in {one.value for one in TrainOutcome}:
            raise WrongPart("outcome", "how a segment may end", outcome)
        checkpoint = text("checkpoint", value["checkpoint"], most=1_000)
        if not re.search(r"/step-[0-9]{1,12}\Z", checkpoint):
            raise WrongPart("checkpoint", "a checkpoint's folder", checkpoint)
        metrics = fields("metrics", value["metrics"])
        if len(metrics) > _MOST_METRICS:
            raise WrongPart("metrics", f"at most {_MOST_METRICS} of them", metrics)
        return SegmentAnswer(
            {
                "outcome": outcome,
                "checkpoint": checkpoint,
                "step": whole("step", value["step"]),
                "steps_run": whole("steps_run", value["steps_run"]),
                # (One that is not finite says nothing, and is honest.)
                "metrics": {
                    text("metric", name, most=NAME_CHARS): float(one)
                    for name, one in metrics.items()
                    if isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)
                },
                "examples_per_s": number("examples_per_s", value["examples_per_s"], most=1e12),
                "seconds": number("seconds", value["seconds"], most=LONGEST_S),
                "peak_gpu_memory_bytes": whole_or_none("peak_gpu_memory_bytes", value["peak_gpu_memory_bytes"]),
            }
        )


def check_video(video: Video, wanted: VideoWanted) -> None:
    """That a render's files are what was asked for: hashed and probed here, since what a container says is a claim.

    Raises:
        BadEnvelope: they are something else.
    """
    digest = hashlib.sha256(video.mp4).hexdigest()
    if digest != video.sha256:
        raise BadEnvelope(f"a video whose SHA-256 is {digest}, not {video.sha256}")
    if len(video.mp4) > wanted.most_bytes:
        raise BadEnvelope(f"a video of {len(video.mp4)} bytes, which is more than all its frames have")
    try:
        check(probe(video.mp4), wanted)
        if video.thumbnail_webp is not None:
            check_picture(video.thumbnail_webp)
    except NotTheVideo as error:
        raise BadEnvelope(f"a value with another video ({error})") from error


@contextmanager
def _checked() -> Iterator[None]:
    """Within, a part that is missing or wrong is a bad envelope."""
    try:
        yield
    except WrongPart as error:
        raise BadEnvelope(f"a value with a wrong part ({error})") from error
    except (KeyError, OverflowError) as error:
        raise BadEnvelope(f"a value that lacks a part ({error})") from error


def _bytes(part: str, value: object, *, most: int | None = None) -> bytes:
    if not isinstance(value, bytes) or not value or (most is not None and len(value) > most):
        raise WrongPart(part, "bytes" if most is None else f"at most {most} bytes", value)
    return value


def _digest(part: str, value: object, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise WrongPart(part, "a digest in hex digits", value)
    return value


def _uploaded(files: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What was put, by file: the video, and the thumbnail if there is one."""
    found = {"video": files["video"]} | ({"thumbnail": files["thumbnail"]} if "thumbnail" in files else {})
    return {file: _said(fields(file, said)) for file, said in found.items()}


def _said(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "bytes": whole("bytes", wire["bytes"]),
        "sha256": _digest("sha256", wire["sha256"], _SHA256),
        "md5": _digest("md5", wire["md5"], _MD5),
        "was_there": flag("was_there", wire.get("was_there", False)),
    }
