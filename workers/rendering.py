"""The in-house execution of one render."""

import time

import structlog
from pydantic import ValidationError

from engines.render.errors import InvalidRenderRequest, RenderCancelled, RenderOutOfMemory, UnknownEngine
from engines.render.registry import get_engine
from ledger.models import JobRecord
from ledger.retries import Cause
from workers.artifacts import Video
from workers.execution import Abandoned, Broken, Execution, Finished, inhouse_cost_usd_micros
from workers.leases import LeaseKeeper
from workers.requests import NoEngine, render_request
from workers.resources import Resources

log = structlog.get_logger(__name__)


def execute_render(open_ends: Resources, record: JobRecord, lease: LeaseKeeper) -> Execution:
    """Run the engine. What it raises becomes a value here; nothing of the engine's gets any further."""
    started = time.monotonic()
    try:
        request = render_request(record, open_ends.settings)
        result = get_engine(request.engine).render(request, on_progress=lease.note_progress, is_cancelled=lease.is_lost)
    except (InvalidRenderRequest, UnknownEngine, ValidationError) as error:
        return Broken(Cause.INVALID_REQUEST, str(error))
    except NoEngine as error:
        return Broken(Cause.NO_ENGINE, str(error))
    except RenderCancelled:
        return Abandoned()
    except (RenderOutOfMemory, MemoryError) as error:
        return Broken(Cause.OUT_OF_MEMORY, str(error))
    except Exception as error:
        log.exception("engine.failed")
        return Broken(Cause.ERROR, f"{type(error).__name__}: {error}")
    seconds = time.monotonic() - started
    return Finished(
        result=Video(result.mp4, result.thumbnail_webp, result.sha256),
        measurements={**vars(result.measurements), "seconds": seconds},
        cost_usd_micros=inhouse_cost_usd_micros(seconds, open_ends.settings.inhouse_usd_per_hour),
    )
