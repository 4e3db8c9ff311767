"""Logs: an event name and a context. JSON when not on a terminal; job id and attempt on every line; secrets never."""

import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from infra.settings import Settings

_SECRET_NAMES = re.compile(r"(password|passwd|secret|token|api_?key|authorization|credential)", re.IGNORECASE)
_PASSWORD_IN_ADDRESS = re.compile(r"(\w+://[^:/@\s]*:)[^@\s/]+@")
_SAFE_NAMES = frozenset({"idempotency_key_given", "fencing_token"})


def hide_secrets(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: blanks values whose name says secret, and passwords inside addresses."""
    for name, value in event.items():
        if _SECRET_NAMES.search(name) and name not in _SAFE_NAMES:
            event[name] = "***"
        elif isinstance(value, str) and "://" in value:
            event[name] = _PASSWORD_IN_ADDRESS.sub(r"\1***@", value)
    return event


def configure_logging(settings: Settings) -> None:
    """Send structlog and the standard library's loggers (Celery, uvicorn, boto3) to stderr in one form."""
    as_json = settings.logs.format == "json" or (settings.logs.format == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if as_json:
        shared.append(structlog.processors.format_exc_info)
    shared.append(hide_secrets)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        # Plain tracebacks: rich ones print local variables, and those may hold a secret or a customer's prompt.
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.logs.level.upper())
    # Libraries speak up when something is wrong; their chatter is not ours.
    # (Celery's own lines about each task carry its arguments, which are customers' prompts; ours carry ids.)
    for name in (
        "celery.worker.strategy",
        "celery.app.trace",
        "botocore",
        "boto3",
        "urllib3",
        "s3transfer",
        "modal",
        "hpack",
        "httpx",
        "kombu",
        "amqp",
        "python_multipart",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def bound(**context: object) -> Iterator[None]:
    """Every log line inside the block carries this context (`job_id`, `attempt`, ...)."""
    with structlog.contextvars.bound_contextvars(**context):
        yield
