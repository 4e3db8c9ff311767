"""One stack for the tests of this folder that only look at it."""

from collections.abc import Iterator

import pytest

from overspill.dev.stack import Stack
from tests.support.otlp_receiver import OtlpReceiver, otlp_receiver
from tests.support.stack import running_stack


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpReceiver]:
    """Takes the traces of `stack`."""
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, collector: OtlpReceiver) -> Iterator[Stack]:
    """A stack with one slot and Flower, that tells its traces to `collector`."""
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    with running_stack(tmp_path_factory.mktemp("stack"), flower=True, settings=settings) as running:
        yield running
