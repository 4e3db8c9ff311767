"""The nudges that we send to ourselves. Each takes whatever the ledger says comes next; none carries a job."""

from dataclasses import asdict
from typing import Any

from celery import Task

from ledger import Kind
from ledger.nudges import DISPATCH_TASK, INHOUSE_TASK, SPAWN_TASK
from workers.app import app
from workers.dropped import message_dropped
from workers.resources import shared_resources


def _kind_of(task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Kind | None:
    """The kind that a nudge names; None (logged and counted) if it names none."""
    value = kwargs.get("kind")
    if not args and set(kwargs) == {"kind"} and isinstance(value, str) and value in set(Kind):
        return Kind(value)
    message_dropped("invalid_nudge", task=task, detail=f"expected kind=render or kind=train, got {sorted(kwargs)}")
    return None


@app.task(name=DISPATCH_TASK)
def dispatch(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Decide about everything that is queued of a kind."""
    kind = _kind_of(DISPATCH_TASK, args, kwargs)
    if kind is None:
        return {"dropped": "invalid_nudge"}
    from workers.dispatch import Dispatcher  # noqa: PLC0415 - each role imports only what it runs

    return dict(Dispatcher(shared_resources().ledger, shared_resources().nudger, shared_resources().settings).run(kind))


@app.task(name=INHOUSE_TASK, bind=True)
def run_inhouse(self: "Task[Any, Any]", *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Run the in-house attempt that comes next."""
    kind = _kind_of(INHOUSE_TASK, args, kwargs)
    if kind is None:
        return {"dropped": "invalid_nudge"}
    from workers.inhouse import run_next  # noqa: PLC0415 - imports the engines

    return asdict(run_next(shared_resources(), kind, worker=str(self.request.hostname), nudge_id=str(self.request.id)))


@app.task(name=SPAWN_TASK, bind=True)
def spawn_overflow(self: "Task[Any, Any]", *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Spawn what was placed on Modal."""
    kind = _kind_of(SPAWN_TASK, args, kwargs)
    if kind is None:
        return {"dropped": "invalid_nudge"}
    from workers.overflow.wiring import spawner  # noqa: PLC0415 - imports Modal

    return dict(spawner().run(worker=str(self.request.hostname)))
