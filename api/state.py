"""The parts that the routes of one API share, and how a route gets them."""

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
class AppState:
    """The parts of one running API."""

    settings: Settings
    keys: KeyRing | None
    ledger: LedgerThreads
    outbox: Outbox
    signer: Signer
    admission: Admission


def state_of(request: Request) -> AppState:
    """The state of the API that serves this request."""
    state: AppState = request.app.state.parts
    return state


def tenant_of(request: Request) -> str:
    """The tenant whose key the request carries.

    Raises:
        Unauthorized: there is no key, or an unknown one.
    """
    return authenticate(state_of(request).keys, request.headers.get("authorization"))


CurrentState = Annotated[AppState, Depends(state_of)]
Tenant = Annotated[str, Depends(tenant_of)]
