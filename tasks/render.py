"""`tasks.render`: one MP4, asked for by a service that may have nothing but Celery installed."""

from typing import Any

from celery import Task

from ledger import Kind
from tasks.foreign import record_and_dispatch
from workers.app import app


@app.task(name="tasks.render", bind=True)
def render(self: "Task[Any, Any]", *args: Any, **fields: Any) -> dict[str, Any]:
    """Accept a render: keyword arguments are the fields of `ledger.models.RenderJob`; only `prompt` is required."""
    return record_and_dispatch(Kind.RENDER, task_id=str(self.request.id), args=args, fields=fields)
