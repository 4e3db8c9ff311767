"""Values too large for a message, which the SDK sends and fetches as blobs, through the public SDK."""

import random

import pytest

from .conftest import Target

pytestmark = pytest.mark.modal_conformance

# What `spawn` sends in the message itself: 8 KiB with its envelope (`blob_utils.py: MAX_ASYNC_OBJECT_SIZE_BYTES`).
INLINE_BYTES = 8 * 1024


@pytest.mark.parametrize("size_bytes", [INLINE_BYTES // 2, INLINE_BYTES + 1, 3 * 1024**2, 20 * 1024**2])
def test_large_arguments_and_results_of_a_spawn(target: Target, size_bytes: int) -> None:
    measured = target.function("measure").spawn(random.Random(size_bytes).randbytes(size_bytes))
    made = target.function("big").spawn(size_bytes)
    assert measured.get(timeout=60) == size_bytes
    assert made.get(timeout=60) == b"x" * size_bytes


def test_large_arguments_and_results_of_a_remote_call(target: Target) -> None:
    # given more than the 2 MiB that a call that waits sends in its message
    assert target.function("measure").remote(b"y" * (3 * 1024**2)) == 3 * 1024**2
    assert target.function("big").remote(3 * 1024**2) == b"x" * (3 * 1024**2)


def test_the_result_can_be_fetched_again(target: Target) -> None:
    call = target.function("big").spawn(64 * 1024)
    assert call.get(timeout=60) == target.call(call.object_id).get(timeout=60) == b"x" * (64 * 1024)
