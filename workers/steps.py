"""Celery boot steps: which services start and stop together with a worker, by the queues that it consumes."""

from typing import Any

import structlog
from celery import bootsteps, signals

from ledger import Kind
from ledger.nudges import OVERFLOW_QUEUE
from workers.resources import shared_resources

log = structlog.get_logger(__name__)


def _queues(worker: Any) -> set[str]:
    return set(worker.app.amqp.queues.consume_from)


class _ServiceStep(bootsteps.StartStopStep):
    """A boot step around one service with start, ready and stop."""

    requires = ("celery.worker.components:Pool",)
    service: Any = None

    def wanted(self, queues: set[str]) -> bool:
        """Whether a worker of these queues has the service."""
        raise NotImplementedError

    def make(self, worker: Any) -> Any:
        """The service."""
        raise NotImplementedError

    def include_if(self, worker: Any) -> bool:
        """Celery asks this before it starts the step."""
        return self.wanted(_queues(worker))

    def start(self, worker: Any) -> None:
        """Start the service, after the pool."""
        self.service = self.make(worker)
        self.service.start()
        log.info("service.started", service=type(self.service).__name__)

    def stop(self, parent: Any) -> None:
        """Stop the service, before the pool; may be called twice."""
        if self.service is not None:
            self.service.stop()
            self.service = None

    def terminate(self, parent: Any) -> None:
        """A cold stop stops the service too."""
        self.stop(parent)


class SlotStep(_ServiceStep):
    """GPU workers tell the ledger that their slots live."""

    def wanted(self, queues: set[str]) -> bool:
        """Workers of an in-house queue."""
        return bool(_inhouse_kinds(queues))

    def make(self, worker: Any) -> Any:
        """One slot for each process of the pool."""
        from workers.services import SlotHeartbeat  # noqa: PLC0415 - imports what only such a worker needs

        return SlotHeartbeat(
            shared_resources().ledger,
            kinds=_inhouse_kinds(_queues(worker)),
            slots=[f"{worker.hostname}/{number}" for number in range(int(worker.concurrency))],
            lease_s=shared_resources().settings.attempts.lease_s,
        )


class WorkerProcessMonitorStep(_ServiceStep):
    """GPU workers keep the attempts of their pool's processes, and end those that hang or die."""

    def wanted(self, queues: set[str]) -> bool:
        """Workers of an in-house queue."""
        return bool(_inhouse_kinds(queues))

    def make(self, worker: Any) -> Any:
        """A monitor in a thread, which also listens to Celery's own signal."""
        from workers.attempt.monitor import WorkerProcessMonitor  # noqa: PLC0415 - imports what only such a worker needs

        return WorkerProcessMonitor(shared_resources())

    def start(self, worker: Any) -> None:
        """Start it; it ends when the whole worker has."""
        super().start(worker)
        signals.worker_shutdown.connect(self._at_the_end)

    def stop(self, parent: Any) -> None:
        """Celery stops its steps before it waits for what the pool still runs: the monitor is needed until then."""

    def terminate(self, parent: Any) -> None:
        """A cold stop waits for nothing."""
        self._at_the_end()

    def _at_the_end(self, **_: Any) -> None:
        super().stop(None)


class ScratchCleanupStep(_ServiceStep):
    """GPU workers begin with what earlier runs have left on their disk."""

    def wanted(self, queues: set[str]) -> bool:
        """Workers of an in-house queue."""
        return bool(_inhouse_kinds(queues))

    def make(self, worker: Any) -> Any:
        """One sweep, in a thread."""
        from workers.training.scratch import ScratchCleanup  # noqa: PLC0415 - imports what only such a worker needs

        return ScratchCleanup(shared_resources().settings.train.folder)


class FollowerStep(_ServiceStep):
    """Overflow workers follow Modal calls."""

    def wanted(self, queues: set[str]) -> bool:
        """Workers of the overflow queue."""
        return OVERFLOW_QUEUE in queues

    def make(self, worker: Any) -> Any:
        """A follower in a thread."""
        from workers.overflow.follower import Follower  # noqa: PLC0415 - imports Modal, which only such a worker needs
        from workers.overflow.wiring import gate, modal_calls  # noqa: PLC0415
        from workers.services import FollowerThread  # noqa: PLC0415

        return FollowerThread(Follower(shared_resources(), modal_calls(), gate()))


class MaintenanceStep(_ServiceStep):
    """Dispatch and overflow workers do maintenance; for each duty, a lease picks one of them."""

    def wanted(self, queues: set[str]) -> bool:
        """Workers of the overflow queue or of a dispatch queue."""
        return OVERFLOW_QUEUE in queues or any(str(kind) in queues for kind in Kind)

    def make(self, worker: Any) -> Any:
        """All maintenance services, each in a thread."""
        from workers.maintenance.wiring import maintenance  # noqa: PLC0415

        return maintenance(shared_resources())


def _inhouse_kinds(queues: set[str]) -> list[Kind]:
    return [kind for kind in Kind if f"inhouse.{kind}" in queues]


ALL_STEPS = (SlotStep, WorkerProcessMonitorStep, ScratchCleanupStep, FollowerStep, MaintenanceStep)
