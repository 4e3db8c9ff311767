"""The handle: what people and other services hold Overspill by.

What lives here
    client   `overspill.submit()`, `status()`, `wait()`, `cancel()`, and `Client` and `AsyncClient` with the same verbs
    cli      the command `overspill`
    demo     the three demos
    terminal what commands and demos print with
    dev      the stack of servers that development runs on loopback

What must hold
    `import overspill` is light: the ledger and nothing else; no torch, modal, numpy, av, boto3 or fastapi, and Celery
    only when the first job is submitted. So this file imports the client and never the command.

Who may come in
    Any service, for the client.
"""

from ledger.errors import IdempotencyConflict, JobNotFound, LedgerError, LedgerFull, LedgerUnavailable
from ledger.models import Artifact, JobRecord, RenderJob, TrainJob
from ledger.outcomes import AlreadyEnded, Cancelled
from ledger.settings import LedgerSettings
from ledger.states import State
from overspill.client import (
    AsyncClient,
    Client,
    ClientError,
    JobFailed,
    WaitTimeout,
    cancel,
    status,
    submit,
    wait,
)

__all__ = [
    "AlreadyEnded",
    "Artifact",
    "AsyncClient",
    "Cancelled",
    "Client",
    "ClientError",
    "IdempotencyConflict",
    "JobFailed",
    "JobNotFound",
    "JobRecord",
    "LedgerError",
    "LedgerFull",
    "LedgerSettings",
    "LedgerUnavailable",
    "RenderJob",
    "State",
    "TrainJob",
    "WaitTimeout",
    "cancel",
    "status",
    "submit",
    "wait",
]
