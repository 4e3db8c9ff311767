"""How we use Celery on Redis: nudges only, JSON only, no prefetch, no result backend, no ack emulation.

Each line answers a measured way in which Celery on Redis loses or doubles work, or dies; docs/decisions/ has them.
"""

from typing import Any
from urllib.parse import quote

from celery import Celery
from kombu import Queue

from infra.settings import Settings
from ledger.models import Kind
from ledger.nudges import OVERFLOW_QUEUE
from ledger.server import is_sentinel, parse_sentinel

#: Where a bare `send_task` without a queue lands; dispatchers consume it too.
DEFAULT_QUEUE = "celery"


def queue_names() -> tuple[str, ...]:
    """Every queue of the system."""
    return (*(str(kind) for kind in Kind), *(f"inhouse.{kind}" for kind in Kind), OVERFLOW_QUEUE, DEFAULT_QUEUE)


def transport_options() -> dict[str, Any]:
    """Options of the Redis transport, the same for who sends and who receives."""
    return {
        # The ledger is the record; without emulated acks a worker handles two to three times as many messages, and a
        # Redis outage does not kill it.
        "ack_emulation": False,
        "socket_timeout": 5.0,
        "socket_connect_timeout": 2.0,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "client_name": "overspill-celery",
    }


def broker(url: str) -> dict[str, Any]:
    """Celery's three settings for a broker's address: redis://, rediss://, unix:// or sentinel:// as the ledger's."""
    if not is_sentinel(url):
        return {
            "broker_url": url,
            "broker_transport": "workers.transport:Transport",
            "broker_transport_options": transport_options(),
        }
    address = parse_sentinel(url)
    credentials = f"{quote(address.username or '')}:{quote(address.password or '')}@" if address.password else ""
    return {
        "broker_url": ";".join(
            f"sentinel://{credentials}{host}:{port}/{address.database}" for host, port in address.sentinels
        ),
        "broker_transport": "workers.transport:SentinelTransport",
        "broker_transport_options": {**transport_options(), "master_name": address.service},
    }


def make_celery(settings: Settings, *, set_as_current: bool = False) -> Celery:
    """A Celery app with our configuration and no tasks of its own."""
    app = Celery("overspill", set_as_current=set_as_current)
    app.conf.update(
        **broker(settings.ledger.broker_url.get_secret_value()),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # JSON only: a pickle is refused before it is opened.
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        # Results live in the ledger.
        result_backend=None,
        task_ignore_result=True,
        task_store_eager_result=False,
        # One message at a time, fetched when a slot is free.
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        task_acks_late=False,
        task_queues=[Queue(name) for name in queue_names()],
        task_default_queue=DEFAULT_QUEUE,
        task_create_missing_queues=False,
        # Flower needs these; what they cost is in docs/production.md.
        worker_send_task_events=settings.celery.worker_events,
        task_send_sent_event=settings.celery.worker_events,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_consumer="workers.consumer:CarefulConsumer",
        enable_utc=True,
        timezone="UTC",
        imports=("tasks.render", "tasks.train", "tasks.nudges"),
    )
    return app
