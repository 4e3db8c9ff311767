"""What a run tells, as a line for people."""

from __future__ import annotations

from engines.train.contract import TrainEvent


def event_line(event: TrainEvent) -> str:
    """One event as one line."""
    facts = [f"step {event.step}/{event.steps}", event.kind.value]
    numbers = (
        ("loss", event.loss, ".4f"),
        ("examples/s", event.examples_per_s, ".0f"),
        ("rate", event.learning_rate, ".2e"),
    )
    facts += [f"{name} {number:{shape}}" for name, number, shape in numbers if number is not None]
    facts += [f"{name} {number:.4f}" for name, number in event.metrics.items()]
    return "  ".join(facts + [text for text in (event.path, event.message) if text])
