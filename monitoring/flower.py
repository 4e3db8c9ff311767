"""The Celery app that Flower runs on: `celery -A monitoring.flower flower`.

Flower looks into the broker by itself and knows Redis by its address' scheme alone, not by a transport of ours. It
consumes events only, never our queues, so kombu's own transport is good enough for it.
"""

from workers.celery_config import make_celery
from workers.settings import settings

app = make_celery(settings())
app.conf.broker_transport = None
