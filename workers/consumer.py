"""Celery's consumer, behind the transport that reads every message first: the second line, where nothing may end it.

What makes no sense is dropped by the transport already. What Celery itself still cannot take is counted here, and
acknowledged: a message that keeps its place would fill the worker's only one.
"""

from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

from workers.dropped import message_dropped
from workers.transport import CONNECTION_LOST


class CarefulConsumer(Consumer):
    """Celery logs and drops what it cannot take; here it is counted in the ledger too, and nothing else ends it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Gossip lets whoever can publish have a task run (an election's winner calls it), and mingle takes others' word
        # for which tasks are revoked. Neither is ours to leave to a command line's flags.
        super().__init__(*args, **{**kwargs, "without_gossip": True, "without_mingle": True})

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Celery's own handler of one message; what it raises costs that message."""
        handle = super().create_task_handler(*args, **kwargs)

        def handle_or_drop(message: Any) -> None:
            try:
                handle(message)
            except CONNECTION_LOST:
                raise
            except Exception as error:  # noqa: BLE001  # what a message can raise is anything
                message_dropped("not_taken", detail=f"{type(error).__name__}: {error}")
                if not message.acknowledged:
                    message.ack()

        return handle_or_drop

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """The body cannot be decoded."""
        message_dropped("undecodable", detail=f"{type(exc).__name__}: {exc}")
        message.ack()

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """An envelope without a task in it."""
        message_dropped("not_a_task", detail="no task in the headers")
        message.ack()

    def on_unknown_task(
        self,
        body: Any,
        message: Any,
        exc: Exception,
    ) -> None:
        """A task that we do not have."""
        message_dropped("unknown_task", detail=str(exc), task=str(exc))
        message.ack()

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A task message whose parts have the wrong types."""
        message_dropped("invalid_task", detail=f"{type(exc).__name__}: {exc}")
        message.ack()
