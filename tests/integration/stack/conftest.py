"""One stack for the tests of this folder that only look at it."""

from collections.abc import Iterator

import pytest

from overspill.dev.stack import Stack
from tests.support.stack import running_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with one slot and Flower."""
    with running_stack(tmp_path_factory.mktemp("stack"), flower=True) as running:
        yield running
