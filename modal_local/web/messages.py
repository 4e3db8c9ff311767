"""What goes between a web server and an app (ASGI), in the form that containers read and write. Pure."""

import pickle
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from modal_proto import api_pb2

Headers = Iterable[tuple[bytes, bytes]]
_ASGI = api_pb2.DATA_FORMAT_ASGI
# As the SDK's own limit of what goes in a message; longer bodies come in pieces.
PIECE_BYTES = 1024 * 1024


class BadRequestError(ValueError):
    """A request that cannot be put to its function; the sentence says why."""


def scope_input(scope: dict[str, Any], method_name: str) -> api_pb2.FunctionInput:
    """The input by which a container is told of a request: its scope is the app's only argument."""
    return api_pb2.FunctionInput(
        args=pickle.dumps(((scope,), {}), protocol=4),
        data_format=api_pb2.DATA_FORMAT_PICKLE,
        method_name=method_name,
        final_input=True,
    )


def scope(
    kind: str, method: str, target: str, headers: Headers, client: tuple[str, int], subprotocols: Iterable[str] = ()
) -> dict[str, Any]:
    """The scope of a request, as ASGI names things.

    Args:
        kind: `http` or `websocket`.
        method: GET and the like.
        target: path and query as they came, percent-encoded.
        headers: as they came.
        client: address and port of who asks.
        subprotocols: of a WebSocket.
    """
    path, _, query = target.partition("?")
    found: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower(), value) for name, value in headers],
        "client": client,
    }
    if kind == "http":
        found["method"] = method
        found["extensions"] = {"http.response.trailers": {}}
    else:
        found["subprotocols"] = list(subprotocols)
    return found


def chunk(index: int, message: api_pb2.Asgi) -> api_pb2.DataChunk:
    """A message of a stream into a container; the first one has the index 1."""
    return api_pb2.DataChunk(data_format=_ASGI, index=index, data=message.SerializeToString())


def body_piece(body: bytes, *, more: bool) -> api_pb2.Asgi:
    """A piece of a request's body."""
    return api_pb2.Asgi(http_request=api_pb2.Asgi.HttpRequest(body=body, more_body=more))


def pairs(flat: Iterable[bytes]) -> list[tuple[str, str]]:
    """Headers, which come as one row of names and values."""
    row = [item.decode("latin-1") for item in flat]
    return list(zip(row[::2], row[1::2], strict=True))


def parameters(schema: Iterable[api_pb2.ClassParameterSpec], query: Mapping[str, str]) -> bytes:
    """The parameters of a class, from the query of a request to one of its methods, as the SDK serialises them.

    Raises:
        BadRequestError: one is missing, or is no value of its type.
    """
    values = api_pb2.ClassParameterSet()
    for spec in schema:
        if spec.name not in query and not spec.has_default:
            raise BadRequestError(f"missing query parameter {spec.name!r}, a parameter of the class")
        kind = (spec.full_type.base_type if spec.HasField("full_type") else 0) or spec.type
        value = values.parameters.add(name=spec.name, type=kind)
        given = query.get(spec.name)
        try:
            _set_parameter(value, spec, given)
        except ValueError as error:
            raise BadRequestError(f"query parameter {spec.name!r}: {error}") from None
    serialized: bytes = values.SerializeToString(deterministic=True)
    return serialized


def _set_parameter(value: api_pb2.ClassParameterValue, spec: api_pb2.ClassParameterSpec, given: str | None) -> None:
    match value.type:
        case api_pb2.PARAM_TYPE_STRING:
            value.string_value = spec.string_default if given is None else given
        case api_pb2.PARAM_TYPE_INT:
            value.int_value = spec.int_default if given is None else int(given)
        case api_pb2.PARAM_TYPE_BOOL:
            if given is not None and given.lower() not in {"true", "false", "1", "0"}:
                raise ValueError(f"expected true or false, got {given!r}")
            value.bool_value = spec.bool_default if given is None else given.lower() in {"true", "1"}
        case api_pb2.PARAM_TYPE_BYTES:
            value.bytes_value = spec.bytes_default if given is None else given.encode()
        case other:
            raise ValueError(f"a parameter of type {api_pb2.ParameterType.Name(other)} cannot be in a query")
