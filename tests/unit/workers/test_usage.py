"""From what a call told of itself to the containers that it is charged for."""

from modal_apps.announce import Announcement, ContainerStart, parse_entry
from modal_apps.envelope import Envelope, Timings, parse
from workers.overflow.usage import Seen, of_announcement, of_envelope


def test_an_answer_charges_those_that_died_before_and_the_one_that_answered() -> None:
    envelope = Envelope(
        Timings(200.0, 201.0, 215.0), "ta-2", cold_start=True, peak_memory_bytes=1, value={}, earlier=(("ta-1", 190.0),)
    )
    usage = of_envelope(parse(envelope.to_wire()), seen=Seen(185.0, 216.0), gpu="H100", idle_window_s=60)
    assert [(use.container_id, use.started_ms, use.finished_ms, use.gone) for use in usage.containers] == [
        ("ta-1", 190_000, 200_000, True),
        ("ta-2", 200_000, 215_000, False),
    ]
    assert usage.usd_nanos_per_s == 1_140_960


def test_a_call_without_an_answer_is_charged_by_its_announcement_or_not_at_all() -> None:
    announced = Announcement("video_1", 1, "fc-1", 101.0, (ContainerStart("ta-1", 100.0),))
    usage = of_announcement(announced, seen=Seen(99.0, 130.0), gpu="H100", idle_window_s=60)
    assert [(use.finished_ms - use.started_ms, use.gone) for use in usage.containers] == [(30_000, True)]
    assert of_announcement(None, seen=Seen(99.0, 130.0), gpu="H100", idle_window_s=60).containers == []


def test_an_envelope_of_a_container_from_before_is_read_too() -> None:
    wire = Envelope(Timings(1, 2, 3), "ta-1", cold_start=True, peak_memory_bytes=1, value={}).to_wire()
    del wire["earlier"]
    assert parse(wire).earlier == ()


def test_what_somebody_else_wrote_into_the_book_is_passed_over() -> None:
    good = {"call_id": "fc"}
    for key, entry in (("x", {}), ("video_1:1", None), ("video_1:1", {"call_id": 7}), (5, good), ("video_1:one", good)):
        assert parse_entry(key, entry) is None
    assert parse_entry("video_1:1", {**good, "containers": [("a", "soon")]}) is None
    assert parse_entry("video_1:1", good) is not None
