"""What flows while an input runs: a generator's items and a web app's answers out, a request's body in."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from modal_local.callbook import CallBook
from modal_local.errors import NotFoundError
from modal_local.records import CallRecord
from modal_local.rpc import Caller


class StreamService:
    """Serves FunctionCallGetDataIn, FunctionCallGetDataOut and FunctionCallPutDataOut."""

    def __init__(self, book: CallBook) -> None:
        self._book = book

    async def FunctionCallGetDataIn(
        self, request: api_pb2.FunctionCallGetDataRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.DataChunk]:
        """The messages of a request to a web function; open until the container has enough."""
        call = self._call(request)
        position = request.last_index
        while True:
            while position < len(call.data_in):
                position += 1
                yield call.data_in[position - 1]
            await call.changed(None)

    async def FunctionCallGetDataOut(
        self, request: api_pb2.FunctionCallGetDataRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.DataChunk]:
        """What a generator yields."""
        call = self._call(request)
        position = request.last_index
        while True:
            chunks = call.data_out.get("out", [])
            while position < len(chunks):
                position += 1
                yield chunks[position - 1]
            await call.changed(None)

    async def FunctionCallPutDataOut(self, request: api_pb2.FunctionCallPutDataRequest, caller: Caller) -> Empty:
        """A container yields; a retried generator's chunks replace nothing that was read already."""
        call = self._call(request)
        chunks = call.data_out.setdefault("out", [])
        for chunk in request.data_chunks:
            if chunk.index > len(chunks):
                chunks.append(chunk)
        call.wake()
        return Empty()

    def _call(self, request: api_pb2.FunctionCallGetDataRequest | api_pb2.FunctionCallPutDataRequest) -> CallRecord:
        if request.function_call_id:
            return self._book.call(request.function_call_id)
        record = self._book.inputs.get(request.attempt_token)
        if record is None:
            raise NotFoundError(f"Attempt {request.attempt_token!r} not found.")
        return record.call
