"""Is it the video that was asked for? Reads an MP4's boxes as its bytes come by, and decodes nothing.

What a container sends is not handed to a decoder here: those are large, written in C, and see the keys of this process.
The boxes tell the size of the picture, the duration and the number of frames, and that the file is whole.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

#: The index of an honest video is smaller, bytes; so is what is kept of one while it comes by.
MOST_INDEX_BYTES = 32 * 1024**2
#: Boxes at the top of a file, and tracks, at most.
_MOST_BOXES, _MOST_TRACKS = 1_000, 8
#: A duration may be off by so much, seconds, or by this share.
TOLERANCE_S, TOLERANCE_RATIO = 0.5, 0.02
#: Beside its frames, bytes.
_BESIDE_FRAMES_BYTES = 1024**2
_HEADER, _LARGE_HEADER = 8, 16
_CHUNK_BYTES = 1024**2


class NotTheVideo(ValueError):
    """The bytes are no MP4, or not the one that was asked for."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")


@dataclass(frozen=True)
class VideoWanted:
    """What was asked for."""

    width: int
    height: int
    seconds: float
    fps: int

    @property
    def most_bytes(self) -> int:
        """The size of all frames without compression: no honest video is larger."""
        return int(self.width * self.height * 3 / 2 * self.seconds * self.fps) + _BESIDE_FRAMES_BYTES


@dataclass(frozen=True)
class Track:
    """A track with pictures."""

    width: int
    height: int
    seconds: float
    frames: int


class Mp4Probe:
    """Follows the boxes at the top of a file through the chunks in which it comes."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._skip_bytes = 0
        self._kinds: list[bytes] = []
        self._index: bytes | None = None

    def feed(self, chunk: bytes | memoryview) -> None:
        """The next bytes.

        Raises:
            NotTheVideo: they are no part of an MP4.
        """
        skipped = min(self._skip_bytes, len(chunk))
        self._skip_bytes -= skipped
        self._kept += memoryview(chunk)[skipped:]
        while not self._skip_bytes and self._box():
            pass

    def _box(self) -> bool:
        """Take a box, or its header, off what has come. False: more must come first."""
        if len(self._kept) < _HEADER:
            return False
        size_bytes, kind = struct.unpack_from(">I4s", self._kept)
        if not self._kinds and kind != b"ftyp":
            raise NotTheVideo("an MP4", "a file that does not begin as one")
        header = _HEADER
        if size_bytes == 1:
            if len(self._kept) < _LARGE_HEADER:
                return False
            header, (size_bytes,) = _LARGE_HEADER, struct.unpack_from(">Q", self._kept, _HEADER)
        if size_bytes < header or len(self._kinds) >= _MOST_BOXES:
            raise NotTheVideo("an MP4", "a file with a box of no size, or with too many")
        if kind == b"moov":
            if size_bytes > MOST_INDEX_BYTES or self._index is not None:
                raise NotTheVideo("an MP4 with one index", "one that is too large, or two")
            if len(self._kept) < size_bytes:
                return False
            self._index = bytes(self._kept[header:size_bytes])
        self._kinds.append(kind)
        here = min(size_bytes, len(self._kept))
        self._skip_bytes = size_bytes - here
        del self._kept[:here]
        return True

    def finish(self) -> Track:
        """After the last byte: the one track with pictures.

        Raises:
            NotTheVideo: the file is cut, or has no index, no data or not one such track.
        """
        if self._skip_bytes or self._kept:
            raise NotTheVideo("a whole MP4", "one that is cut")
        if self._index is None or b"mdat" not in self._kinds:
            raise NotTheVideo("an MP4 with an index and data", "one without")
        try:
            tracks = [track for body in _inside(self._index, b"trak") if (track := _picture_track(body)) is not None]
        except struct.error as error:
            raise NotTheVideo("an MP4", "one with a box that is cut") from error
        if len(tracks) != 1:
            raise NotTheVideo("an MP4 with one track of pictures", f"{len(tracks)} of them")
        return tracks[0]


def probe(body: bytes) -> Track:
    """The track with pictures of a file in memory.

    Raises:
        NotTheVideo: it is no whole MP4, or has not one such track.
    """
    probing, whole = Mp4Probe(), memoryview(body)
    for start in range(0, len(whole), _CHUNK_BYTES):
        probing.feed(whole[start : start + _CHUNK_BYTES])
    return probing.finish()


def check(track: Track, wanted: VideoWanted) -> None:
    """That a video is the one that was asked for.

    Raises:
        NotTheVideo: its picture has another size, or it is too short or too long.
    """
    if (track.width, track.height) != (wanted.width, wanted.height):
        raise NotTheVideo(f"{wanted.width}x{wanted.height} pixels", f"{track.width}x{track.height}")
    if abs(track.seconds - wanted.seconds) > max(TOLERANCE_S, wanted.seconds * TOLERANCE_RATIO):
        raise NotTheVideo(f"{wanted.seconds:g} s", f"{track.seconds:.3f} s")
    if not 0 < track.frames <= 2 * wanted.seconds * wanted.fps + 2:
        raise NotTheVideo(f"about {wanted.seconds * wanted.fps:g} frames", f"{track.frames}")


def _boxes(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(body):
        size_bytes, kind = struct.unpack_from(">I4s", body, at)
        if not _HEADER <= size_bytes <= len(body) - at:
            raise NotTheVideo("an MP4", "one with a box that is larger than the one around it")
        yield kind, body[at + _HEADER : at + size_bytes]
        at += size_bytes


def _inside(body: bytes, *path: bytes) -> list[bytes]:
    """What lies in the boxes at a path."""
    found = [body]
    for kind in path:
        found = [inner for outer in found for name, inner in _boxes(outer) if name == kind]
        if len(found) > _MOST_TRACKS:
            raise NotTheVideo("an MP4 with a few tracks", f"{len(found)} boxes {kind.decode()}")
    return found


def _one(body: bytes, *path: bytes) -> bytes:
    found = _inside(body, *path)
    if len(found) != 1:
        raise NotTheVideo(f"a track with one box {path[-1].decode()}", f"{len(found)} of them")
    return found[0]


def _picture_track(body: bytes) -> Track | None:
    """A track's facts; None: it shows no pictures."""
    if _one(body, b"mdia", b"hdlr")[8:12] != b"vide":
        return None
    head = _one(body, b"tkhd")
    width, height = struct.unpack_from(">II", head, 88 if head[:1] == b"\1" else 76)
    media = _one(body, b"mdia", b"mdhd")
    scale, duration = struct.unpack_from(*((">IQ", media, 20) if media[:1] == b"\1" else (">II", media, 12)))
    (frames,) = struct.unpack_from(">I", _one(body, b"mdia", b"minf", b"stbl", b"stsz"), 8)
    if not scale:
        raise NotTheVideo("a duration", "one without a unit")
    return Track(width >> 16, height >> 16, duration / scale, frames)
