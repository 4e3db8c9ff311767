"""Inputs that wait for calls of their own, with a container in their hands.

When such parents hold every place, their children have none, and nothing would ever move. Modal, which has no cap for
all containers, would start more. So a container whose every input waits for a call of its own has its place lent out,
to pools in which such a call waits.
"""

from collections.abc import Iterable
from itertools import islice

from modal_local.callbook import CallBook
from modal_local.records import ContainerRecord, InputRecord, InputState
from modal_local.scheduler.pool import Pool

# How far into a queue is looked for a child; a look must cost the same with fifty thousand inputs.
_LOOKED_AT = 64


class Parents:
    """Knows who waits for whom.

    Args:
        book: calls and inputs.
    """

    def __init__(self, book: CallBook) -> None:
        self._book = book

    def await_one_of(self, pool: Pool) -> bool:
        """Whether an input that runs waits for one of the next inputs of a pool."""
        return any(self._has_running_parent(record) for record in islice(pool.queue, _LOOKED_AT))

    def _has_running_parent(self, record: InputRecord) -> bool:
        parent_id = record.call.parent_input_id
        if not parent_id or record.done:
            return False
        parent = self._book.inputs.get(parent_id)
        return parent is not None and parent.state is InputState.RUNNING

    def waiting(self, containers: Iterable[ContainerRecord]) -> int:
        """How many containers have nothing in hand but inputs that wait for calls of their own."""
        return sum(1 for one in containers if one.running and all(self._waits(input_id) for input_id in one.running))

    def _waits(self, input_id: str) -> bool:
        return any(call.unfinished for call in self._book.children_of(input_id))
