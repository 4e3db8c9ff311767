"""Queues: FIFO partitions of bytes, each gone some time after its last put.

Who waits for an item is woken in the order in which they came, one for each item; who iterates only looks, and is
always woken. Items are held in memory and written through to the store. A get is final when it is answered: as with
Modal, an answer that is lost on its way is lost.
"""

import asyncio
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import empty_pb2
from modal_proto import api_pb2

from modal_local.errors import InvalidArgumentError, ResourceExhaustedError
from modal_local.services.named_objects import NamedObject, NamedObjects

if TYPE_CHECKING:
    from modal_local.context import Context
    from modal_local.rpc import Caller

# All from the docstring of `modal/queue.py`.
MAX_PARTITIONS: Final = 100_000
MAX_PARTITION_ITEMS: Final = 5_000
MAX_PARTITION_BYTES: Final = 64 * 1024**2
MAX_ITEM_BYTES: Final = 1024**2
MAX_PARTITION_KEY_BYTES: Final = 64
DEFAULT_PARTITION_TTL_S: Final = 24 * 3600

_MAX_WAIT_S: Final = 300.0
_MAX_ITEMS_SEEN: Final = 100
_TABLE: Final = "queues"
_ITEMS: Final = "queue_items"
_HEADER = struct.Struct("<dB")


@dataclass(slots=True)
class Partition:
    """One FIFO.

    Attributes:
        items: (sequence number, value), oldest first.
        size_bytes: of all values.
        expires_at: unix time in seconds, set by the last put.
    """

    items: deque[tuple[int, bytes]] = field(default_factory=deque)
    size_bytes: int = 0
    expires_at: float = 0.0

    def append(self, sequence: int, value: bytes) -> None:
        """Adds at the end."""
        self.items.append((sequence, value))
        self.size_bytes += len(value)

    def pop(self) -> tuple[int, bytes]:
        """Takes from the front."""
        sequence, value = self.items.popleft()
        self.size_bytes -= len(value)
        return sequence, value


class Waiters:
    """Who waits on one partition: takers in order, and lookers."""

    def __init__(self) -> None:
        self._takers: deque[asyncio.Future[None]] = deque()
        self._lookers: set[asyncio.Future[None]] = set()

    def __bool__(self) -> bool:
        return bool(self._takers or self._lookers)

    def wake(self, items: int) -> None:
        """Wakes as many takers as there are items, and all lookers."""
        for looker in self._lookers:
            _resolve(looker)
        while items > 0 and self._takers:
            items -= _resolve(self._takers.popleft())

    def wake_all(self) -> None:
        """Wakes everybody: the queue has ended."""
        self.wake(len(self._takers))

    async def wait(self, timeout_s: float, *, take: bool) -> None:
        """Returns when woken, or when the time is over."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if take:
            self._takers.append(future)
        else:
            self._lookers.add(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return
        except asyncio.CancelledError:
            if take and future.done() and not future.cancelled():
                self.wake(1)  # it was our turn, and we are gone: it is the next one's
            raise
        finally:
            self._lookers.discard(future)
            if future in self._takers:
                self._takers.remove(future)


def _resolve(future: "asyncio.Future[None]") -> int:
    if future.done():
        return 0
    future.set_result(None)
    return 1


class QueueService:
    """Answers the Queue RPCs.

    Args:
        context: of the server.
    """

    def __init__(self, context: "Context") -> None:
        self._context = context
        self._queues: dict[str, dict[bytes, Partition]] = {}
        self._waiters: dict[tuple[str, bytes], Waiters] = {}
        # Sequence numbers grow across restarts too, so that who iterates through one misses nothing.
        self._sequence = int(context.clock.now() * 1e6)
        for stored, data in context.store.items(_ITEMS):
            self._restore(stored, data)
        self._objects = NamedObjects(context, table=_TABLE, prefix="qu", kind="Queue", forget=self._clear_all)

    async def QueueGetOrCreate(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Finds or makes a queue."""
        resolution = self._objects.resolve(
            request.deployment_name, request.environment_name, request.object_creation_type
        )
        found = resolution.found
        if resolution.overwrite:
            self._clear_all(found.object_id)
        return api_pb2.QueueGetOrCreateResponse(queue_id=found.object_id, metadata=_metadata(found))

    async def QueueGetById(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Finds a queue."""
        found = self._objects.require(request.queue_id)
        return api_pb2.QueueGetByIdResponse(queue_id=found.object_id, metadata=_metadata(found))

    async def QueueHeartbeat(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Keeps an ephemeral queue."""
        self._objects.heartbeat(request.queue_id)
        return empty_pb2.Empty()

    async def QueueList(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Named queues, newest first, with their sizes up to the limit that the client gives."""
        infos = []
        for one in self._objects.page(request.environment_name, request.pagination):
            total = self._total(one.object_id)
            infos.append(
                api_pb2.QueueListResponse.QueueInfo(
                    name=one.name,
                    created_at=one.created_at,
                    num_partitions=len(self._queues.get(one.object_id, {})),
                    total_size=min(total, request.total_size_limit) if request.total_size_limit else total,
                    queue_id=one.object_id,
                    metadata=_metadata(one),
                )
            )
        environment = self._context.environment(request.environment_name)
        return api_pb2.QueueListResponse(queues=infos, environment_name=environment)

    async def QueueDelete(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Ends a queue; who waits on it is told so."""
        self._objects.delete(request.queue_id)
        for (queue_id, _), waiters in list(self._waiters.items()):
            if queue_id == request.queue_id:
                waiters.wake_all()
        return empty_pb2.Empty()

    async def QueueClear(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Drops the items of one partition, or of all."""
        queue_id = self._objects.require(request.queue_id).object_id
        if request.all_partitions:
            self._clear_all(queue_id)
        else:
            self._clear(queue_id, request.partition_key)
        return empty_pb2.Empty()

    async def QueueLen(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """How many items a partition has, or all together."""
        queue_id = self._objects.require(request.queue_id).object_id
        if request.total:
            return api_pb2.QueueLenResponse(len=self._total(queue_id))
        partition = self._partition(queue_id, request.partition_key)
        return api_pb2.QueueLenResponse(len=0 if partition is None else len(partition.items))

    async def QueuePut(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Adds all values or none."""
        queue_id = self._objects.require(request.queue_id).object_id
        key = request.partition_key
        _check_put(request)
        partition = self._partition(queue_id, key) or Partition()
        self._check_room(queue_id, key, partition, request.values)
        ttl_s = request.partition_ttl_seconds or DEFAULT_PARTITION_TTL_S
        partition.expires_at = self._context.clock.now() + ttl_s
        self._queues.setdefault(queue_id, {})[key] = partition
        for value in request.values:
            self._sequence += 1
            partition.append(self._sequence, value)
            data = _HEADER.pack(partition.expires_at, len(key)) + key + value
            self._context.store.put(_ITEMS, _stored_key(queue_id, self._sequence), data)
        if (queue_id, key) in self._waiters:
            self._waiters[(queue_id, key)].wake(len(request.values))
        return empty_pb2.Empty()

    async def QueueGet(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Takes up to `n_values`; waits up to `timeout` seconds for the first one."""
        if request.n_values < 1:
            raise InvalidArgumentError(f"Queue.get_many: expected n_values of 1 or more, got {request.n_values}.")
        deadline = asyncio.get_running_loop().time() + min(request.timeout, _MAX_WAIT_S)
        while True:
            values = self._take(self._objects.require(request.queue_id).object_id, request)
            if values or not await self._wait(request, deadline, take=True):
                return api_pb2.QueueGetResponse(values=values)

    async def QueueNextItems(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Shows items after `last_entry_id` and leaves them; waits up to `item_poll_timeout` seconds for one."""
        after = _sequence_of(request.last_entry_id)
        deadline = asyncio.get_running_loop().time() + min(request.item_poll_timeout, _MAX_WAIT_S)
        while True:
            partition = self._partition(self._objects.require(request.queue_id).object_id, request.partition_key)
            found = [] if partition is None else [one for one in partition.items if one[0] > after]
            if found or not await self._wait(request, deadline, take=False):
                items = [api_pb2.QueueItem(value=value, entry_id=f"{number:020d}") for number, value in found]
                return api_pb2.QueueNextItemsResponse(items=items[:_MAX_ITEMS_SEEN])

    async def _wait(self, request: Any, deadline: float, *, take: bool) -> bool:
        """Waits for a change of the partition. False: there is no time left."""
        left_s = deadline - asyncio.get_running_loop().time()
        if left_s <= 0:
            return False
        place = (request.queue_id, request.partition_key)
        waiters = self._waiters.setdefault(place, Waiters())
        try:
            await waiters.wait(left_s, take=take)
        finally:
            if not waiters and self._waiters.get(place) is waiters:
                del self._waiters[place]
        return True

    def _take(self, queue_id: str, request: Any) -> list[bytes]:
        partition = self._partition(queue_id, request.partition_key)
        taken: list[bytes] = []
        while partition is not None and partition.items and len(taken) < request.n_values:
            sequence, value = partition.pop()
            taken.append(value)
            self._context.store.delete(_ITEMS, _stored_key(queue_id, sequence))
        if partition is not None and not partition.items:
            self._queues[queue_id].pop(request.partition_key, None)
        return taken

    def _partition(self, queue_id: str, key: bytes) -> Partition | None:
        """A partition whose time is not over; one whose time is over goes."""
        partition = self._queues.get(queue_id, {}).get(key)
        if partition is not None and partition.expires_at <= self._context.clock.now():
            self._clear(queue_id, key)
            return None
        return partition

    def _total(self, queue_id: str) -> int:
        partitions = [self._partition(queue_id, key) for key in list(self._queues.get(queue_id, {}))]
        return sum(len(partition.items) for partition in partitions if partition is not None)

    def _check_room(self, queue_id: str, key: bytes, partition: Partition, values: Any) -> None:
        if len(partition.items) + len(values) > MAX_PARTITION_ITEMS:
            raise ResourceExhaustedError(f"Queue is full: a partition holds at most {MAX_PARTITION_ITEMS} items.")
        if partition.size_bytes + sum(map(len, values)) > MAX_PARTITION_BYTES:
            raise ResourceExhaustedError(f"Queue is full: a partition holds at most {MAX_PARTITION_BYTES} bytes.")
        partitions = self._queues.get(queue_id, {})
        if key not in partitions and len(partitions) >= MAX_PARTITIONS:
            self._total(queue_id)  # those whose time is over go
            if len(partitions) >= MAX_PARTITIONS:
                raise ResourceExhaustedError(f"Queue is full: it holds at most {MAX_PARTITIONS} partitions.")

    def _clear(self, queue_id: str, key: bytes) -> None:
        partition = self._queues.get(queue_id, {}).pop(key, None)
        if partition is not None:
            for sequence, _ in partition.items:
                self._context.store.delete(_ITEMS, _stored_key(queue_id, sequence))

    def _clear_all(self, queue_id: str) -> None:
        for key in list(self._queues.get(queue_id, {})):
            self._clear(queue_id, key)
        self._queues.pop(queue_id, None)

    def _restore(self, stored: str, data: bytes) -> None:
        queue_id, _, number = stored.partition("/")
        expires_at, key_length = _HEADER.unpack_from(data)
        key_end = _HEADER.size + key_length
        partitions = self._queues.setdefault(queue_id, {})
        partition = partitions.setdefault(data[_HEADER.size : key_end], Partition())
        partition.append(int(number), data[key_end:])
        partition.expires_at = expires_at  # items come in order, so the last put's stays
        self._sequence = max(self._sequence, int(number))


def _check_put(request: Any) -> None:
    if len(request.partition_key) > MAX_PARTITION_KEY_BYTES:
        raise InvalidArgumentError(f"Queue partition key: expected at most {MAX_PARTITION_KEY_BYTES} bytes.")
    if request.partition_ttl_seconds < 0:
        raise InvalidArgumentError(f"Queue.put: expected a partition_ttl above 0, got {request.partition_ttl_seconds}.")
    largest = max(map(len, request.values), default=0)
    if largest > MAX_ITEM_BYTES:
        # The SDK tells a request that is too large by this text, which is grpclib's for HTTP 413 (`queue.py`).
        raise InvalidArgumentError(
            f"Received :status = '413': expected items of at most {MAX_ITEM_BYTES} bytes, got {largest}."
        )


def _sequence_of(entry_id: str) -> int:
    if entry_id and not entry_id.isdecimal():
        raise InvalidArgumentError(f"Queue.iterate: expected an entry id that an item carried, got {entry_id!r}.")
    return int(entry_id or 0)


def _stored_key(queue_id: str, sequence: int) -> str:
    return f"{queue_id}/{sequence:020d}"


def _metadata(one: NamedObject) -> Any:
    return api_pb2.QueueMetadata(name=one.name, creation_info=one.creation_info)
