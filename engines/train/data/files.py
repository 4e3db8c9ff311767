"""Files are opened only where they are regular ones, and no more of one is read than it may have."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, Final

_KINDS: Final = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
)


class NotRegular(Exception):
    """What lies there is a device, a FIFO, a socket: reading it may block, or never end."""


def kind_of(mode: int) -> str:
    """What a file that is not regular is, in words."""
    return next((word for is_kind, word in _KINDS if is_kind(mode)), "a special file")


def open_regular(path: Path) -> IO[bytes]:
    """Opens a regular file for reading; links are followed.

    Raises:
        NotRegular: It is something else.
        OSError: The file system refuses.
    """
    found = path.stat()  # before it is opened: to open a device may already do something
    if not stat.S_ISREG(found.st_mode):
        raise NotRegular(f"no regular file, {kind_of(found.st_mode)}")
    # Not to wait for a writer, should a FIFO have come into its place.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise NotRegular(f"no regular file, {kind_of(mode)}")
    return file


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The contents of a regular file.

    Raises:
        NotRegular: It is something else.
        ValueError: It has more than `most_bytes`, or has grown beyond them.
        OSError: The file system refuses.
    """
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"more than {most_bytes} bytes")
    return content
