"""The Celery app: `celery -A workers.app worker -Q ...`. Which queues a worker consumes decides what it is."""

import os
from typing import Any

import structlog
from celery import signals

from infra.celery_config import make_celery
from infra.logs import configure_logging
from infra.settings import settings
from ledger import LedgerUnavailable
from ledger.server import EvictingServer
from workers.attempt import slots  # noqa: F401 - made before the pool is forked, and inherited
from workers.resources import shared_resources
from workers.shutdown import stop_request
from workers.steps import ALL_STEPS

# Modal's client waits without bound when it is throttled; ours have a bound (workers/overflow/modal_sdk/port.py).
os.environ.setdefault("MODAL_MAX_THROTTLE_WAIT", "10")

log = structlog.get_logger(__name__)

app = make_celery(settings(), set_as_current=True)
app.steps["worker"].update(ALL_STEPS)


@signals.celeryd_init.connect
def _refuse_eviction(**_: Any) -> None:
    """A worker does not start on a ledger that may throw jobs away. One that is away is waited for, as ever."""
    try:
        shared_resources().ledger.refuse_eviction()
    except EvictingServer as error:
        raise SystemExit(f"overspill: {error}") from None
    except LedgerUnavailable as error:
        log.warning("ledger.away_at_start", error=str(error))


@signals.worker_shutting_down.connect
def _tell_the_pool(**_: Any) -> None:
    """Celery's warm shutdown waits for what runs; a run of days saves and goes back into the line instead."""
    stop_request.make()


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    """Celery leaves logging to us, in the parent and in each pool process."""
    configure_logging(settings())
