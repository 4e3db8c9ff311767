"""Celery's consumer, with every refused message counted on its way out."""

from typing import Any

from celery.worker.consumer import Consumer

from workers.dropped import message_dropped


class CountingConsumer(Consumer):
    """Celery logs and drops what it cannot take; here it is counted in the ledger too."""

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """The body cannot be decoded (not JSON, or a content type that we refuse, such as pickle)."""
        message_dropped("undecodable", detail=f"{type(exc).__name__}: {exc}")
        message.ack()

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """An envelope without a task in it."""
        message_dropped("not_a_task", detail=f"headers: {sorted(message.headers or {})}")
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
