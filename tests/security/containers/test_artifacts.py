"""What is published is what was asked for: the control plane hashes and probes a video itself, wherever it lies."""

import hashlib
import struct
from typing import Any

import pytest

from infra.artifacts import ArtifactStore
from ledger import Ledger
from ledger.deletions import Store
from ledger.models import State
from modal_apps.envelope import Envelope, Timings
from overspill.dev.s3_service import S3Service
from tests.integration.workers.conftest import settings_for
from tests.security.containers.conftest import running_call
from tests.support.ledgers import ROOMY
from tests.support.mp4 import box, mp4
from tests.support.overflow import NoNudger
from workers.overflow.classify import CallSucceeded
from workers.overflow.completer import Completer
from workers.resources import Resources

ASKED: dict[str, Any] = {"width": 320, "height": 180, "seconds": 2, "fps": 24}
GOOD = mp4(**ASKED)
WEBP = b"RIFF\x04\x00\x00\x00WEBP"
_FTYP = box(b"ftyp", b"isom", bytes(4))
_MDAT = box(b"mdat", bytes(8))

BAD = {
    "a script": b"<script>alert(1)</script>   ",
    "a page behind a word": b"\x00\x00\x00\x18ftypisom<html><script>alert(1)</script></html>",
    "a picture": WEBP,
    "cut": GOOD[:-5],
    "more behind it": GOOD + b"<script>alert(1)</script>",
    "no data": GOOD[: -len(_MDAT) + 7],
    "no index": _FTYP + _MDAT,
    "two indices": _FTYP + mp4(**ASKED)[len(box(b"ftyp", b"isom", bytes(4), b"isommp41")) :] + mp4(**ASKED)[24:],
    "no track": _FTYP + box(b"moov") + _MDAT,
    "two tracks": mp4(**ASKED, tracks=2),
    "a thousand tracks": mp4(**ASKED, tracks=1_000),
    "sound alone": mp4(**ASKED, handler=b"soun"),
    "another width": mp4(**{**ASKED, "width": 322}),
    "another height": mp4(**{**ASKED, "height": 1280}),
    "too short": mp4(**{**ASKED, "seconds": 1}),
    "too long": mp4(**{**ASKED, "seconds": 200}),
    "no time": mp4(**{**ASKED, "seconds": 0}),
    "a frame for each microsecond": mp4(**{**ASKED, "fps": 1_000}),
    "a box of no size": _FTYP + bytes(8) + GOOD,
    "a box of 2^63 bytes": _FTYP + struct.pack(">I4sQ", 1, b"moov", 2**63) + GOOD,
    "a box beyond its parent": _FTYP + box(b"moov", struct.pack(">I4s", 10_000, b"trak")) + _MDAT,
    "a million boxes": _FTYP + box(b"free") * 1_000_000,
    "nothing": b"\0",
}


@pytest.fixture
def completer(ledger: Ledger, s3: S3Service) -> Completer:
    settings = settings_for(ledger, s3)
    return Completer(Resources(settings, ledger, ArtifactStore(settings), NoNudger(settings)))


def _complete(completer: Completer, ledger: Ledger, call: Any, value: dict[str, Any]) -> str:
    envelope = Envelope(
        Timings(1.0, 2.0, 3.0), "ta-1", cold_start=True, peak_memory_bytes=1, value={**value, "measurements": {}}
    )
    assert completer.complete(call, CallSucceeded(envelope), None, noticed_ms=call.now_ms + 1000)
    assert ledger.audit(ROOMY) == []
    return ledger.jobs.attempt(call.job_id, 1)["outcome"]


def _inline(video: bytes, thumbnail: bytes | None = None, sha256: str = "") -> dict[str, Any]:
    return {"mp4": video, "thumbnail_webp": thumbnail, "sha256": sha256 or hashlib.sha256(video).hexdigest()}


def _put(completer: Completer, job_id: str, **files: bytes) -> dict[str, Any]:
    """Put files as a container would; what it says of them."""
    store, said = completer._resources.artifacts, {}
    names = {"video": "video.mp4", "thumbnail": "thumbnail.webp"}
    for file, body in files.items():
        store.client.put_object(Bucket=store.bucket, Key=f"render/{job_id}/1/{names[file]}", Body=body)
        said[file] = {
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "md5": hashlib.md5(body, usedforsecurity=False).hexdigest(),
            "was_there": False,
        }
    return {"uploaded": said}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_the_video_is_not_published(completer: Completer, ledger: Ledger, name: str) -> None:
    # Given two calls / when one answers so, and the other has put it straight into S3
    inline, straight = (running_call(ledger, size="320x180", seconds=2, fps=24) for _ in range(2))
    assert _complete(completer, ledger, inline, _inline(BAD[name])) == "bad_envelope"
    said = _put(completer, straight.job_id, video=BAD[name])
    assert _complete(completer, ledger, straight, said) == "bad_envelope"
    # Then neither is published, and what was put is to be deleted
    for call in (inline, straight):
        record = ledger.jobs.get(call.job_id)
        assert (record.state, record.artifact) == (State.FAILED, None)
    assert ledger.deletions.pending(Store.S3) >= 1


@pytest.mark.parametrize("thumbnail", [b"<svg onload=alert(1)>", b"RIFF\x04\x00\x00\x00WAVE", b"\x89PNG\r\n\x1a\n"])
def test_a_thumbnail_is_a_webp(completer: Completer, ledger: Ledger, thumbnail: bytes) -> None:
    inline, straight = (running_call(ledger, size="320x180", seconds=2, fps=24) for _ in range(2))
    assert _complete(completer, ledger, inline, _inline(GOOD, thumbnail)) == "bad_envelope"
    said = _put(completer, straight.job_id, video=GOOD, thumbnail=thumbnail)
    assert _complete(completer, ledger, straight, said) == "bad_envelope"


def test_a_good_one_is_published_under_the_hash_of_its_bytes(completer: Completer, ledger: Ledger) -> None:
    inline, straight = (running_call(ledger, size="320x180", seconds=2, fps=24) for _ in range(2))
    assert _complete(completer, ledger, inline, _inline(GOOD, WEBP)) == "completed"
    said = _put(completer, straight.job_id, video=GOOD, thumbnail=WEBP)
    assert _complete(completer, ledger, straight, said) == "completed"
    for call in (inline, straight):
        artifact = ledger.jobs.get(call.job_id).artifact
        assert artifact is not None
        assert (artifact.sha256, artifact.size_bytes) == (hashlib.sha256(GOOD).hexdigest(), len(GOOD))


def test_what_a_container_says_of_its_bytes_is_not_believed(completer: Completer, ledger: Ledger) -> None:
    # Given digests that are none of the bytes'; the MD5 is, which S3 shows as the object's ETag
    inline, straight = (running_call(ledger, size="320x180", seconds=2, fps=24) for _ in range(2))
    said = _put(completer, straight.job_id, video=GOOD)
    said["uploaded"]["video"]["sha256"] = "0" * 64
    # When they are delivered, then they are not
    assert _complete(completer, ledger, inline, _inline(GOOD, sha256="0" * 64)) == "bad_envelope"
    assert _complete(completer, ledger, straight, said) == "delivery"
    # And of what an earlier run had put, the bytes' own is published
    again = running_call(ledger, size="320x180", seconds=2, fps=24)
    said = _put(completer, again.job_id, video=GOOD)
    said["uploaded"]["video"].update(sha256="0" * 64, was_there=True, bytes=5)
    assert _complete(completer, ledger, again, said) == "completed"
    artifact = ledger.jobs.get(again.job_id).artifact
    assert artifact is not None
    assert (artifact.sha256, artifact.size_bytes) == (hashlib.sha256(GOOD).hexdigest(), len(GOOD))


def test_an_upload_is_bounded_by_what_its_frames_have(completer: Completer, ledger: Ledger) -> None:
    # Given a video that is larger than all its frames without compression
    large = mp4(**ASKED, size_bytes=int(320 * 180 * 1.5 * 48) + 2 * 1024**2)
    inline, straight = (running_call(ledger, size="320x180", seconds=2, fps=24) for _ in range(2))
    assert _complete(completer, ledger, inline, _inline(large)) == "bad_envelope"
    said = _put(completer, straight.job_id, video=large)
    # When it is delivered, then its attempt ends, and it is to be deleted
    assert _complete(completer, ledger, straight, said) == "result_too_large"
    assert ledger.deletions.pending(Store.S3) >= 1
