"""The Celery app that Flower runs on: `celery -A monitoring.flower flower`.

Flower looks into the broker by itself and knows Redis by its address' scheme alone, not by a transport of ours. It
consumes events only, never our queues, so kombu's own transport is good enough for it.
"""

from flower.views import BaseHandler

from infra.celery_config import make_celery, queue_names
from infra.settings import settings

app = make_celery(settings())
app.conf.broker_transport = None


def _our_queues(_: object) -> list[str]:
    return sorted(queue_names())


# Flower's broker page has the queues of those workers that have answered it. The queue that nobody reads is the one
# that must be seen, so it has all of ours.
BaseHandler.get_active_queue_names = _our_queues
