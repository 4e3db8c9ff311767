"""Train jobs that wait for own GPUs and should go to Modal now are decided about again, if they may go."""

from functools import partial

import structlog

from ledger import Kind, nudges
from workers.isolation import Skipped, isolated
from workers.maintenance.duties import BATCH
from workers.resources import Resources
from workers.training.needs import train_policy

log = structlog.get_logger(__name__)


def recall_trains(resources: Resources) -> None:
    """One round; a job that cannot be decided about stops no other."""
    ledger, settings = resources.ledger, resources.settings
    waiting = ledger.placement.waiting_inhouse(Kind.TRAIN, limit=BATCH)
    if not waiting:
        return
    policy = train_policy(settings, ledger.placement.training_speeds())
    view = ledger.placement.view()
    for record in waiting:
        leaving = isolated(ledger, record, partial(policy.leaves, record, view))
        if leaving is None or isinstance(leaving, Skipped):
            continue
        rule, decision = leaving
        if ledger.placement.recall(record, decision, reason=rule):
            log.info("job.recalled", job_id=record.id, rule=rule)
            resources.nudger.send(nudges.decide(Kind.TRAIN))
