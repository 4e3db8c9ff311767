"""Is the process alive; can it take jobs."""

from fastapi import APIRouter

from api.state import CurrentState
from ledger.store import Ledger

router = APIRouter()


@router.api_route("/healthz", methods=["GET", "HEAD"])
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.api_route("/readyz", methods=["GET", "HEAD"])
async def readyz(app: CurrentState) -> dict[str, str]:
    """The ledger takes writes too, so jobs can be accepted; 503 otherwise."""
    await app.ledger.call(Ledger.check_writes)
    return {"status": "ready"}
