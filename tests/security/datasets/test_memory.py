"""Whatever a data set holds, all decoders together unpack no more pixels at a time than the budget has."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from engines.train.data import budget, pictures
from engines.train.data.budget import PixelBudget
from engines.train.errors import DatasetProblem
from tests.support.image_sets import encoded, in_folder, prepare
from tests.support.waiting import until

SIDE_PX = 60
ONE = SIDE_PX**2


class _Watch:
    """Counts the pixels that are unpacked at the same time."""

    def __init__(self, decode: Callable[..., NDArray[np.uint8]]) -> None:
        self._decode, self._lock = decode, threading.Lock()
        self.now = self.most = self.seen = 0

    def __call__(self, image: Image.Image, side_px: int) -> NDArray[np.uint8]:
        pixels = image.width * image.height
        with self._lock:
            self.now, self.seen = self.now + pixels, self.seen + 1
            self.most = max(self.most, self.now)
        try:
            threading.Event().wait(0.002)  # so that decoders that may work side by side do
            return self._decode(image, side_px)
        finally:
            with self._lock:
                self.now -= pixels


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Watch]:
    """Decoders under watch, with a budget of two and a half pictures."""
    monkeypatch.setattr(budget, "DECODING", PixelBudget(int(2.5 * ONE)))
    watch = _Watch(pictures._as_seen)
    monkeypatch.setattr(pictures, "_as_seen", watch)
    yield watch
    assert watch.now == budget.DECODING.held == 0


def _set(root: Path, kind: str, suffix: str, side_px: int = SIDE_PX, **options: Any) -> Path:
    content = encoded(Image.new("RGB", (side_px, side_px), (1, 2, 3)), kind, **options)
    return in_folder(root, {f"{label}/{n}.{suffix}": content for label in ("cat", "dog") for n in range(8)})


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("GIF", "gif"), ("TIFF", "tif"), ("JPEG2000", "jp2")],
)
def test_many_decoders_share_one_budget(tmp_path: Path, watch: _Watch, kind: str, suffix: str) -> None:
    prepare(_set(tmp_path / "set", kind, suffix), tmp_path / "cache", threads=8)
    assert (watch.seen, watch.most) == (16, 2 * ONE)


def test_two_sets_that_are_prepared_at_once_share_it_too(tmp_path: Path, watch: _Watch) -> None:
    sets = [_set(tmp_path / name, "PNG", "png") for name in ("one", "two")]
    with ThreadPoolExecutor(2) as pool:
        for made in [pool.submit(prepare, one, tmp_path / f"cache-{one.name}", threads=8) for one in sets]:
            made.result(30)
    assert (watch.seen, watch.most) == (32, 2 * ONE)


def test_a_picture_of_more_than_the_budget_is_unpacked_alone(tmp_path: Path, watch: _Watch) -> None:
    prepare(_set(tmp_path / "set", "PNG", "png", 2 * SIDE_PX), tmp_path / "cache", threads=8)
    assert (watch.seen, watch.most) == (16, 4 * ONE)


def test_a_large_picture_is_not_overtaken() -> None:
    # Given a budget of which one picture holds a part, and a large one that waits for all of it
    shared, order = PixelBudget(10), list[str]()

    def hold(name: str, pixels: int) -> None:
        with shared.hold(pixels):
            order.append(name)

    with ThreadPoolExecutor(4) as pool:
        with shared.hold(4):
            large = pool.submit(hold, "large", 10)
            until(lambda: len(shared._waiting), lambda waiting: waiting == 1, timeout_s=5)
            # When small ones come that would fit beside the first
            small = [pool.submit(hold, "small", 1) for _ in range(3)]
            until(lambda: len(shared._waiting), lambda waiting: waiting == 4, timeout_s=5)
            assert order == []
        # Then they come after it
        for one in (large, *small):
            one.result(5)
    assert order[0] == "large"
    assert shared.held == 0


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF"])
def test_a_picture_that_only_claims_to_be_huge_is_refused_before_it_is_unpacked(
    tmp_path: Path, watch: _Watch, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(budget, "LARGEST_IMAGE_PIXELS", ONE - 1)
    opened: list[int] = []
    whole = Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **more: (opened.append(1), whole(*args, **more))[1])
    with pytest.raises(DatasetProblem, match="60 x 60 pixels") as caught:
        prepare(_set(tmp_path / "set", kind, "png"), tmp_path / "cache", threads=2)
    assert caught.value.flaw == "bad_image"
    # A WebP file is not even opened: that alone would allocate its canvas twice
    assert bool(opened) == (kind != "WEBP")
    assert watch.seen == 0


def test_a_webp_that_lies_about_its_canvas_is_refused(tmp_path: Path, watch: _Watch) -> None:
    content = bytearray(encoded(Image.new("RGB", (SIDE_PX, SIDE_PX)), "WEBP", exif=b"Exif\0\0II*\0"))
    assert content[12:16] == b"VP8X"
    content[24] = content[27] = 8
    files = {f"{label}/{n}.webp": bytes(content) for label in ("cat", "dog") for n in range(2)}
    with pytest.raises(DatasetProblem) as caught:
        prepare(in_folder(tmp_path / "set", files), tmp_path / "cache")
    assert caught.value.flaw == "bad_image"


def test_what_fails_gives_its_pixels_back(tmp_path: Path, watch: _Watch) -> None:
    source = _set(tmp_path / "set", "PNG", "png")
    for path in source.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:-30])
    for _ in range(3):
        with pytest.raises(DatasetProblem):
            prepare(source, tmp_path / "cache", threads=8)


def test_the_budget_of_a_process_is_one_largest_picture() -> None:
    assert budget.DECODING._pixels == budget.LARGEST_IMAGE_PIXELS


def test_a_thread_does_not_keep_the_memory_of_a_large_picture() -> None:
    # glibc maps what is larger than this, and gives it back when it is freed; what is smaller stays with its thread.
    # Measured with 16 palette pictures of 88 million pixels on 8 threads: 0.7 GB at most, 3.5 GB without.
    assert Image.core.get_block_size() > 32 * 1024**2  # type: ignore[attr-defined]
