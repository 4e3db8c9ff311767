"""Which of the containers that pools ask for may start now, with the room that there is. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A pool asks for containers.

    Attributes:
        waiting_since: since when its oldest input waits; the longest wait is served first.
        awaited: an input that runs waits for one of its inputs; it may have places that are lent out.
    """

    pool_id: str
    wanted: int
    waiting_since: float
    gpu_type: str = ""
    gpu_count: int = 0
    awaited: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """What is free: places for containers, starts in this second, cards by type, places lent out by waiting parents.

    `containers` is negative when places have been lent out before.
    """

    containers: int
    starts: int
    gpus: Mapping[str, int]
    lent: int = 0


@dataclass(frozen=True, slots=True)
class Allotment:
    """The pools that may start one container each (a pool may be named more than once), and what held others back."""

    starts: tuple[str, ...]
    short_of_containers: bool = False
    short_of_starts: bool = False
    short_of_gpus: frozenset[str] = frozenset()


def allot(requests: Sequence[StartRequest], room: Room) -> Allotment:
    """Gives one container to each pool in turn, the longest wait first, until the room or the wishes are used up."""
    gpus = dict(room.gpus)
    left = {request.pool_id: request.wanted for request in requests}
    ranked = sorted(requests, key=lambda request: request.waiting_since)
    starts: list[str] = []
    short: set[str] = set()
    crowded = False
    while True:
        progress = False
        for request in ranked:
            if left[request.pool_id] <= 0:
                continue
            if len(starts) >= room.containers + (room.lent if request.awaited else 0):
                crowded, left[request.pool_id] = True, 0
                continue
            if len(starts) >= room.starts:
                return Allotment(tuple(starts), crowded, short_of_starts=True, short_of_gpus=frozenset(short))
            if request.gpu_count > gpus.get(request.gpu_type, 0) and request.gpu_count:
                short.add(request.gpu_type)
                left[request.pool_id] = 0
                continue
            if request.gpu_count:
                gpus[request.gpu_type] -= request.gpu_count
            left[request.pool_id] -= 1
            starts.append(request.pool_id)
            progress = True
        if not progress:
            return Allotment(tuple(starts), crowded, short_of_gpus=frozenset(short))


def evict(idle: Sequence[tuple[str, str, float]], asking: frozenset[str], count: int) -> tuple[str, ...]:
    """When every place is taken: which idle containers make room for pools that have work waiting.

    Modal itself has room for all; one machine has not.

    Args:
        idle: task id, pool id and idle-since of each container that may be stopped.
        asking: the pools that wait; their own idle containers are no help.
        count: how many places are wanted.

    Returns:
        Task ids, the longest idle first.
    """
    candidates = sorted((since, task_id) for task_id, pool_id, since in idle if pool_id not in asking)
    return tuple(task_id for _, task_id in candidates[:count])
