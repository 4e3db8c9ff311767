"""The reconciler: makes sure again and again that nothing is forgotten. One process at a time has the duty, by lease.

Every sweep is bounded, and harmless if two processes should run it at once: each step is one script of the ledger.
"""

import os
import random
import socket
from functools import partial

import redis
import structlog

from infra.background import BackgroundService
from infra.broker import Broker
from ledger import Kind, LedgerError, nudges
from ledger.nudges import Nudge
from workers.budget_sweep import cancel_at_stop
from workers.dispatch import policy_from
from workers.isolation import Skipped, isolated
from workers.resources import Resources
from workers.training.forgetting import Forgetting
from workers.training.needs import train_policy

log = structlog.get_logger(__name__)

DUTY = "reconciler"
#: The duty is held for so many sweeps; a reconciler that dies is replaced after them.
LEASE_SWEEPS = 5


class Reconciler(BackgroundService):
    """Sweeps until it is stopped. Ready after its first round, whether or not the duty is its own."""

    def __init__(self, open_ends: Resources, broker: Broker | None = None) -> None:
        super().__init__("reconciler")
        self._open = open_ends
        self._broker = broker or Broker(open_ends.settings)
        self._policy = policy_from(open_ends.settings)
        self._forgetting = Forgetting(open_ends)
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    def stop(self) -> None:
        """Stop, and lay the duty down."""
        super().stop()
        self._broker.close()

    def sweep(self) -> None:
        """One round, if the duty is ours."""
        settings = self._open.settings
        ledger = self._open.ledger
        if not ledger.sweeps.lead(DUTY, owner=self._owner, lease_s=settings.sweep_every_s * LEASE_SWEEPS):
            return
        expired = ledger.sweeps.expire_leases(
            limit=settings.sweep_batch,
            max_attempts={kind: settings.max_attempts_of(kind) for kind in Kind},
            jitter=random.random(),
        )
        for lease in expired:
            log.warning(
                "lease.expired",
                job_id=lease.job_id,
                attempt=lease.attempt,
                kind=str(lease.kind),
                cause=lease.cause,
                outcome=lease.outcome,
            )
        held_nudges, shed = ledger.sweeps.due_held(limit=settings.sweep_batch)
        for job_id in shed:
            log.warning("job.shed", job_id=job_id)
        for nudge in held_nudges:  # (held jobs come back every few seconds: a line for all of a kind)
            log.debug("jobs.looked_at_again", kind=str(nudge.kind))
        # A job whose lease was lost should not wait for a nudge to fall overdue.
        to_send = {*held_nudges, *(nudges.decide(lease.kind) for lease in expired)}
        for nudge in to_send:
            self._open.nudger.send(nudge)
        ledger.sweeps.idle_containers(limit=settings.sweep_batch)
        for stray in ledger.sweeps.stray_reservations(limit=settings.sweep_batch):
            log.error("reservation.stray", attempt_of=stray)
        cancel_at_stop(ledger, settings, send=self._open.nudger.send)
        self._tick_policy()
        self._recall_trains()
        self._retire()
        for nudge, waiting in ledger.sweeps.overdue_nudges(limit=settings.sweep_batch):
            self._nudge_again(nudge, waiting)
        ledger.sweeps.done(DUTY)

    def _tick_policy(self) -> None:
        """Spilling ends when the queue has run short, and not only when the next job comes."""
        view = self._open.ledger.placing.view()
        for kind in Kind:
            was = view.of(kind).spill
            now = self._policy.spill_state(kind, view)
            if now != was:
                self._open.ledger.placing.note_spill(kind, was=was, now=now)
                log.info("spill.changed", kind=str(kind), active=now.active)

    def _recall_trains(self) -> None:
        """Train jobs that wait for own GPUs and should go to Modal now are decided about again, if they may go."""
        training = self._open.ledger.training
        waiting = training.waiting_inhouse(Kind.TRAIN, limit=self._open.settings.sweep_batch)
        if not waiting:
            return
        policy = train_policy(self._open.settings, training.speeds())
        view = self._open.ledger.placing.view()
        for record in waiting:
            leaving = isolated(self._open.ledger, record, partial(policy.leaves, record, view))
            if leaving is None or isinstance(leaving, Skipped):
                continue
            rule, decision = leaving
            if training.recall(record, decision, reason=rule):
                log.info("job.recalled", job_id=record.id, rule=rule)
                self._open.nudger.send(nudges.decide(Kind.TRAIN))

    def _retire(self) -> None:
        """Forget what ended long ago: the records first, then the objects that nothing points to any more."""
        settings = self._open.settings
        for kind in Kind:
            artifacts, ids = self._open.ledger.sweeps.retire_by_name(
                kind, older_than_s=settings.retention_s, limit=settings.sweep_batch
            )
            for artifact in artifacts:
                self._open.artifacts.discard(artifact)
            if kind is Kind.TRAIN:
                self._forgetting.forget(ids)  # a train job leaves checkpoints of all its attempts, whatever its end was
            if ids:
                log.info("jobs.retired", kind=str(kind), number=len(ids))
        self._forgetting.tend()

    def _nudge_again(self, nudge: Nudge, waiting: int) -> None:
        """Send as many nudges as jobs wait, less those that are still in the queue: a backlog is not a loss."""
        try:
            missing = waiting - self._broker.depth(nudge.queue)
        except redis.exceptions.RedisError as error:
            log.warning("broker.not_asked", queue=nudge.queue, error=str(error))
            return
        for number in range(missing):
            if number == 0:
                log.info("nudge.sent_again", queue=nudge.queue, missing=missing)
            if not self._open.nudger.send(nudge):
                return

    def run(self) -> None:
        """Sweep again and again."""
        while not self.stopping.is_set():
            try:
                self.sweep()
            except LedgerError as error:
                log.warning("reconciler.ledger_away", error=str(error))
            except Exception:
                # The sweeps are what repairs everything else; they must outlive any surprise.
                log.exception("reconciler.sweep_failed")
            self.is_ready.set()
            self.stopping.wait(self._open.settings.sweep_every_s)
        try:
            self._open.ledger.sweeps.resign(DUTY, owner=self._owner)
        except LedgerError as error:
            log.warning("reconciler.not_resigned", error=str(error))
