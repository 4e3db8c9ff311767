"""Is the process alive; can it take jobs."""

from fastapi import APIRouter

from api.state import CurrentState
from ledger.store import Ledger

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(app: CurrentState) -> dict[str, str]:
    """The ledger answers too, so jobs can be accepted; 503 otherwise."""
    await app.ledger.call(Ledger.ping)
    return {"status": "ready"}
