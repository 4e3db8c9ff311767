"""How the API is wired. `uvicorn --factory api.app:create_app` starts it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from api import errors, health, videos
from api.admission import Admission
from api.auth import key_ring
from api.envelope import Envelope
from api.ledger_threads import LedgerThreads
from api.outbox import Outbox
from api.ports import NudgeSender, Signer
from api.state import AppState
from infra.artifacts import ArtifactStore
from infra.limits import open_ledger
from infra.logs import configure_logging
from infra.nudging import CeleryNudger
from infra.settings import Settings
from infra.settings import settings as settings_from_environment
from infra.tracing import tracing
from ledger.errors import LedgerError

log = structlog.get_logger(__name__)


def create_app(
    settings: Settings | None = None, *, nudger: NudgeSender | None = None, signer: Signer | None = None
) -> FastAPI:
    """An API that is ready to serve. Redis need not be there yet; it is connected to when first used.

    Args:
        settings: None reads them from the environment and sets the log up, as a process of its own does.
        nudger: sends nudges; None: by Celery.
        signer: signs addresses of results; None: by boto3.

    Raises:
        SystemExit: the settings are wrong, or keys are required and there is none.
    """
    if settings is None:
        settings = settings_from_environment()
        configure_logging(settings)
    keys = key_ring(settings)
    if keys is None:
        log.warning("api.open", hint="OVERSPILL_API_AUTH=off: everyone who reaches the port may use it")
    parts = AppState(
        settings=settings,
        keys=keys,
        ledger=LedgerThreads(open_ledger(settings)),
        outbox=Outbox(nudger or CeleryNudger(settings)),
        signer=signer or ArtifactStore(settings),
        admission=Admission(settings),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(tracing)  # importing OpenTelemetry takes half a second that no request should pay
        with suppress(LedgerError):  # submits bring them along, too; this binds clients
            await parts.ledger.call(lambda ledger: ledger.jobs.announce_quotas())
        log.info("api.started", auth=settings.api.auth)
        yield
        await run_in_threadpool(parts.outbox.stop)
        await run_in_threadpool(parts.ledger.stop)
        await run_in_threadpool(tracing().close)
        log.info("api.stopped")

    # The schema pages are off: what is served is OpenAI's contract, and its documentation is theirs.
    app = FastAPI(title="Overspill", lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    app.state.parts = parts
    app.add_middleware(Envelope)
    errors.install(app)
    app.include_router(health.router)
    app.include_router(videos.router)
    app.state.routes = (*health.router.routes, *videos.router.routes)
    return app
