"""From what a call told of itself to the containers that it is charged for."""

from modal_apps.announce import Announcement, ContainerStart, parse_entry
from modal_apps.envelope import Envelope, Timings, parse
from workers.overflow.usage import Observation, of_announcement, of_envelope


def test_an_answer_charges_those_that_died_before_and_the_one_that_answered() -> None:
    envelope = Envelope(
        Timings(200.0, 201.0, 215.0), "ta-2", cold_start=True, peak_memory_bytes=1, value={}, earlier=(("ta-1", 190.0),)
    )
    usage = of_envelope(
        parse(envelope.to_wire()), observed=Observation(185.0, 216.0), usd_nanos_per_s=1_140_960, idle_window_s=60
    )
    assert [(use.container_id, use.started_ms, use.finished_ms, use.gone) for use in usage.containers] == [
        ("ta-1", 190_000, 200_000, True),
        ("ta-2", 200_000, 215_000, False),
    ]
    assert usage.usd_nanos_per_s == 1_140_960


def test_a_call_without_an_answer_is_charged_by_its_announcement_or_not_at_all() -> None:
    announced = Announcement("video_1", 1, "fc-1", 101.0, (ContainerStart("ta-1", 100.0),))
    usage = of_announcement(announced, observed=Observation(99.0, 130.0), usd_nanos_per_s=1_140_960, idle_window_s=60)
    assert [(use.finished_ms - use.started_ms, use.gone) for use in usage.containers] == [(30_000, True)]
    assert (
        of_announcement(None, observed=Observation(99.0, 130.0), usd_nanos_per_s=1_140_960, idle_window_s=60).containers
        == []
    )


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


def test_a_container_whose_clock_is_an_hour_off_is_charged_its_own_seconds() -> None:
    # Given a call of 10 s in a container that began 5 s before, spawned at 1000 and noticed at 1016 by the ledger
    seen = Observation(1000.0, 1016.0)
    for clock_s in (0.0, 3600.0, -3600.0):
        timings = Timings(1000 + clock_s, 1005 + clock_s, 1015 + clock_s, ran_s=10, container_age_s=15)
        envelope = Envelope(timings, "ta-1", cold_start=True, peak_memory_bytes=1, value={})
        usage = of_envelope(parse(envelope.to_wire()), observed=seen, usd_nanos_per_s=1, idle_window_s=60)
        (use,) = usage.containers
        # Then it pays 15 s, within what the ledger saw
        assert use.finished_ms - use.started_ms == 15_000, clock_s
        assert use.finished_ms <= 1_016_000
        assert use.call_started_ms is not None
        assert use.call_started_ms >= 999_000
        assert use.finished_ms - use.call_started_ms == 10_000


def test_a_clock_that_is_set_while_the_method_runs_changes_nothing() -> None:
    timings = Timings(1000, 1005, 4615, ran_s=10, container_age_s=15)
    envelope = Envelope(timings, "ta-1", cold_start=True, peak_memory_bytes=1, value={})
    usage = of_envelope(envelope, observed=Observation(1000.0, 1016.0), usd_nanos_per_s=1, idle_window_s=60)
    assert [use.finished_ms - use.started_ms for use in usage.containers] == [15_000]


def test_a_method_that_claims_to_have_run_for_ages_began_no_earlier_than_its_container_can_have() -> None:
    timings = Timings(1000, 1005, 1015, ran_s=1e300, container_age_s=15)
    envelope = Envelope(timings, "ta-1", cold_start=True, peak_memory_bytes=1, value={})
    usage = of_envelope(envelope, observed=Observation(1000.0, 1016.0), usd_nanos_per_s=1, idle_window_s=60)
    assert usage.containers[-1].call_started_ms == 820_000


def test_a_call_that_never_answered_is_charged_within_what_was_seen_whatever_its_clock_says() -> None:
    for clock_s in (0.0, 3600.0, -3600.0):
        announced = Announcement("video_1", 1, "fc-1", 1003 + clock_s, (ContainerStart("ta-1", 1001 + clock_s),))
        usage = of_announcement(announced, observed=Observation(1000.0, 1030.0), usd_nanos_per_s=1, idle_window_s=60)
        (use,) = usage.containers
        assert use.finished_ms == 1_030_000
        assert 0 <= use.finished_ms - use.started_ms <= 32_000, clock_s
