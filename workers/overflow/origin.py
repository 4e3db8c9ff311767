"""Whose exception it is: a call's own result, or that of asking for it.

The SDK raises both out of the same `get`, by the same types: a `ServiceError`, an `OSError` or an `AuthError` may mean
that Modal is away, or that the remote function raised one. The first says nothing about the call; the second is its
end. So the SDK's two functions that turn an answer into an exception mark what leaves them: the one that reads a
result, and the one that fetches a large one before it is read. Both are private; `modal` is pinned exactly, and a test
says so by name if they should move. The exceptions stay what they are, for others in this process who use the SDK.
"""

import asyncio
from enum import Enum, auto
from typing import Any

from modal import _functions
from modal._utils import function_utils
from modal.exception import RemoteError


class Origin(Enum):
    """Where an exception of the SDK came from."""

    #: Asking: nothing is known about the call.
    ASKING = auto()
    #: The call has ended, and its result could not be fetched.
    FETCHING = auto()
    #: The call has ended so: it is what its result says.
    RESULT = auto()


_MARK = "_overspill_origin"


def origin_of(error: BaseException) -> Origin:
    """Where an exception came from, as far as it was marked."""
    found = vars(error).get(_MARK)
    return found if isinstance(found, Origin) else Origin.ASKING


def mark_origins() -> None:
    """From here on, what the SDK in this process raises for a result is marked. A second time changes nothing."""
    sdk: Any = _functions
    utils: Any = function_utils
    read, fetch = sdk._process_result, utils.blob_download
    if hasattr(read, _MARK):
        return

    async def marked_fetch(*args: Any, **named: Any) -> bytes:
        try:
            return bytes(await fetch(*args, **named))
        except BaseException as error:
            vars(error)[_MARK] = Origin.FETCHING
            raise

    async def marked_read(*args: Any, **named: Any) -> Any:
        try:
            return await read(*args, **named)
        except BaseException as error:
            if origin_of(error) is Origin.FETCHING:
                raise
            # (One that a method raised would look as if somebody had cancelled the asking, and would lose its mark.)
            raised = RemoteError("the method was cancelled") if isinstance(error, asyncio.CancelledError) else error
            vars(raised)[_MARK] = Origin.RESULT
            raise raised from raised.__cause__

    setattr(marked_read, _MARK, True)
    sdk._process_result, utils.blob_download = marked_read, marked_fetch
