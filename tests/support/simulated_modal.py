"""A modal_local whose simulated containers behave as the deployed renderer does, or as a prompt says.

Each call announces itself, sends its hints, works for as long as its prompt says, and answers with an envelope. The
containers live inside the server, so what they do costs the server, and nothing that a benchmark measures.

    simulated 12.5               works for so many seconds
    simulated 1 silent           sends no hints, and no announcement
    simulated 1 clock=3600       by a clock that is an hour ahead
    simulated 1 answer=garbage   no envelope; also: oom, too_large, value_lacks, old (an envelope of another version)
    simulated 1 raise=timeout    raises TimeoutError; also: error, and what the SDK raises itself: auth, file
    simulated 1 bytes=3000000    a video of so many bytes
"""

import asyncio
import contextlib
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modal._serialization import serialize
from modal.exception import AuthError
from modal_proto import api_pb2

from modal_apps.announce import ANNOUNCEMENTS_DICT, SUPERSEDED, Announcement, ContainerStart, entry_of
from modal_apps.envelope import Envelope, RemoteError, Timings
from modal_apps.hints import (
    HINTS_QUEUE,
    PROGRESS_EVERY_S,
    PROGRESS_STEP_PERCENT,
    CallHint,
    partition_name,
    partition_of,
)
from modal_apps.signing import AttemptOf
from modal_local.server import ModalLocal
from modal_local.services.dicts import DictService
from modal_local.services.queues import QueueService
from modal_local.settings import Settings, parse_gpus
from modal_local.simulate import SimulatedCall
from tests.support.mp4 import mp4

ROOT = Path(__file__).parents[2]
#: Progress of a call is hinted at most so many times, as a container does.
PROGRESS_HINTS = 100 // PROGRESS_STEP_PERCENT
_CREATE = api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING
_STOP_TIMEOUT_S = 30.0
#: What is asked for where a request does not say.
_USUAL = {"width": 720, "height": 1280, "seconds": 4, "fps": 24}


@contextmanager
def simulated_modal(**flags: object) -> Iterator[dict[str, str]]:
    """The server as a process, and the variables that point at it. `flags`: those of `serve` below."""
    command = [sys.executable, "-m", "tests.support.simulated_modal", json.dumps(flags)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())
        yield {
            "MODAL_SERVER_URL": address["server_url"],
            "MODAL_TOKEN_ID": address["token_id"],
            "MODAL_TOKEN_SECRET": address["token_secret"],
            "MODAL_CONFIG_PATH": "/nonexistent/modal.toml",
            "MODAL_DISABLE_API_PROXY": "1",
            "MODAL_LOCAL_ADMIN_URL": address["admin_url"],
        }
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


class Script:
    """What a prompt says."""

    def __init__(self, prompt: str) -> None:
        words = prompt.split()[1:]
        self.seconds = float(words[0]) if words else 0.0
        self.silent = "silent" in words
        given = dict(word.split("=", 1) for word in words if "=" in word)
        self.clock_s = float(given.get("clock", 0))
        self.answer = given.get("answer", "")
        self.raises = given.get("raise", "")
        self.result_bytes = int(given.get("bytes", 64))


class Renderers:
    """What all simulated containers share: the book of announcements, the queue of hints."""

    def __init__(self, *, lost_hints_ratio: float) -> None:
        self._lost = lost_hints_ratio
        self._random = random.Random(7)
        self.dicts: Any = None
        self.queues: Any = None
        self._dict_id = self._queue_id = ""

    async def open(self, server: ModalLocal) -> None:
        """Find the two, as the SDK's `from_name` would."""
        self.dicts = next(one for one in server._services if isinstance(one, DictService))
        self.queues = next(one for one in server._services if isinstance(one, QueueService))
        book = api_pb2.DictGetOrCreateRequest(deployment_name=ANNOUNCEMENTS_DICT, object_creation_type=_CREATE)
        self._dict_id = (await self.dicts.DictGetOrCreate(book, None)).dict_id
        queue = api_pb2.QueueGetOrCreateRequest(deployment_name=HINTS_QUEUE, object_creation_type=_CREATE)
        self._queue_id = (await self.queues.QueueGetOrCreate(queue, None)).queue_id

    async def render(self, call: SimulatedCall) -> Any:
        """What `modal_apps.renderer.Renderer.render` does, without the work."""
        args, _ = call.arguments()
        request, (job_id, attempt, key) = args[0], AttemptOf(*args[1])
        script = Script(str(request["prompt"]))
        began = time.time()
        if not script.silent:
            if not await self._announce(AttemptOf(job_id, attempt, key), call, began + script.clock_s):
                return _envelope(call, began + script.clock_s, time.time() + script.clock_s, error=SUPERSEDED)
            await self._hint(CallHint(job_id, attempt, call.call_id, "started"), key)
        steps = min(PROGRESS_HINTS, int(script.seconds / PROGRESS_EVERY_S))
        for step in range(1, steps):
            await asyncio.sleep(max(0.0, began + script.seconds * step / steps - time.time()))
            if not script.silent:
                await self._hint(CallHint(job_id, attempt, call.call_id, "progress", round(100 * step / steps)), key)
        await asyncio.sleep(max(0.0, began + script.seconds - time.time()))
        if not script.silent:
            await self._hint(CallHint(job_id, attempt, call.call_id, "done", 100, 30 * 2**30, script.result_bytes), key)
        return _answer(script, request, call, began + script.clock_s, time.time() + script.clock_s)

    async def _announce(self, of: AttemptOf, call: SimulatedCall, at: float) -> bool:
        """False: another call of the same attempt works already."""
        mine = Announcement(of.job_id, of.attempt, call.call_id, at, (ContainerStart(call.task_id, at),))
        update = api_pb2.DictEntry(key=serialize(mine.key), value=serialize(entry_of(mine, of.key)))
        request = api_pb2.DictUpdateRequest(dict_id=self._dict_id, updates=[update], if_not_exists=True)
        return bool((await self.dicts.DictUpdate(request, None)).created)

    async def _hint(self, hint: CallHint, key: str) -> None:
        if self._random.random() < self._lost:
            return
        partition = partition_name(partition_of(hint.job_id)).encode()
        request = api_pb2.QueuePutRequest(
            queue_id=self._queue_id,
            partition_key=partition,
            values=[serialize(hint.to_wire(key))],
            partition_ttl_seconds=3600,
        )
        with contextlib.suppress(Exception):  # full: lost, as in the deployed renderer
            await self.queues.QueuePut(request, None)


def _answer(script: Script, request: Mapping[str, Any], call: SimulatedCall, began: float, ended: float) -> Any:
    match script.raises:
        case "timeout":
            raise TimeoutError("the method's own")
        case "error":
            raise ValueError("the method's own")
        case "auth":
            raise AuthError("the method's own")
        case "file":
            raise FileNotFoundError("the method's own")
    errors = {
        "oom": RemoteError("out_of_memory", "CUDA out of memory", retryable=True),
        "too_large": RemoteError("result_too_large", "too large", retryable=False),
    }
    wanted = {name: request.get(name, usual) for name, usual in _USUAL.items()}
    video = mp4(**wanted, size_bytes=script.result_bytes)
    value = {
        "mp4": video,
        "thumbnail_webp": None,
        "sha256": hashlib.sha256(video).hexdigest(),
        "measurements": {"frames": 96},
    }
    if script.answer == "value_lacks":
        del value["mp4"]
    envelope = _envelope(call, began, ended, value=value, error=errors.get(script.answer))
    return {"garbage": "no envelope", "old": {**envelope, "version": 0}}.get(script.answer, envelope)


def _envelope(
    call: SimulatedCall,
    began: float,
    ended: float,
    *,
    value: dict[str, Any] | None = None,
    error: RemoteError | None = None,
) -> dict[str, Any]:
    return Envelope(
        timings=Timings(began, began, ended, ran_s=ended - began, container_age_s=ended - began),
        container_id=call.task_id,
        cold_start=True,
        peak_memory_bytes=2**30,
        peak_gpu_memory_bytes=30 * 2**30,
        value=None if error else value,
        error=error,
    ).to_wire()


async def serve(*, lost_hints_ratio: float = 0.0, gpus: str = "", **settings: Any) -> None:
    """Serve until SIGTERM."""
    renderers = Renderers(lost_hints_ratio=lost_hints_ratio)
    if "state" in settings:
        settings["state"] = Path(settings["state"])
    server = ModalLocal(Settings(simulate=True, gpus=parse_gpus(gpus), **settings), handler=renderers.render)
    address = await server.start()
    await server.ready()
    await renderers.open(server)
    told = {
        "server_url": address.server_url,
        "admin_url": address.admin_url,
        "token_id": address.token_id,
        "token_secret": address.token_secret,
    }
    print(json.dumps(told), file=sys.__stdout__, flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await server.stop()


if __name__ == "__main__":
    # The one line on stdout is the address; whatever is logged goes elsewhere.
    with contextlib.redirect_stdout(sys.stderr):
        asyncio.run(serve(**json.loads(sys.argv[1])))
