"""Sends nudges. A nudge that cannot be sent is no loss: maintenance sends it again for whatever still waits."""

import structlog
from kombu.exceptions import OperationalError

from infra.celery_config import make_celery
from infra.settings import Settings
from ledger.nudges import Nudge

log = structlog.get_logger(__name__)


class CeleryNudger:
    """Sends nudges through Celery's broker. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._app = make_celery(settings)

    def send(self, nudge: Nudge) -> bool:
        """Send one nudge, within a few seconds, never raising. False: it could not be sent."""
        try:
            self._app.send_task(nudge.task, kwargs=nudge.kwargs, queue=nudge.queue, retry=False, ignore_result=True)
        except (OperationalError, OSError) as error:
            log.warning("nudge.not_sent", queue=nudge.queue, task=nudge.task, error=str(error))
            return False
        return True

    def close(self) -> None:
        """Close the connections; may be called twice."""
        self._app.close()
