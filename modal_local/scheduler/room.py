"""What is free: places for containers, starts in this second, cards by type. Kept as things change."""

from collections import Counter
from collections.abc import Iterable

from modal_local.records import ContainerRecord
from modal_local.scheduler.placement import Room
from modal_local.settings import Settings

# Calls that call themselves without end must not fill the machine with processes.
_MOST_LENT = 4


class RoomKeeper:
    """Counts what containers occupy.

    Args:
        settings: the caps and the inventory.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._containers = 0
        self._cards: Counter[str] = Counter()
        self._exhausted: set[str] = set()
        self._tokens = settings.start_rate_per_s
        self._tokens_at = 0.0

    def occupy(self, container: ContainerRecord) -> None:
        """A container starts: it takes its place, its cards, and one of the starts of this second."""
        self._containers += 1
        self._cards[container.settings.gpu_type] += container.settings.gpu_count
        self._tokens -= 1

    def release(self, container: ContainerRecord) -> None:
        """A container has ended."""
        self._containers -= 1
        self._cards[container.settings.gpu_type] -= container.settings.gpu_count

    def exhaust(self, gpu_type: str, *, exhausted: bool) -> None:
        """Fault: no card of this type is to be had."""
        (self._exhausted.add if exhausted else self._exhausted.discard)(gpu_type)

    def room(self, now: float, gpu_types: Iterable[str], lent: int = 0) -> Room:
        """What is free now; `now` is unix time in seconds, `lent` how many containers lend their places out."""
        rate = self._settings.start_rate_per_s
        self._tokens = min(max(1.0, rate), self._tokens + max(0.0, now - self._tokens_at) * rate)
        self._tokens_at = now
        return Room(
            containers=self._settings.container_cap - self._containers,
            starts=int(self._tokens),
            gpus={kind: self._free(kind) for kind in gpu_types},
            lent=min(lent, _MOST_LENT * self._settings.container_cap),
        )

    def _free(self, gpu_type: str) -> int:
        if gpu_type in self._exhausted:
            return 0
        return self._settings.gpu_capacity(gpu_type) - self._cards[gpu_type]

    def next_start_s(self) -> float:
        """Seconds until one more start is allowed."""
        return max(0.0, 1.0 - self._tokens) / self._settings.start_rate_per_s
