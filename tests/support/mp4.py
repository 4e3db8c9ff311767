"""An MP4 without pictures, which says of itself what it is asked to: for containers that only pretend to render."""

import struct


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of an MP4."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def mp4(
    *, width: int, height: int, seconds: float, fps: int, size_bytes: int = 0, handler: bytes = b"vide", tracks: int = 1
) -> bytes:
    """Its boxes, and zeros up to `size_bytes`."""
    frames = round(seconds * fps)
    track = box(
        b"trak",
        box(b"tkhd", bytes(76), struct.pack(">II", width << 16, height << 16)),
        box(
            b"mdia",
            box(b"mdhd", bytes(12), struct.pack(">II", 1000, round(seconds * 1000)), bytes(4)),
            box(b"hdlr", bytes(8), handler, bytes(13)),
            box(b"minf", box(b"stbl", box(b"stsz", bytes(4), struct.pack(">II", 0, frames), bytes(4 * frames)))),
        ),
    )
    head = box(b"ftyp", b"isom", bytes(4), b"isommp41") + box(b"moov", box(b"mvhd", bytes(100)), track * tracks)
    return head + box(b"mdat", bytes(max(1, size_bytes - len(head) - 8)))
