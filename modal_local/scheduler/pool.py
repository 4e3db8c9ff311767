"""What one function, or one variant of it, has waiting and running."""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from modal_local.records import ContainerRecord, ContainerState, InputRecord, PoolSettings
from modal_local.scheduler.autoscale import PoolView

# A look at a pool costs the same however many are idle; what is left over is looked at at once after these.
_IDLE_LOOKED_AT = 256


@dataclass(slots=True, eq=False)
class Pool:
    """One pool. Counts are kept as things change, so that a look costs the same with fifty thousand inputs.

    Attributes:
        queue: inputs that wait for a container.
        waiting: containers with an open request for inputs.
        idle: containers that take inputs and run nothing, the longest idle first, whether they ask for more or not.
        init_failures: failed starts in a row.
        crashes: deaths with work in hand in a row.
        cancelled: inputs in the queue that have been cancelled.
        starts: containers started so far, which is what the snapshot model goes by.
    """

    function_id: str
    app_id: str
    settings: PoolSettings
    definition_id: str
    queue: deque[InputRecord] = field(default_factory=deque)
    containers: dict[str, ContainerRecord] = field(default_factory=dict)
    waiting: dict[str, ContainerRecord] = field(default_factory=dict)
    idle: dict[str, ContainerRecord] = field(default_factory=dict)
    running: int = 0
    active: int = 0
    init_failures: int = 0
    crashes: int = 0
    blocked_until: float = 0.0
    starts: int = 0
    cancelled: int = 0
    linger_armed: bool = False

    @property
    def backlog(self) -> int:
        """Inputs that wait."""
        return len(self.queue) - self.cancelled

    def forget(self) -> None:
        """An input in the queue has been cancelled; the queue is swept when half of it is such."""
        self.cancelled += 1
        self._sweep()

    def _sweep(self) -> None:
        if self.cancelled > len(self.queue) // 2:
            self.queue = deque(record for record in self.queue if not record.done)
            self.cancelled = 0

    def next_input(self) -> InputRecord | None:
        """Takes the next input off the queue."""
        while self.queue:
            record = self.queue.popleft()
            if not record.done:
                self._sweep()
                return record
            self.cancelled -= 1
        return None

    def view(self, now: float) -> PoolView:
        """What the autoscaler is told."""
        return PoolView(
            settings=self.settings,
            backlog=self.backlog,
            running=self.running,
            active=self.active,
            idle=[(task_id, one.idle_since) for task_id, one in islice(self.idle.items(), _IDLE_LOOKED_AT)],
            blocked_until=self.blocked_until,
            now=now,
        )

    def add(self, container: ContainerRecord) -> None:
        """A container is on its way."""
        self.containers[container.task_id] = container
        self.active += 1
        self.starts += 1

    def retire(self, container: ContainerRecord, state: ContainerState) -> None:
        """A container takes no new inputs from now on."""
        if container.takes_inputs:
            self.active -= 1
        container.state = state
        self.waiting.pop(container.task_id, None)
        self.idle.pop(container.task_id, None)

    def remove(self, container: ContainerRecord) -> None:
        """A container has ended."""
        self.retire(container, ContainerState.ENDED)
        self.containers.pop(container.task_id, None)

    def give(self, container: ContainerRecord, record: InputRecord) -> None:
        """An input goes to a container."""
        container.running[record.input_id] = record
        self.idle.pop(container.task_id, None)
        self.running += 1

    def take(self, container: ContainerRecord, input_id: str, now: float) -> InputRecord | None:
        """An input leaves a container; `now` is by the steady clock."""
        record = container.running.pop(input_id, None)
        if record is not None:
            self.running -= 1
            record.stop_timer()
            container.last_call = record.call.call_id
            self.rest(container, now)
        return record

    def rest(self, container: ContainerRecord, now: float) -> None:
        """A container is idle from now on, if it has nothing in hand. One that was idle before stays so since then.

        A container that takes several inputs has its request for the next one open while others run, and so does not
        ask again when it has answered the last of them.
        """
        if container.running or container.state is not ContainerState.READY or container.task_id in self.idle:
            return
        container.idle_since = now
        self.idle[container.task_id] = container
