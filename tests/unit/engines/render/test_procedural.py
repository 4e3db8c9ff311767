"""The `procedural` engine, by its videos: exact, repeatable, cancellable, and never beaten by a prompt."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from engines.render.contract import RenderEngine, RenderRequest, RenderResult
from engines.render.errors import RenderCancelled, RenderOutOfMemory, UnknownEngine
from engines.render.procedural import scene
from engines.render.procedural.engine import Film
from engines.render.registry import engine_names, get_engine

SMALL = RenderRequest(prompt="a paper boat on the night sea", width=256, height=144, seconds=1, fps=12, seed=1)


@functools.cache
def rendered(request: RenderRequest) -> RenderResult:
    return get_engine(request.engine).render(request, on_progress=lambda _: None, is_cancelled=lambda: False)


def decoded(result: RenderResult) -> list[np.ndarray]:
    with av.open(io.BytesIO(result.mp4), "r") as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("width", "height", "seconds", "fps"),
    [
        (1280, 720, 1, 24),
        (720, 1280, 1, 24),
        (96, 64, 1, 60),
        (64, 64, 1, 1),
        (258, 146, 2, 25),
        (1792, 1024, 1, 5),
        (130, 66, 3, 7),
    ],
)
def test_size_length_and_rate_are_exact(width: int, height: int, seconds: int, fps: int) -> None:
    # given a request / when it is rendered
    request = dataclasses.replace(SMALL, width=width, height=height, seconds=seconds, fps=fps)
    result = rendered(request)
    # then the file is what was asked, to the frame
    with av.open(io.BytesIO(result.mp4), "r") as container:
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (width, height, seconds * fps)
        assert stream.average_rate == fps
        assert stream.duration is not None
        assert stream.time_base is not None
        assert stream.duration * stream.time_base == seconds
        frames = list(container.decode(stream))
    assert [frame.time for frame in frames] == pytest.approx([n / fps for n in range(seconds * fps)])
    assert result.measurements.frames == len(frames) == request.frames


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed; PyAV has checked the same above")
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (720, 1280)])
def test_ffprobe_agrees(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(rendered(dataclasses.replace(SMALL, width=width, height=height, fps=24)).mp4)
    command = ["ffprobe", "-v", "error", "-show_streams", "-count_frames", "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    (stream,) = json.loads(done.stdout)["streams"]
    assert done.stderr == ""
    assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
    assert (stream["width"], stream["height"], stream["r_frame_rate"]) == (width, height, "24/1")
    assert (stream["nb_frames"], stream["nb_read_frames"], float(stream["duration"])) == ("24", "24", 1.0)
    assert stream["color_space"] == stream["color_primaries"] == stream["color_transfer"] == "bt709"


def test_the_index_comes_before_the_pictures() -> None:
    # given a finished file / when its top-level boxes are listed / then moov stands before mdat: it plays while loading
    mp4, boxes, place = rendered(SMALL).mp4, [], 0
    while place < len(mp4):
        size, kind = struct.unpack_from(">I4s", mp4, place)
        boxes.append(kind)
        place += size
    assert place == len(mp4)
    assert boxes.index(b"moov") < boxes.index(b"mdat")


def test_same_request_same_bytes_in_another_process_too() -> None:
    # given a video / when the same request is rendered again here, and by a fresh interpreter with other hash seeds
    first = rendered(SMALL)
    second = get_engine("procedural").render(SMALL, on_progress=lambda _: None, is_cancelled=lambda: False)
    code = (
        "import sys, json; from engines.render.contract import RenderRequest;"
        "from engines.render.registry import get_engine;"
        "r = RenderRequest.from_wire(json.loads(sys.argv[1]));"
        "print(get_engine(r.engine).render(r, on_progress=lambda _: None, is_cancelled=lambda: False).sha256)"
    )
    command = [sys.executable, "-c", code, json.dumps(SMALL.to_wire())]
    third = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    # then every byte is the same, and the digest is that of the bytes
    assert first.mp4 == second.mp4
    assert first.thumbnail_webp == second.thumbnail_webp
    assert first.sha256 == third.stdout.strip() == hashlib.sha256(first.mp4).hexdigest()


def test_another_prompt_or_seed_is_another_video() -> None:
    # given a video and its neighbours, one by seed, one by prompt alone / then they look different, not only weigh so
    base = decoded(rendered(SMALL))[-1].astype(int)
    for other in (dataclasses.replace(SMALL, seed=2), dataclasses.replace(SMALL, prompt="a robot in the desert")):
        assert np.abs(decoded(rendered(other))[-1].astype(int) - base).mean() > 5


def test_pictures_depend_on_request_and_index_alone() -> None:
    # given a film / when pictures are taken out of order / then each is the one that a fresh film gives in order
    forwards, backwards = Film(SMALL), Film(SMALL)
    in_order = [forwards.picture(index).to_ndarray() for index in range(SMALL.frames)]
    for index in reversed(range(SMALL.frames)):
        assert np.array_equal(backwards.picture(index).to_ndarray(), in_order[index])


def test_the_video_moves() -> None:
    frames = decoded(rendered(SMALL))
    assert all(np.abs(one.astype(int) - other).mean() > 0.1 for one, other in itertools.pairwise(frames))


def test_progress_rises_to_one() -> None:
    # given a request of more frames than reports / when it is rendered
    seen: list[float] = []
    request = dataclasses.replace(SMALL, width=64, height=64, seconds=5)
    get_engine("procedural").render(request, on_progress=seen.append, is_cancelled=lambda: False)
    # then about every 5 % is reported once, rising, and 1.0 is the last word
    assert seen == sorted(set(seen))
    assert len(seen) == 20
    assert seen[-1] == 1.0
    assert max(later - earlier for earlier, later in itertools.pairwise([0.0, *seen])) < 0.06


def test_cancelling_stops_at_the_next_frame_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given a long request whose cancel check turns true when it is asked for the fifth time
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    asked = 0

    def is_cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked >= 5

    # when it is rendered / then it stops there, says how far it came, and its temporary file is gone
    request = dataclasses.replace(SMALL, seconds=60)
    with pytest.raises(RenderCancelled) as caught:
        get_engine("procedural").render(request, on_progress=lambda _: None, is_cancelled=is_cancelled)
    assert (asked, caught.value.frames_done, caught.value.frames_total) == (5, 4, 720)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_of_the_callback_is_let_through() -> None:
    def lease_lost(_: float) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        get_engine("procedural").render(SMALL, on_progress=lease_lost, is_cancelled=lambda: False)


def test_memory_that_runs_out_has_a_name() -> None:
    # given a callback that asks for more memory than any machine has / then the engine's own error comes out
    def greedy(_: float) -> None:
        np.empty(2**55, np.uint8)

    with pytest.raises(RenderOutOfMemory) as caught:
        get_engine("procedural").render(SMALL, on_progress=greedy, is_cancelled=lambda: False)
    assert caught.value.where == "host"


def test_the_thumbnail_is_the_first_frame() -> None:
    # given a video larger than its thumbnail may be / when both are decoded
    result = rendered(dataclasses.replace(SMALL, width=1280, height=720, fps=24))
    with Image.open(io.BytesIO(result.thumbnail_webp)) as thumbnail:
        assert thumbnail.format == "WEBP"
        assert thumbnail.size == (640, 360)
        shown = np.asarray(thumbnail.convert("RGB")).astype(int)
    first = Image.fromarray(decoded(result)[0]).resize((640, 360), Image.Resampling.BOX)
    # then they show the same
    assert np.abs(shown - np.asarray(first).astype(int)).mean() < 4


@pytest.mark.parametrize("prompt", ["Hello world", "a paper boat on the night sea", "snow", "שלום"])
def test_the_first_frame_already_shows_words(prompt: str) -> None:
    # given the first picture of a request, and the scene of the same moment without its titles
    request = dataclasses.replace(SMALL, prompt=prompt, width=640, height=360)
    titled = Film(request).picture(0).to_ndarray(format="rgb24").astype(int)
    bare = Image.fromarray(scene.compose(request).paint(0)).resize((640, 360), Image.Resampling.BICUBIC)
    # when they are compared / then letters, brighter than the scene by far, and shadows, darker, make the difference
    change = (titled - np.asarray(bare)).mean(axis=-1)
    assert (change > 40).sum() > 250
    assert (change < -15).sum() > 250
    # and they stand in the middle of the picture, not at its edges
    assert np.abs(change[:40]).max() < 40
    assert np.abs(change[-40:]).max() < 40


ODD_PROMPTS = [
    "夜の海に浮かぶ紙の船、星が光る",
    "قارب صغير في البحر ليلا (version 2) نهاية",
    "שלום עולם hello שלום",
    "🌊🚀👩‍🚀🏽🇫🇷",
    "\u200d",
    "\u0301",
    "a\x00b\x1b[31m\r\n\tc",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "a" * 32_000,
    "word " * 6_400,
    "字" * 32_000,
    "e" + "\u0301" * 500,
    "\U0010fffe \U000e0001 \ufdd0",
    "हिन्दी ภาษาไทย አማርኛ",
    "....",
]


@pytest.mark.parametrize("prompt", ODD_PROMPTS)
@pytest.mark.parametrize(("width", "height"), [(128, 72), (72, 128)])
def test_no_script_and_no_length_breaks_it(prompt: str, width: int, height: int) -> None:
    request = dataclasses.replace(SMALL, prompt=prompt, width=width, height=height, fps=3)
    assert len(decoded(rendered(request))) == 3


@settings(max_examples=40, deadline=None)
@given(prompt=st.text(min_size=1, max_size=60).filter(lambda text: text.strip()), seed=st.integers(0, 2**63 - 1))
@example(prompt="saturn and a planet", seed=0)
def test_any_text_gives_pictures(prompt: str, seed: int) -> None:
    # given any text and seed at all / when the first, a middle and the last picture are made / then they are there
    film = Film(RenderRequest(prompt, 64, 96, 2, 4, seed))
    for index in (0, 3, 7):
        picture = film.picture(index)
        assert (picture.width, picture.height) == (64, 96)


def test_two_renders_at_once_do_not_disturb_each_other() -> None:
    # given two requests / when four threads render them at the same time / then each video is the one rendered alone
    requests = [SMALL, dataclasses.replace(SMALL, prompt="a robot in the desert", seed=2)] * 2
    with ThreadPoolExecutor(4) as pool:
        engine = get_engine("procedural")
        together = pool.map(
            lambda r: engine.render(r, on_progress=lambda _: None, is_cancelled=lambda: False), requests
        )
        assert [result.sha256 for result in together] == [rendered(request).sha256 for request in requests]


def test_measurements_add_up() -> None:
    result = rendered(SMALL)
    measured = result.measurements
    assert measured.bytes_out == len(result.mp4)
    assert measured.render_s > 0
    assert measured.encode_s > 0
    assert measured.render_s + measured.encode_s <= measured.total_s
    assert measured.peak_memory_bytes > 10 * 2**20
    assert measured.peak_gpu_memory_bytes is None


def test_memory_does_not_grow_with_the_length() -> None:
    # given a fresh process that has rendered 1 s of 1280x720 / when it renders 12 s of it
    code = (
        "from engines.render.contract import RenderRequest\n"
        "from engines.render.registry import get_engine\n"
        "for seconds in (1, 12):\n"
        "    r = RenderRequest('snow in the mountains', 1280, 720, seconds, 4, 1)\n"
        "    done = get_engine('procedural').render(r, on_progress=lambda _: None, is_cancelled=lambda: False)\n"
        "    print(done.measurements.peak_memory_bytes)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    short, long = (int(line) for line in done.stdout.split())
    # then its peak is less than 30 MiB higher (48 frames held would be 63 MiB), and far below 400 MiB
    assert long - short < 30 * 2**20
    assert long < 400 * 2**20


def test_the_registry_knows_it() -> None:
    engine = get_engine("procedural")
    assert isinstance(engine, RenderEngine)
    assert engine.name == "procedural"
    assert "procedural" in engine_names()
    with pytest.raises(UnknownEngine, match="procedural") as caught:
        get_engine("../../etc/passwd")
    assert caught.value.known == engine_names()
