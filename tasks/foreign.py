"""What other services enqueue with a bare `send_task`: validated, written into the ledger, decided about.

Until the ledger has it, such a message has Celery's own weaker guarantee: a worker that dies meanwhile loses it.
`overspill.submit()` and the HTTP API have no such gap.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from pydantic import ValidationError

from infra.logs import bound
from infra.retrying import retry_while_unavailable
from ledger import IdempotencyConflict, Kind, LedgerUnavailable
from ledger.errors import ModelNotFound, TenantQuotaExceeded
from ledger.models import parse_job
from ledger.outcomes import Submitted
from workers.dispatch import Dispatcher
from workers.dropped import message_dropped
from workers.resources import shared_resources

#: How long a bare Celery message is kept trying while the ledger is away, seconds.
RECORD_TIMEOUT_S = 60.0

log = structlog.get_logger(__name__)

#: What the ledger refuses for good, and the reason with which the message is dropped.
_REFUSED: Mapping[type[Exception], str] = {
    IdempotencyConflict: "task_id_reused",
    TenantQuotaExceeded: "tenant_quota",
    ModelNotFound: "model_not_found",
}


def record_and_dispatch(
    kind: Kind, *, task_id: str, args: tuple[Any, ...], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Accept one foreign message. The task's id is the idempotency key: delivered twice, it is one job."""
    name = f"tasks.{kind}"
    if args:
        message_dropped(
            "positional_arguments", task=name, detail=f"expected keyword arguments only, got {len(args)} others"
        )
        return {"dropped": "positional_arguments"}
    try:
        job = parse_job(kind, fields)
    except ValidationError as error:
        message_dropped("invalid_job", task=name, detail=_in_words(error))
        return {"dropped": "invalid_job", "why": _in_words(error)}
    resources = shared_resources()

    def submit() -> Submitted:
        return resources.ledger.jobs.submit(job, source="celery", idempotency_key=f"celery:{task_id}")

    try:
        submitted = retry_while_unavailable(submit, for_s=RECORD_TIMEOUT_S)
    except (IdempotencyConflict, TenantQuotaExceeded, ModelNotFound) as error:
        reason = _REFUSED[type(error)]
        message_dropped(reason, task=name, detail=str(error))
        return {"dropped": reason, "why": str(error)}
    except LedgerUnavailable as error:
        message_dropped("ledger_away", task=name, detail=str(error))
        return {"dropped": "ledger_away"}
    with bound(job_id=submitted.job_id):
        log.info("job.accepted", source="celery", created=submitted.created)
        decided = Dispatcher(resources.ledger, resources.nudger, resources.settings).run(kind)
    return {"job_id": submitted.job_id, "created": submitted.created, "dispatched": decided}


def _in_words(error: ValidationError) -> str:
    """Which fields are wrong and why, without what was sent."""
    return "; ".join(
        f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"
        for detail in error.errors(include_input=False, include_url=False)
    )
