"""The results that faults put in the place of an input's own. Pure."""

import re
from typing import Final

from modal_proto import api_pb2

_FAILURE: Final = api_pb2.GenericResult.GENERIC_STATUS_FAILURE
_STATUSES: Final = {
    name.removeprefix("GENERIC_STATUS_"): value for name, value in api_pb2.GenericResult.GenericStatus.items()
}
#: How an input can end otherwise than well.
RESULT_STATUSES: Final = tuple(sorted(name for name in _STATUSES if name not in {"SUCCESS", "UNSPECIFIED"}))
_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# Exceptions of the SDK that want more than a message.
_FURTHER_ARGUMENTS: Final = {"ImageBuildError": ("im-injected",)}


def is_exception_name(name: str) -> bool:
    """Whether something can be the name of an exception: of `modal.exception`, or with its module before it."""
    return _NAME.fullmatch(name) is not None


def injected_result(status: str, exception: str, message: str) -> api_pb2.GenericResult:
    """A result that a container did not send.

    Args:
        status: one of RESULT_STATUSES; empty for FAILURE.
        exception: what the client shall raise, by name; empty for what the SDK makes of the status alone.
        message: its text.
    """
    result = api_pb2.GenericResult(exception=message)
    result.status = _STATUSES[status] if status else _FAILURE
    if exception:
        module, _, name = exception.rpartition(".")
        result.data = _pickled(module or "modal.exception", name, (message, *_FURTHER_ARGUMENTS.get(name, ())))
        result.exception = f"{name}({message!r})"
    return result


def _pickled(module: str, name: str, arguments: tuple[str, ...]) -> bytes:
    """A pickle of an exception that need not be importable here: the call of its class with texts (protocol 0)."""
    texts = b"".join(b"V" + text.encode("raw_unicode_escape").replace(b"\n", b"\\u000a") + b"\n" for text in arguments)
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n(" + texts + b"tR."
