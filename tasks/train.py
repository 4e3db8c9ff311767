"""`tasks.train`: one training run, asked for by a service that may have nothing but Celery installed."""

from typing import Any

from celery import Task

from ledger import Kind
from tasks.foreign import record_and_dispatch
from workers.app import app


@app.task(name="tasks.train", bind=True)
def train(self: "Task[Any, Any]", *args: Any, **fields: Any) -> dict[str, Any]:
    """Accept a training run: keyword arguments are the fields of `ledger.models.TrainJob`; `recipe` is required."""
    return record_and_dispatch(Kind.TRAIN, task_id=str(self.request.id), args=args, fields=fields)
