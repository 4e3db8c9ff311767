"""The one shape of every error, and the map from what went wrong to what is answered.

The body is OpenAI's: `{"error": {"message", "type", "param", "code"}}`; its client reads `.code`, `.type` and `.param`
from there. It retries 408, 409, 429 and 5xx by itself unless `x-should-retry: false` forbids it.
"""

import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from ledger.errors import (
    IdempotencyConflict,
    JobNotFound,
    LedgerFull,
    LedgerUnavailable,
    ModelNotFound,
    TenantQuotaExceeded,
)

log = structlog.get_logger(__name__)

#: Tells the client not to retry (openai-python honours it).
NO_RETRY = {"x-should-retry": "false"}
#: The longest name of a field that is echoed, characters.
PARAM_MAX_CHARS = 80


#: What a tenant's quota is of.
_QUOTA_WORDS = {
    "jobs": "jobs that have not ended",
    "spec_bytes": "bytes of requests whose jobs have not ended",
    "jobs_per_minute": "new jobs a minute",
}


class ApiError(Exception):
    """An answer that is an error. Subclasses fix status and type."""

    status = 500
    type = "server_error"

    def __init__(
        self, message: str, *, code: str, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.message = message
        self.code = code
        self.param = param if param is None else printable(param)
        self.headers = dict(headers or {})
        super().__init__(message)

    def response(self) -> JSONResponse:
        """The answer itself."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return JSONResponse({"error": error}, status_code=self.status, headers=self.headers)


class BadRequest(ApiError):
    """The request can never succeed as it is; `param` names the field."""

    status = 400
    type = "invalid_request_error"


class Unauthorized(BadRequest):
    """No key, or one that we do not know."""

    status = 401


class NotFound(BadRequest):
    """No such thing, or none of this tenant's."""

    status = 404


class MethodNotAllowed(BadRequest):
    """The path exists, the method does not."""

    status = 405


class TooSlow(BadRequest):
    """The body did not come in time."""

    status = 408


class Conflict(BadRequest):
    """The job is not in a state for that. Never retried by the client."""

    status = 409

    def __init__(self, message: str, *, code: str, param: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message, code=code, param=param, headers={**NO_RETRY, **(headers or {})})


class TooLarge(BadRequest):
    """The body is longer than we read."""

    status = 413


class UnsupportedMediaType(BadRequest):
    """The body is of a type that we do not read."""

    status = 415


class Unavailable(ApiError):
    """Not now; the same request may succeed after `retry_after_s` seconds."""

    status = 503

    def __init__(self, message: str, *, code: str, retry_after_s: float) -> None:
        super().__init__(message, code=code, headers={"Retry-After": str(max(1, math.ceil(retry_after_s)))})


class _Rejected(ApiError):
    """Not accepted now, for a reason that is kept for the log.

    OpenAI's client retries by itself if `retry_after_s` is at most 120 s; else it fails at once.
    """

    def __init__(self, message: str, *, code: str, retry_after_s: int, reason: str) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(message, code=code, headers={"Retry-After": str(max(1, retry_after_s))})


class QuotaExhausted(_Rejected):
    """A budget is spent until the next period, or until the cap is raised."""

    status = 429
    type = "insufficient_quota"


class Overloaded(_Rejected):
    """There is no room, or it cannot be used now."""

    status = 503


def printable(name: str) -> str:
    """A name from outside, short and safe to echo."""
    return name[:PARAM_MAX_CHARS].encode("utf-8", "replace").decode()


def from_validation(details: ErrorDetails) -> BadRequest:
    """What pydantic found, as a 400 that names the field. What was sent is not echoed."""
    where = [str(part) for part in details["loc"] if part not in ("query", "path", "body", "header")]
    param = where[0] if where else "body"
    if details["type"] == "missing":
        return BadRequest(f"{param}: expected a value, got none.", code="missing_required_field", param=param)
    message = details["msg"].removeprefix("Value error, ").rstrip(".")
    return BadRequest(f"{printable(param)}: {message}.", code="invalid_value", param=param)


def internal_error() -> ApiError:
    """For a bug of ours. The request id leads to the log."""
    return ApiError("Something broke on our side. Quote the x-request-id of this answer to us.", code="internal_error")


def translate(error: Exception) -> ApiError:
    """What the ledger or the framework raised, as an answer."""
    answer: ApiError
    match error:
        case ApiError():
            answer = error
        case LedgerUnavailable(retry_after_s=retry_after_s):
            answer = Unavailable(
                f"The job ledger did not answer in time. Try again in {retry_after_s:g} s.",
                code="ledger_unavailable",
                retry_after_s=retry_after_s,
            )
        case LedgerFull(retry_after_s=retry_after_s):
            answer = Unavailable(
                f"The job ledger is full; the job was not accepted. Try again in {retry_after_s:g} s.",
                code="ledger_full",
                retry_after_s=retry_after_s,
            )
        case JobNotFound():
            answer = video_not_found()
        case IdempotencyConflict():
            answer = Conflict(str(error), code="idempotency_key_reused", param="Idempotency-Key")
        case TenantQuotaExceeded(what=what, retry_after_s=retry_after_s):
            answer = QuotaExhausted(
                f"You have reached what you may have at once ({_QUOTA_WORDS.get(what, what)}). "
                f"The job was not accepted. Try again in {retry_after_s} s.",
                code="tenant_quota_exceeded",
                retry_after_s=retry_after_s,
                reason=f"tenant_{what}",
            )
        case ModelNotFound():
            answer = BadRequest(
                "model: expected `dit:` and the id of one of your training jobs; there is none with this id.",
                code="model_not_found",
                param="model",
            )
        case RequestValidationError():
            answer = from_validation(error.errors()[0])
        case HTTPException():
            answer = _from_framework(error)
        case _:
            answer = internal_error()
    return answer


def video_not_found(param: str = "video_id") -> NotFound:
    """The id stands for no video of this tenant."""
    return NotFound("Expected the id of one of your videos; there is none with this id.", code="not_found", param=param)


def _from_framework(error: HTTPException) -> ApiError:
    match error.status_code:
        case 404:
            return NotFound("There is nothing at this path. Videos are at /v1/videos.", code="unknown_path")
        case 405:
            allowed = (error.headers or {}).get("Allow", "another one")
            return MethodNotAllowed(
                f"This path does not take this method, but {allowed}.",
                code="method_not_allowed",
                headers=error.headers,
            )
        case status if 400 <= status < 500:  # noqa: PLR2004 - the classes of HTTP
            return BadRequest("The request cannot be read as HTTP.", code="bad_request")
        case _:
            return internal_error()


def methods_of(request: Request) -> list[str]:
    """The methods that any route takes at the request's path."""
    scope = {**request.scope, "method": "GET"}
    routes: Iterable[BaseRoute] = request.app.state.routes
    here = [route for route in routes if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE]
    return sorted({method for route in here for method in route.methods or ()})


async def _answer(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error = HTTPException(error.status_code, headers={"Allow": ", ".join(methods_of(request))})
    answer = translate(error)
    if isinstance(answer, QuotaExhausted | Overloaded):
        log.info("job.rejected", code=answer.code, reason=answer.reason, retry_after_s=answer.retry_after_s)
    if isinstance(answer, Unavailable):
        log.warning("ledger.unavailable", code=answer.code, reason=getattr(error, "reason", None))
    return answer.response()


def install(app: FastAPI) -> None:
    """Answer every foreseen error in our shape; the envelope catches the others."""
    for kind in (
        ApiError,
        LedgerUnavailable,
        LedgerFull,
        JobNotFound,
        IdempotencyConflict,
        ModelNotFound,
        TenantQuotaExceeded,
        RequestValidationError,
        HTTPException,
    ):
        app.add_exception_handler(kind, _answer)
