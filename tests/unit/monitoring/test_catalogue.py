"""The catalogue has everything that is counted anywhere, and its names follow Prometheus's conventions."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from ledger.metrics import BOUNDS, TOGETHER, apart, as_lua, bound_text, bounds_of, bucket_of, label_text
from ledger.states import TRANSITIONS, State
from monitoring.catalogue import METRICS, Metric, Source, Type

ROOT = Path(__file__).parents[3]


def counted_in_lua() -> set[str]:
    """Names that a script counts or observes."""
    text = "\n".join(
        path.read_text() for path in files("ledger").joinpath("lua").iterdir() if path.name.endswith(".lua")
    )
    names = set(re.findall(r"(?:count|count_with|observe)\(\s*'(\w+)'", text))
    # What one field stands for.
    assert set(TOGETHER) <= names
    names |= {part.metric for change in TOGETHER for part in TOGETHER[change]}
    names -= set(TOGETHER)
    # Chosen between two, in one expression.
    return names | set(re.findall(r"'(\w+_total)'", text))


def counted_in_python() -> set[str]:
    """Names that a worker tallies, observes or notes."""
    found = set()
    for room in ("workers", "infra", "tasks", "api", "overspill", "ledger", "engines"):
        for path in (ROOT / room).rglob("*.py"):
            found |= set(re.findall(r"\.(?:tally|observe|gauge)\(\s*\"(\w+)\"", path.read_text()))
    return found


def test_everything_that_is_counted_is_in_the_catalogue() -> None:
    # given every name that the scripts and the workers count
    counted = counted_in_lua() | counted_in_python()
    assert {"jobs_total", "out_of_memory_total", "job_wait_seconds", "messages_dropped_total"} <= counted
    # then the exporter knows them all
    listed = {metric.ledger_name for metric in METRICS.values()}
    assert counted - listed == set()


def test_what_is_one_field_comes_apart() -> None:
    # given a field for all that a completion counts, beside fields of their own
    fields = [
        ("job_completed|deadline=met|gpu=H100|kind=render|pool=modal|le=60", "2"),
        ("job_completed|deadline=missed|gpu=H200|kind=render|pool=modal|le=60", "3"),
        ("job_completed|deadline=none|gpu=H200|kind=render|pool=modal|le=none", "4"),
        ("jobs_total|kind=render|outcome=completed|pool=modal", "10"),
        ("job_total_seconds|kind=render|pool=modal|sum", "7"),
    ]
    # when they are read / then each metric has its count, cut its own way; a value that no bucket took is in none
    assert apart(fields) == {
        "transitions_total|from=delivering|kind=render|to=completed": "9",
        "attempts_total|gpu=H100|kind=render|outcome=completed|pool=modal": "2",
        "attempts_total|gpu=H200|kind=render|outcome=completed|pool=modal": "7",
        "jobs_total|kind=render|outcome=completed|pool=modal": "19",
        "deadlines_met_total|kind=render|pool=modal": "2",
        "deadlines_missed_total|kind=render|pool=modal": "3",
        "job_total_seconds|kind=render|pool=modal|le=60": "5",
        "job_total_seconds|kind=render|pool=modal|sum": "7",
    }


def test_changes_whose_beginning_is_not_written_have_one_only() -> None:
    # given the changes whose field does not say from which state / then the table of transitions has one
    for change, after in (("job_started", State.RUNNING), ("job_completed", State.COMPLETED)):
        (before,) = (state for state, afters in TRANSITIONS.items() if after in afters)
        assert TOGETHER[change][0].fixed == {"from": before, "to": after}


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    # given any metric / then its name says what it is, in base units
    assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
    assert metric.name.endswith("_total") == (metric.type is Type.COUNTER)
    assert not metric.name.endswith(("_ms", "_micros", "_percent", "_minutes"))
    assert metric.help[-1] == "."
    assert list(metric.labels) == sorted(metric.labels)
    # and no label can grow without bound
    assert not {"job", "job_id", "tenant", "container_id", "call_id", "worker"} & set(metric.labels)
    if metric.type is Type.HISTOGRAM:
        assert metric.ledger_name in BOUNDS
    if metric.zeros:
        assert set(metric.zeros) == set(metric.labels)


def test_families_have_names_of_their_own() -> None:
    # given OpenMetrics, where `x_total` belongs to the family `x` / then no two families are one
    names = [metric.full_name.removesuffix("_total") for metric in METRICS.values()]
    assert len(names) == len(set(names))


def test_dollars_are_micro_dollars_in_the_ledger() -> None:
    cost = METRICS["cost_usd_total"]
    assert (cost.ledger_name, cost.scale, cost.source) == ("cost_usd_micros_total", 1e-6, Source.LEDGER)


def test_lua_has_the_same_bounds() -> None:
    # given the function that every script gets
    lua = as_lua()
    # then each histogram's bounds stand there in order
    for metric, bounds in BOUNDS.items():
        (line,) = [line for line in lua.splitlines() if f"'{metric}'" in line]
        assert re.findall(r"value <= ([\d.]+) then return '([\d.]+)'", line) == [
            (bound_text(bound), bound_text(bound)) for bound in bounds
        ]
        assert list(bounds) == sorted(set(bounds))


@pytest.mark.parametrize(
    ("value", "bucket"), [(0, "1"), (1, "1"), (1.001, "5"), (14400, "14400"), (14400.5, "+Inf"), (1e9, "+Inf")]
)
def test_a_bound_belongs_to_its_own_bucket(value: float, bucket: str) -> None:
    assert bucket_of("job_wait_seconds", value) == bucket


def test_a_histogram_that_nobody_listed_has_the_bounds_of_its_unit() -> None:
    assert bounds_of("some_seconds") == BOUNDS["job_run_seconds"]
    assert bounds_of("some_ratio") == BOUNDS["gpu_memory_peak_ratio"]


def test_labels_cannot_be_mistaken_for_our_own_signs() -> None:
    # given values that hold our separators, or are too long
    text = label_text(reason="a|b=c\n", gpu="A100-80GB:4", kind="x" * 100)
    # then they are sorted, and bounded
    assert text == f"gpu=A100-80GB:4|kind={'x' * 64}|reason=a_b_c_"
