"""Fields into a job: what may be asked for, and an honest no that names the field.

Of the Videos API: `prompt`, `model`, `seconds`, `size`. Ours on top: `fps`, `seed`, `priority`, `deadline_s`, `burst`.
A tenant in the body changes nothing: the key says whose job it is.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from api.errors import BadRequest, from_validation, printable
from api.forms import Upload
from ledger.models import IDEMPOTENCY_KEY_MAX_CHARS, RenderJob

#: The fields that a request may fill. `tenant` is the key's and `kind` the path's.
ACCEPTED = frozenset(RenderJob.model_fields) - {"tenant", "kind"}
#: Fields of the Videos API that would change the video, and that no engine here honours.
NOT_TAKEN = frozenset({"input_reference"})


def render_job(fields: Mapping[str, Any], *, tenant: str, refuse_unknown: bool) -> RenderJob:
    """The job that was asked for.

    Args:
        fields: what the body held; null counts as absent.
        tenant: whose key it was.
        refuse_unknown: the strict mode: a field that we do not know is an error.

    Raises:
        BadRequest: a field is missing, unknown, not supported, or out of its bounds.
    """
    given = {name: _without_mark(value) for name, value in fields.items() if value is not None}
    for name in sorted(NOT_TAKEN & given.keys()):
        raise unsupported(name)
    unknown = sorted(given.keys() - ACCEPTED)
    if refuse_unknown and unknown:
        raise BadRequest(
            f"{printable(unknown[0])}: this field is not known here. Known are {', '.join(sorted(ACCEPTED))}.",
            code="unknown_field",
            param=unknown[0],
        )
    for name in sorted(ACCEPTED & given.keys()):
        if isinstance(given[name], Upload):
            raise BadRequest(f"{name}: expected text, got a file.", code="invalid_value", param=name)
    try:
        return RenderJob(**{name: given[name] for name in ACCEPTED & given.keys()}, tenant=tenant)
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False, include_input=False)[0]) from None


def _without_mark(value: object) -> object:
    """Text that came from a file may begin with the file's byte order mark, which is no part of it."""
    return value.removeprefix("\ufeff") if isinstance(value, str) else value


def unsupported(name: str) -> BadRequest:
    """For a field that the Videos API has and our engine does not take."""
    return BadRequest(
        f"{name}: the engine behind this service takes none. Leave it out, and describe what it shows in `prompt`.",
        code="unsupported_field",
        param=name,
    )


def idempotency_key(header: str | None) -> str | None:
    """The header's key, checked; None if there is none.

    Raises:
        BadRequest: it is empty, too long, or not printable ASCII.
    """
    if header is None:
        return None
    if not 1 <= len(header) <= IDEMPOTENCY_KEY_MAX_CHARS or not header.isascii() or not header.isprintable():
        raise BadRequest(
            f"Idempotency-Key: expected 1 to {IDEMPOTENCY_KEY_MAX_CHARS} printable ASCII characters, "
            f"got {len(header)} characters.",
            code="invalid_value",
            param="Idempotency-Key",
        )
    return header


def is_retry(header: str | None) -> bool:
    """Whether OpenAI's client says (`x-stainless-retry-count`) that it has sent this request before."""
    return header is not None and header.isascii() and header.isdecimal() and int(header[:9]) > 0
