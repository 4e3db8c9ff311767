"""Which containers only wait for calls of their own, and which pools they wait for."""

from pathlib import Path

from modal_proto import api_pb2

from modal_local.callbook import CallBook
from modal_local.context import Context
from modal_local.records import CallRecord, ContainerRecord, InputRecord, InputState, PoolSettings
from modal_local.scheduler.parents import Parents
from modal_local.scheduler.pool import Pool
from modal_local.settings import Settings
from modal_local.store import Store


def book_in(tmp_path: Path, store: Store | None = None) -> CallBook:
    return CallBook(Context(store=store or Store(None), settings=Settings(), state_dir=tmp_path))


def call_of(book: CallBook, function_id: str, parent: str = "") -> tuple[CallRecord, InputRecord]:
    request = api_pb2.FunctionMapRequest(
        parent_input_id=parent, function_call_type=api_pb2.FUNCTION_CALL_TYPE_UNARY, pipelined_inputs=[{}]
    )
    call = book.open_call(function_id, "ap-1", request, "")
    return call, book.add_input(call, 0, api_pb2.FunctionInput())


def running(record: InputRecord) -> ContainerRecord:
    container = ContainerRecord(f"ta-{record.input_id}", "fu-1", "ap-1", "d", PoolSettings(), 0.0)
    container.running[record.input_id] = record
    record.state = InputState.RUNNING
    return container


def test_a_parent_waits_until_its_child_has_ended(tmp_path: Path) -> None:
    # given two containers, of which one has called a function of its own
    book = book_in(tmp_path)
    parents = Parents(book)
    parent, lone = call_of(book, "fu-1")[1], call_of(book, "fu-1")[1]
    containers = [running(parent), running(lone)]
    assert parents.waiting(containers) == 0
    child = call_of(book, "fu-2", parent.input_id)[1]
    pool, other = Pool("fu-2", "ap-1", PoolSettings(), "d"), Pool("fu-3", "ap-1", PoolSettings(), "d")
    pool.queue.append(child)
    other.queue.append(call_of(book, "fu-3")[1])

    # then one waits, and for the one pool
    assert parents.waiting(containers) == 1
    assert (parents.await_one_of(pool), parents.await_one_of(other)) == (True, False)

    # when the child has ended, then none does
    book.end(child, api_pb2.FunctionGetOutputsItem())
    assert parents.waiting(containers) == 0
    assert not parents.await_one_of(pool)


def test_a_restart_knows_where_an_input_ran_and_since_when(tmp_path: Path) -> None:
    # given an ended input in a store
    store = Store(tmp_path / "state.sqlite")
    book = book_in(tmp_path, store)
    call, record = call_of(book, "fu-1")
    book.end(record, api_pb2.FunctionGetOutputsItem(task_id="ta-7", input_started_at=12.5, output_created_at=14.0))
    store.close()

    # when the book is opened again
    again = Store(tmp_path / "state.sqlite")
    [kept] = book_in(tmp_path, again).call(call.call_id).inputs.values()
    again.close()
    assert (kept.task_id, kept.started_at, kept.finished_at) == ("ta-7", 12.5, 14.0)
