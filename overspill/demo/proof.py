"""That a video is in S3, whole, and can be played: fetched as a client would, then decoded frame by frame."""

import hashlib
import io
from dataclasses import dataclass
from urllib.parse import urlsplit

import av
import httpx

from ledger.models import JobRecord
from overspill.demo.burst import FPS, HEIGHT, SECONDS, WIDTH

_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Proven:
    """It is as it should be."""

    job_id: str
    mp4: bytes


@dataclass(frozen=True)
class Doubted:
    """Something is not as it should be."""

    job_id: str
    reason: str


def fetch_and_play(record: JobRecord, *, api_url: str, api_key: str, s3_url: str) -> Proven | Doubted:
    """Ask the API for the content, follow it to S3, compare the digest with the ledger's, decode every frame."""
    if record.artifact is None:
        return Doubted(record.id, f"it is {record.state} and has no artifact")
    try:
        answer = httpx.get(
            f"{api_url}/v1/videos/{record.id}/content",
            headers={"Authorization": f"Bearer {api_key}"},
            follow_redirects=True,
            timeout=_TIMEOUT_S,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return Doubted(record.id, f"its content cannot be fetched: {error}")
    if not answer.is_success:
        return Doubted(record.id, f"its content was answered with {answer.status_code}")
    if urlsplit(str(answer.url)).netloc != urlsplit(s3_url).netloc:
        return Doubted(record.id, f"expected its content to come from S3 at {s3_url}, it came from {answer.url.host}")
    if hashlib.sha256(answer.content).hexdigest() != record.artifact.sha256:
        return Doubted(record.id, "its SHA-256 is not the one that the ledger holds")
    reason = what_is_wrong_with(answer.content)
    return Doubted(record.id, reason) if reason else Proven(record.id, answer.content)


def what_is_wrong_with(mp4: bytes) -> str | None:
    """None if it is a video of the size, rate and length that was asked for, with every frame decodable."""
    try:
        with av.open(io.BytesIO(mp4), mode="r") as container:
            stream = container.streams.video[0]
            width, height, rate = stream.width, stream.height, float(stream.average_rate or 0)
            frames = len([None for _ in container.decode(stream)])
    except (av.error.FFmpegError, IndexError) as error:
        return f"it cannot be played: {error}"
    if (width, height, rate, frames) != (WIDTH, HEIGHT, float(FPS), SECONDS * FPS):
        wanted = f"{WIDTH}x{HEIGHT} at {FPS}/s, {SECONDS * FPS} frames"
        return f"expected {wanted}; got {width}x{height} at {rate:g}/s, {frames} frames"
    return None
