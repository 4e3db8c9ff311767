"""A budget of pixels over all decoders of this process together, so that many large pictures cannot fill its memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: No picture has more pixels; Pillow's own bound of what may be a decompression bomb.
LARGEST_IMAGE_PIXELS: Final = 89_478_485


class PixelBudget:
    """Hands out pixels to whoever decodes, in the order of asking: a large picture is not overtaken for ever.

    Args:
        pixels: What all holders have together at most. A single picture of more waits until it is alone.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._held = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def held(self) -> int:
        """Pixels that are handed out."""
        return self._held

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Waits for `pixels`, and has them while the block runs. Not to be nested: two who hold would wait for ever."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket and self._fits(pixels))
            self._waiting.popleft()
            self._held += pixels
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()

    def _fits(self, pixels: int) -> bool:
        return self._held == 0 or self._held + pixels <= self._pixels


#: A decoder takes up to 20 bytes a pixel: under 2 GiB for all of them, be they two or two hundred.
DECODING: Final = PixelBudget(LARGEST_IMAGE_PIXELS)
