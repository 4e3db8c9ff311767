"""The calls and inputs that were accepted, and the results that were returned. All of it survives a restart."""

import json
from collections.abc import Iterator

from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.errors import NotFoundError
from modal_local.records import CallRecord, InputRecord, InputState

RESULT_LIFETIME_S = 7 * 24 * 3600.0
_UNARY = api_pb2.FUNCTION_CALL_TYPE_UNARY
_CALLS, _INPUTS, _OUTPUTS = "calls", "inputs", "outputs"


class CallBook:
    """All calls by id, all inputs by id."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.calls: dict[str, CallRecord] = {}
        self.inputs: dict[str, InputRecord] = {}
        self._children: dict[str, list[CallRecord]] = {}
        self._by_key: dict[str, CallRecord] = {}
        self._load()

    def call(self, call_id: str) -> CallRecord:
        """The call. Raises NotFoundError."""
        found = self.calls.get(call_id)
        if found is None:
            raise NotFoundError(f"Function call {call_id!r} not found.")
        return found

    def made_by(self, idempotency_key: str) -> CallRecord | None:
        """The call that an RPC with this key has made."""
        return self._by_key.get(idempotency_key) if idempotency_key else None

    def open_call(
        self, function_id: str, app_id: str, request: api_pb2.FunctionMapRequest, idempotency_key: str
    ) -> CallRecord:
        """Takes a new call in."""
        call = CallRecord(
            call_id=self._context.ids.new("fc"),
            function_id=function_id,
            app_id=app_id,
            call_type=request.function_call_type,
            invocation=request.function_call_invocation_type,
            parent_input_id=request.parent_input_id,
            created_at=self._context.clock.now(),
            idempotency_key=idempotency_key,
            total=(len(request.pipelined_inputs) or None) if request.function_call_type == _UNARY else None,
        )
        self._keep_call(call)
        self._remember(call)
        return call

    def add_input(self, call: CallRecord, index: int, payload: api_pb2.FunctionInput) -> InputRecord:
        """Takes an input of a call in; a second one with the same index is the same input."""
        earlier = call.inputs.get(index)
        if earlier is not None:
            return earlier
        record = InputRecord(
            input_id=self._context.ids.new("in"),
            call=call,
            index=index,
            payload=payload,
            created_at=self._context.clock.now(),
        )
        call.inputs[index] = record
        call.unfinished += 1
        self.inputs[record.input_id] = record
        kept = api_pb2.FunctionGetInputsItem(
            input_id=record.input_id, input=payload, function_call_id=call.call_id, function_map_idx=index
        )
        self._context.store.put(_INPUTS, record.input_id, kept.SerializeToString())
        return record

    def close_call(self, call: CallRecord, total: int) -> None:
        """The client says how many inputs there are."""
        call.total = total
        self._keep_call(call)
        call.wake()

    def end(self, record: InputRecord, output: api_pb2.FunctionGetOutputsItem) -> None:
        """Ends an input. What has ended stays as it is."""
        if record.done:
            return
        output.idx = record.index
        output.input_id = record.input_id
        record.state = InputState.DONE
        record.output = output
        record.finished_at = self._context.clock.now()
        record.call.unfinished -= 1
        record.call.order.append(record)
        self._context.store.put(_OUTPUTS, record.input_id, output.SerializeToString())
        record.payload = api_pb2.FunctionInput(method_name=record.payload.method_name)
        record.call.wake()

    def children_of(self, input_id: str) -> list[CallRecord]:
        """The calls that were made from within an input."""
        return self._children.get(input_id, [])

    def unfinished(self) -> Iterator[InputRecord]:
        """All inputs that have not ended."""
        return (record for record in self.inputs.values() if not record.done)

    def expire(self, call: CallRecord) -> None:
        """Forgets the results of a call, as Modal does after seven days."""
        for record in call.order:
            record.expired = True
            record.output = None
            self._context.store.delete(_OUTPUTS, record.input_id)
        call.wake()

    def expire_old(self) -> None:
        """Forgets results that are older than their lifetime."""
        limit = self._context.clock.now() - RESULT_LIFETIME_S
        for call in self.calls.values():
            if call.order and not call.unfinished and call.order[-1].finished_at < limit and not call.order[0].expired:
                self.expire(call)

    def _remember(self, call: CallRecord) -> None:
        self.calls[call.call_id] = call
        if call.idempotency_key:
            self._by_key[call.idempotency_key] = call
        if call.parent_input_id:
            self._children.setdefault(call.parent_input_id, []).append(call)

    def _keep_call(self, call: CallRecord) -> None:
        value = [
            call.function_id, call.app_id, call.call_type, call.invocation, call.parent_input_id,
            call.created_at, call.total, call.idempotency_key,
        ]  # fmt: skip
        self._context.store.put(_CALLS, call.call_id, json.dumps(value).encode())

    def _load(self) -> None:
        for call_id, value in self._context.store.items(_CALLS):
            function_id, app_id, call_type, invocation, parent, created_at, total, key = json.loads(value)
            restored = CallRecord(call_id, function_id, app_id, call_type, invocation, parent, created_at, total)
            restored.idempotency_key = key
            self._remember(restored)
        outputs = dict(self._context.store.items(_OUTPUTS))
        for input_id, value in self._context.store.items(_INPUTS):
            item = api_pb2.FunctionGetInputsItem.FromString(value)
            call = self.calls.get(item.function_call_id)
            if call is not None:
                self._restore_input(call, item, outputs.get(input_id))
        for call in self.calls.values():
            call.order.sort(key=lambda record: record.finished_at)

    def _restore_input(self, call: CallRecord, item: api_pb2.FunctionGetInputsItem, output: bytes | None) -> None:
        record = InputRecord(item.input_id, call, item.function_map_idx, item.input, call.created_at)
        call.inputs[record.index] = record
        self.inputs[record.input_id] = record
        if output is None:
            call.unfinished += 1
            return
        record.state = InputState.DONE
        record.output = api_pb2.FunctionGetOutputsItem.FromString(output)
        record.task_id = record.output.task_id
        record.started_at = record.output.input_started_at
        record.finished_at = record.output.output_created_at or call.created_at
        call.order.append(record)
