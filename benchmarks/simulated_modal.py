"""A modal_local whose simulated containers behave as the deployed renderer does; `benchmarks.overflow` starts it.

Each call announces itself, sends its hints, works for as long as its prompt says, and answers with an envelope. The
containers live inside the server, so what they do costs the server, and nothing that the benchmark measures.
"""

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from typing import Any

from modal._serialization import serialize
from modal_proto import api_pb2

from modal_apps.announce import ANNOUNCEMENTS_DICT, announcement_key
from modal_apps.envelope import Envelope, Timings
from modal_apps.hints import HINTS_QUEUE, CallHint, partition_name, partition_of
from modal_local.server import ModalLocal
from modal_local.services.dicts import DictService
from modal_local.services.queues import QueueService
from modal_local.settings import Settings
from modal_local.simulate import SimulatedCall

#: Progress of a call is hinted so many times, and at most so often, seconds.
PROGRESS_HINTS, PROGRESS_EVERY_S = 10, 2.0
_CREATE = api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING


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
        request, (job_id, attempt) = args[0], args[1]
        seconds = float(str(request["prompt"]).rpartition(" ")[2])
        began = time.time()
        await self._announce(job_id, attempt, call, began)
        await self._hint(CallHint(job_id, attempt, call.call_id, "started"))
        steps = min(PROGRESS_HINTS, int(seconds / PROGRESS_EVERY_S))
        for step in range(1, steps):
            await asyncio.sleep(max(0.0, began + seconds * step / steps - time.time()))
            await self._hint(CallHint(job_id, attempt, call.call_id, "progress", round(100 * step / steps)))
        await asyncio.sleep(max(0.0, began + seconds - time.time()))
        await self._hint(CallHint(job_id, attempt, call.call_id, "done", 100, 30 * 2**30, 64))
        ended = time.time()
        return Envelope(
            timings=Timings(began, began, ended, ran_s=ended - began, container_age_s=ended - began),
            container_id=call.task_id,
            cold_start=True,
            peak_memory_bytes=2**30,
            peak_gpu_memory_bytes=30 * 2**30,
            value={"mp4": b"\0" * 64, "thumbnail_webp": None, "sha256": "0" * 64, "measurements": {"frames": 96}},
        ).to_wire()

    async def _announce(self, job_id: str, attempt: int, call: SimulatedCall, at: float) -> None:
        entry = {"call_id": call.call_id, "announced_at": at, "containers": [(call.task_id, at)]}
        update = api_pb2.DictEntry(key=serialize(announcement_key(job_id, attempt)), value=serialize(entry))
        request = api_pb2.DictUpdateRequest(dict_id=self._dict_id, updates=[update], if_not_exists=True)
        await self.dicts.DictUpdate(request, None)

    async def _hint(self, hint: CallHint) -> None:
        if self._random.random() < self._lost:
            return
        key = partition_name(partition_of(hint.job_id)).encode()
        request = api_pb2.QueuePutRequest(
            queue_id=self._queue_id, partition_key=key, values=[serialize(hint.to_wire())], partition_ttl_seconds=3600
        )
        with contextlib.suppress(Exception):  # full: lost, as in the deployed renderer
            await self.queues.QueuePut(request, None)


async def serve(*, lost_hints_ratio: float) -> None:
    """Serve until SIGTERM."""
    renderers = Renderers(lost_hints_ratio=lost_hints_ratio)
    server = ModalLocal(Settings(simulate=True), handler=renderers.render)
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
        asyncio.run(serve(lost_hints_ratio=float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
