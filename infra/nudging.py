"""Sends nudges. A nudge that cannot be sent is no loss: maintenance sends it again for whatever still waits."""

import uuid

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from infra.celery_config import make_celery
from infra.settings import Settings
from ledger.nudges import SIGNATURE_HEADER, Nudge, sign

log = structlog.get_logger(__name__)


class CeleryNudger:
    """Sends nudges through Celery's broker. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._app = make_celery(settings)
        self._keys = settings.ledger.keys_of_nudges

    def send(self, nudge: Nudge) -> bool:
        """Send one nudge, within a few seconds, never raising. False: it could not be sent."""
        message_id = str(uuid.uuid4())
        headers = {SIGNATURE_HEADER: sign(self._keys[0], nudge, message_id=message_id)} if self._keys else None
        try:
            self._app.send_task(
                nudge.task,
                kwargs=nudge.kwargs,
                queue=nudge.queue,
                task_id=message_id,
                headers=headers,
                retry=False,
                ignore_result=True,
            )
        except (OperationalError, OSError, RedisError) as error:
            # Redis's own errors come through unwrapped: a queue's key may hold something that is no list.
            log.warning("nudge.not_sent", queue=nudge.queue, task=nudge.task, error=str(error))
            return False
        return True

    def close(self) -> None:
        """Close the connections; may be called twice."""
        self._app.close()
