"""The durable lists of objects to be deleted: nothing is dropped before its store has confirmed it."""

import pytest

from ledger import Ledger
from ledger.deletions import (
    LONGEST_PAUSE_S,
    DeleteFolder,
    DeleteJobFiles,
    DeleteObject,
    Result,
    Store,
    parse_deletion,
)
from tests.support.ledgers import move_clock

FOLDER = DeleteFolder("b", "render/video_1/")
OTHER = DeleteFolder("b", "render/video_2/")


@pytest.mark.parametrize(
    "deletion", [DeleteObject("b", "a key/with spaces in it"), FOLDER, DeleteJobFiles("ftjob_1")], ids=str
)
def test_an_entry_is_read_as_it_was_written(deletion: object) -> None:
    assert parse_deletion(str(deletion)) == deletion


@pytest.mark.parametrize("text", ["", "object", "object b", "folder b render/x", "folder b ", "job ", "rm -rf /"])
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected `object BUCKET KEY`"):
        parse_deletion(text)


def test_an_entry_stays_until_it_is_confirmed_whoever_dies(ledger: Ledger) -> None:
    ledger.deletions.add(Store.S3, [FOLDER, OTHER])
    # When a worker claims both, confirms one and dies
    claim = ledger.deletions.claim(Store.S3, limit=10, lease_s=30)
    assert set(claim.entries) == {str(FOLDER), str(OTHER)}
    assert ledger.deletions.claim(Store.S3, limit=10, lease_s=30).entries == []
    ledger.deletions.end(claim, [str(FOLDER)], Result.DELETED)
    # Then the other is claimed again after its lease
    move_clock(ledger, 31)
    assert ledger.deletions.claim(Store.S3, limit=10, lease_s=30).entries == [str(OTHER)]
    assert ledger.deletions.pending(Store.S3) == 1
    # And the first worker, should it have been slow only, changes nothing about it any more
    ledger.deletions.end(claim, [str(OTHER)], Result.DELETED)
    assert ledger.deletions.pending(Store.S3) == 1


def test_an_entry_that_is_noted_again_while_it_is_worked_on_is_done_again(ledger: Ledger) -> None:
    ledger.deletions.add(Store.S3, [FOLDER])
    claim = ledger.deletions.claim(Store.S3, limit=10, lease_s=30)
    ledger.deletions.add(Store.S3, [FOLDER])
    ledger.deletions.end(claim, claim.entries, Result.DELETED)
    assert ledger.deletions.claim(Store.S3, limit=10, lease_s=30).entries == [str(FOLDER)]


def test_one_that_fails_comes_again_later_and_later_and_is_counted(ledger: Ledger) -> None:
    ledger.deletions.add(Store.VOLUME, [DeleteJobFiles("ftjob_1")])
    pauses = []
    for _ in range(14):
        claim = ledger.deletions.claim(Store.VOLUME, limit=10, lease_s=30)
        assert len(claim.entries) == 1
        ledger.deletions.end(claim, claim.entries, Result.FAILED)
        due_ms = ledger.client.zscore(f"{ledger.prefix}:deletions:volume", "job ftjob_1")
        pauses.append(round((float(due_ms or 0) - ledger.placement.view().now_ms) / 1000))
        move_clock(ledger, pauses[-1] + 1)
    assert pauses[:3] == [5, 10, 20]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert ledger.counters()["deletions_total|outcome=failed|store=volume"] == 14
    # And after a success nothing of it is left
    claim = ledger.deletions.claim(Store.VOLUME, limit=10, lease_s=30)
    ledger.deletions.end(claim, claim.entries, Result.DELETED)
    assert not ledger.client.exists(f"{ledger.prefix}:deletions:volume", f"{ledger.prefix}:deletions:volume:failed")
