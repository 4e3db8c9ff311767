"""Nudges are sent in order, one by one, and nothing about them reaches the request."""

import queue
import threading

import pytest
from structlog.testing import capture_logs

from api.outbox import Outbox
from ledger import nudges
from ledger.models import Kind
from ledger.nudges import Nudge

RENDER, TRAIN = nudges.decide(Kind.RENDER), nudges.decide(Kind.TRAIN)


class Gate:
    """A sender that sends only while it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.sent: queue.Queue[Nudge] = queue.Queue()
        self.closed = 0
        self.breaks = False

    def send(self, nudge: Nudge) -> bool:
        self.entered.set()
        assert self.open.wait(10)
        if self.breaks:
            raise RuntimeError("broken promise")
        self.sent.put(nudge)
        return True

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_nudges_are_sent_in_order_and_a_stop_sends_what_waits(gate: Gate) -> None:
    # given a broker that hangs
    outbox = Outbox(gate)
    for nudge in (RENDER, TRAIN, RENDER):
        outbox.put(nudge)
    # when it comes back, and the API stops, twice
    gate.open.set()
    outbox.stop()
    outbox.stop()
    # then
    assert [gate.sent.get_nowait() for _ in range(3)] == [RENDER, TRAIN, RENDER]
    assert gate.closed == 2


def test_beyond_the_capacity_nudges_are_dropped_with_a_line_in_the_log(gate: Gate) -> None:
    outbox = Outbox(gate, capacity=2)
    with capture_logs() as lines:
        for _ in range(3):
            outbox.put(RENDER)
    gate.open.set()
    outbox.stop()
    assert gate.sent.qsize() == 2
    assert [line["event"] for line in lines] == ["nudge.dropped"]


def test_a_stop_does_not_wait_for_ever(gate: Gate) -> None:
    # given one nudge that hangs and one behind it
    outbox = Outbox(gate)
    outbox.put(RENDER)
    outbox.put(TRAIN)
    assert gate.entered.wait(10)
    threading.Timer(0.2, gate.open.set).start()
    # when
    outbox.stop(drain_s=0.0)
    # then the first was finished, the second dropped, and later ones are
    outbox.put(RENDER)
    assert gate.sent.get_nowait() == RENDER
    assert gate.sent.empty()


def test_a_sender_that_breaks_its_promise_costs_one_nudge(gate: Gate) -> None:
    gate.open.set()
    gate.breaks = True
    outbox = Outbox(gate)
    with capture_logs() as lines:
        outbox.put(RENDER)
        outbox.stop()
    assert [line["event"] for line in lines] == ["nudge.failed"]
