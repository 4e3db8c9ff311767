"""What every route has at hand, and how a route gets at it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.admission import Admission
from api.auth import KeyRing, authenticate
from api.ledger_threads import LedgerThreads
from api.outbox import Outbox
from api.ports import Signer
from infra.settings import Settings


@dataclass(frozen=True)
class Door:
    """The parts of one running API."""

    settings: Settings
    keys: KeyRing | None
    ledger: LedgerThreads
    outbox: Outbox
    signer: Signer
    admission: Admission


def door_of(request: Request) -> Door:
    """The API that serves this request."""
    door: Door = request.app.state.door
    return door


def tenant_of(request: Request) -> str:
    """The tenant that asks.

    Raises:
        Unauthorized: no key, or not one of ours.
    """
    return authenticate(door_of(request).keys, request.headers.get("authorization"))


TheDoor = Annotated[Door, Depends(door_of)]
Tenant = Annotated[str, Depends(tenant_of)]
