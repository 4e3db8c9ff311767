"""A batch is done at once; where one item is at fault, everything else is done all the same."""

from collections.abc import Sequence

import pytest

from ledger import LedgerUnavailable
from workers.isolation import isolated_batch


@pytest.mark.parametrize("bad", [set(), {0}, {6}, {2, 3}, set(range(7))])
def test_only_the_items_at_fault_are_left_out(bad: set[int]) -> None:
    # Given work that raises for a whole batch when it meets a bad item
    failed: list[int] = []

    def work(batch: Sequence[int]) -> list[int]:
        if bad & set(batch):
            raise ValueError("bad item")
        return list(batch)

    # When a batch is done
    answers = isolated_batch(list(range(7)), work, lambda item, _: failed.append(item))
    # Then all others were done, in order, and each bad one was told
    assert [item for answer in answers for item in answer] == [item for item in range(7) if item not in bad]
    assert failed == sorted(bad)


def test_an_absent_ledger_is_no_items_fault() -> None:
    # Given a ledger that is away
    asked: list[int] = []

    def work(batch: Sequence[int]) -> None:
        asked.append(len(batch))
        raise LedgerUnavailable("redis", "away")

    # When a batch is done / then it is asked once, and the caller is told
    with pytest.raises(LedgerUnavailable):
        isolated_batch([1, 2, 3, 4], work, lambda *_: None)
    assert asked == [4]
    assert isolated_batch([], work, lambda *_: None) == []
