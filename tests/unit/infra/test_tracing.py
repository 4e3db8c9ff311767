"""Traces: off unless asked for, one per job, connected whoever makes the spans."""

import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from infra import tracing
from infra.tracing import ENDPOINT_VARIABLE, Off, OpenTelemetry, inside, of_job, valid

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def kept() -> Iterator[tuple[OpenTelemetry, InMemorySpanExporter]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    on = OpenTelemetry(provider)
    yield on, exporter
    on.close()


def parent_of(span: ReadableSpan) -> str:
    return f"{span.parent.span_id:016x}" if span.parent else ""


def test_they_are_off_unless_a_collector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # given no collector / then nothing is made, and nothing breaks
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
    off = tracing.tracing()
    assert isinstance(off, Off)
    with off.span("x", job_id="j") as span:
        span.note(more=1)
        assert span.traceparent is None
    assert off.past("x", began_at=1, ended_at=2) is None
    off.close()


def test_without_the_packages_they_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a collector, and no OpenTelemetry installed / then they are off
    monkeypatch.setenv(ENDPOINT_VARIABLE, "http://127.0.0.1:1")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    tracing._of_process.cache_clear()
    try:
        assert isinstance(tracing.tracing(), Off)
    finally:
        tracing._of_process.cache_clear()


def test_what_is_begun_inside_is_a_child(kept: tuple[OpenTelemetry, InMemorySpanExporter]) -> None:
    # given a span that continues a caller's trace, one inside it, and one of the past
    on, exporter = kept
    with on.span("outer", parent=CALLER, job_id="j", none=None) as outer:
        with on.span("inner"):
            pass
        on.past("over", began_at=100.0, ended_at=101.5)
        assert outer.traceparent is not None
    # then all are of the caller's trace, each with its parent, and the past one has its times
    inner, over, first = exporter.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in (inner, over, first)} == {CALLER.split("-")[1]}
    assert parent_of(first) == CALLER.split("-")[2]
    assert parent_of(inner) == parent_of(over) == f"{first.context.span_id:016x}"
    assert (over.start_time, over.end_time) == (100_000_000_000, 101_500_000_000)
    assert dict(first.attributes or {}) == {"overspill.job_id": "j"}
    # and afterwards there is no parent any more
    with on.span("alone"):
        pass
    assert exporter.get_finished_spans()[-1].parent is None


def test_what_a_block_raises_is_noted_and_passes(kept: tuple[OpenTelemetry, InMemorySpanExporter]) -> None:
    # given a block that raises / then its type is in the span, and what it said is not
    on, exporter = kept
    with pytest.raises(ValueError, match="the-prompt"), on.span("x"):
        raise ValueError("the-prompt")
    [span] = exporter.get_finished_spans()
    assert dict(span.attributes or {}) == {"error.type": "ValueError"}
    assert not span.events


def test_a_job_without_a_trace_has_one_that_everybody_finds() -> None:
    # given a job that came without a trace / then two processes make the same context, and another job has another
    assert of_job("video_1", None) == of_job("video_1", "garbage") != of_job("video_2", None)
    assert valid(of_job("video_1", None))
    assert of_job("video_1", CALLER) == CALLER
    for wrong in (None, "", CALLER[:-1], CALLER.upper(), "00-" + "0" * 32 + CALLER[35:], CALLER + "-x"):
        assert not valid(wrong)


def test_another_thread_is_not_inside() -> None:
    # given a block / when another thread looks / then it is not in it
    seen: list[str | None] = []
    with inside(CALLER):
        thread = threading.Thread(target=lambda: seen.append(tracing._here.get()))
        thread.start()
        thread.join(10)
        assert tracing._here.get() == CALLER
    assert seen == [None]
