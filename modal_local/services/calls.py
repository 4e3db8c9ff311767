"""Calls: taken in, waited for, read, cancelled, drawn as a graph."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import asyncio

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from modal_local.callbook import CallBook
from modal_local.context import Context
from modal_local.errors import InvalidArgumentError, NotFoundError
from modal_local.records import CallRecord, InputRecord
from modal_local.registry import Registry
from modal_local.rpc import Caller
from modal_local.scheduler.engine import Scheduler

_SUCCESS = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
_GRAPH_LIMIT = 5_000
# What a map's client may have outstanding; Modal's own figure for `.map()`.
_MAX_INPUTS_OUTSTANDING = 1_000


class CallService:
    """Serves FunctionMap and what follows it."""

    def __init__(self, context: Context, registry: Registry, book: CallBook, scheduler: Scheduler) -> None:
        self._context = context
        self._registry = registry
        self._book = book
        self._scheduler = scheduler

    # In.

    async def FunctionMap(self, request: api_pb2.FunctionMapRequest, caller: Caller) -> api_pb2.FunctionMapResponse:
        """Opens a call, and takes its inputs if they came with it."""
        self._scheduler.dispatcher.check_open(request.function_id)
        function = self._registry.function(request.function_id)
        call = self._book.made_by(caller.idempotency_key)
        if call is None:
            call = self._book.open_call(request.function_id, function.app_id, request, caller.idempotency_key)
        response = api_pb2.FunctionMapResponse(
            function_call_id=call.call_id,
            function_call_jwt=call.call_id,
            max_inputs_outstanding=_MAX_INPUTS_OUTSTANDING,
        )
        retry_policy = self._registry.definition(function).retry_policy
        if retry_policy.retries:
            response.retry_policy.CopyFrom(retry_policy)
        for item in request.pipelined_inputs:
            record = self._accept(call, item)
            response.pipelined_inputs.add(idx=item.idx, input_id=record.input_id, input_jwt=record.input_id)
        return response

    def _accept(self, call: CallRecord, item: api_pb2.FunctionPutInputsItem) -> InputRecord:
        known = item.idx in call.inputs
        payload = api_pb2.FunctionInput()
        payload.CopyFrom(item.input)
        record = self._book.add_input(call, item.idx, payload)
        if not known:
            self._scheduler.dispatcher.submit(record)
        return record

    async def FunctionPutInputs(
        self, request: api_pb2.FunctionPutInputsRequest, caller: Caller
    ) -> api_pb2.FunctionPutInputsResponse:
        """Takes more inputs of a call."""
        call = self._book.call(request.function_call_id)
        if call.cancelled:
            raise NotFoundError(f"Function call {call.call_id} is cancelled.")
        self._scheduler.dispatcher.check_open(call.function_id)
        response = api_pb2.FunctionPutInputsResponse()
        for item in request.inputs:
            record = self._accept(call, item)
            response.inputs.add(idx=item.idx, input_id=record.input_id, input_jwt=record.input_id)
        return response

    async def FunctionFinishInputs(self, request: api_pb2.FunctionFinishInputsRequest, caller: Caller) -> Empty:
        """The client has sent all inputs."""
        self._book.close_call(self._book.call(request.function_call_id), request.num_inputs)
        return Empty()

    async def FunctionRetryInputs(
        self, request: api_pb2.FunctionRetryInputsRequest, caller: Caller
    ) -> api_pb2.FunctionRetryInputsResponse:
        """Not how retries work here: the server does them, and tells the client so."""
        raise InvalidArgumentError("Retries are the server's part here; sync_client_retries_enabled is never set.")

    # Out.

    async def FunctionGetOutputs(
        self, request: api_pb2.FunctionGetOutputsRequest, caller: Caller
    ) -> api_pb2.FunctionGetOutputsResponse:
        """Results, at once or as soon as there is one."""
        call = self._book.call(request.function_call_id)
        deadline = asyncio.get_running_loop().time() + request.timeout
        while True:
            response = _read(call, request)
            left = deadline - asyncio.get_running_loop().time()
            if response.outputs or left <= 0 or (not call.unfinished and _complete(call)):
                return response
            await call.changed(left)

    # About.

    async def FunctionCallFromId(
        self, request: api_pb2.FunctionCallFromIdRequest, caller: Caller
    ) -> api_pb2.FunctionCallFromIdResponse:
        """How many inputs a call has."""
        call = self._book.call(request.function_call_id)
        return api_pb2.FunctionCallFromIdResponse(
            function_call_id=call.call_id,
            num_inputs=call.total if call.total is not None else len(call.inputs),
            metadata=api_pb2.FunctionCallHandleMetadata(app_id=call.app_id, function_id=call.function_id),
        )

    async def FunctionCallCancel(self, request: api_pb2.FunctionCallCancelRequest, caller: Caller) -> Empty:
        """Ends a call and those that were made from it; of a function id, all that is unfinished."""
        dispatcher = self._scheduler.dispatcher
        if request.terminate_containers and not self._context.settings.terminate_containers:
            raise InvalidArgumentError("FunctionCallCancel request: terminate_containers must be false.")
        if request.function_call_id:
            calls = [self._book.call(request.function_call_id)]
        else:
            self._registry.function(request.function_id)
            found = {r.call.call_id: r.call for r in self._book.unfinished()}
            calls = [call for call in found.values() if call.function_id == request.function_id]
        for call in calls:
            dispatcher.cancel_call(call, terminate_containers=request.terminate_containers)
        return Empty()

    async def FunctionGetCallGraph(
        self, request: api_pb2.FunctionGetCallGraphRequest, caller: Caller
    ) -> api_pb2.FunctionGetCallGraphResponse:
        """The tree of calls to which a call belongs, from its root."""
        call = self._book.call(request.function_call_id)
        while call.parent_input_id and call.parent_input_id in self._book.inputs:
            call = self._book.inputs[call.parent_input_id].call
        response = api_pb2.FunctionGetCallGraphResponse()
        open_calls = [call]
        while open_calls:
            current = open_calls.pop(0)
            self._draw(current, response)
            for record in current.inputs.values():
                open_calls.extend(self._book.children_of(record.input_id))
            if len(response.inputs) > _GRAPH_LIMIT:
                response.truncated = True
                break
        return response

    def _draw(self, call: CallRecord, response: api_pb2.FunctionGetCallGraphResponse) -> None:
        definition = None
        function = self._registry.functions.get(call.function_id)
        if function is not None:
            definition = self._registry.definition(function)
        first = call.inputs.get(0)
        method = first.payload.method_name if first is not None else ""
        name = definition.function_name if definition else ""
        response.function_calls.add(
            function_call_id=call.call_id,
            parent_input_id=call.parent_input_id,
            function_name=f"{name.removesuffix('*')}{method}" if method else name,
            module_name=definition.module_name if definition else "",
        )
        for record in call.inputs.values():
            response.inputs.add(
                input_id=record.input_id,
                function_call_id=call.call_id,
                task_id=record.task_id,
                status=record.output.result.status if record.output else 0,
            )


def _complete(call: CallRecord) -> bool:
    return call.total is not None and len(call.inputs) >= call.total


def _read(call: CallRecord, request: api_pb2.FunctionGetOutputsRequest) -> api_pb2.FunctionGetOutputsResponse:
    response = api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=call.unfinished)
    if request.HasField("start_idx"):
        last = request.end_idx if request.HasField("end_idx") else request.start_idx
        for index in range(request.start_idx, last + 1):
            record = call.inputs.get(index)
            if record is not None and record.output is not None:
                response.outputs.append(record.output)
    else:
        position = int(request.last_entry_id.partition("-")[0] or 0)
        fresh = call.order[position:]
        if request.max_values:
            fresh = fresh[: request.max_values]
        response.outputs.extend(record.output for record in fresh if record.output is not None)
        response.last_entry_id = f"{position + len(fresh)}-0"
    response.idxs.extend(output.idx for output in response.outputs)
    if not call.unfinished and not _complete(call) and not response.outputs:
        # More inputs are on their way: this call is not over, and the client must not take it for expired.
        response.num_unfinished_inputs = 1
    return response
