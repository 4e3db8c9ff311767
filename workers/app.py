"""The Celery app: `celery -A workers.app worker -Q ...`. Which queues a worker consumes decides what it is."""

import os
from typing import Any

from celery import signals

from workers.celery_config import make_celery
from workers.logs import configure_logging
from workers.settings import settings
from workers.steps import ALL_STEPS

# Modal's client waits without bound when it is throttled; a spawn of ours has a bound (see workers/overflow/calls.py).
os.environ.setdefault("MODAL_MAX_THROTTLE_WAIT", "10")

app = make_celery(settings(), set_as_current=True)
app.steps["worker"].update(ALL_STEPS)


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    """Celery leaves logging to us, in the parent and in each pool process."""
    configure_logging(settings())
