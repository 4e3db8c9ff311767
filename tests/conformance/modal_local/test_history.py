"""What the SDK and the CLI tell about the past: logs of a call, calls of a function, statistics, metrics, releases."""

import json
import subprocess
import threading
from datetime import UTC, datetime, timedelta

import modal
import pytest

from .conftest import Target
from .test_scaling import until

pytestmark = pytest.mark.modal_conformance


def test_the_logs_of_a_call_are_streamed_until_it_ends_and_fetched(target: Target) -> None:
    # given a call that prints
    call = target.function("shout").spawn()

    # when its log is streamed, the stream ends with the call
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(entry.message for entry in call.logs.stream(timeout=20)))
    reader.start()
    call.get(timeout=30)
    reader.join(25)
    assert not reader.is_alive()
    assert any("shouting from a container" in line for line in lines)

    # and it can be fetched, and its end be seen, afterwards
    since = datetime.now(UTC) - timedelta(minutes=5)
    fetched = [entry.message for entry in call.logs.fetch(since=since)]
    assert any("shouting from a container" in line for line in fetched)
    assert [entry.message for entry in call.logs.tail(5)]

    # and another call's log has none of it
    other = target.function("square").spawn(2)
    other.get(timeout=30)
    assert not list(other.logs.tail(5))


def calls_of(target: Target, *words: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(target.cli("function", "calls", *words, "--json").stdout)
    return rows


def test_the_calls_of_a_function_are_listed(target: Target) -> None:
    # given a good call, a failed one and one that waits in vain
    target.function("square").remote(3)
    with pytest.raises(ValueError, match="bad value"):
        target.function("fail").remote("value")
    with pytest.raises(modal.exception.FunctionTimeoutError):
        target.function("too_slow").remote()

    # then each says what has become of it
    last = calls_of(target, "basic/square")[-1]
    assert last["status"] == "success"
    assert str(last["function_call_id"]).startswith("fc-")
    assert str(last["container_id"]).startswith("ta-")
    assert float(str(last["execution_time_seconds"])) >= 0
    assert calls_of(target, "basic/fail")[-1]["status"] == "failure"
    assert calls_of(target, "basic/too_slow")[-1]["status"] == "timeout"

    # and a range of time holds them too, and only them
    assert calls_of(target, "basic/square", "--since", "10m")[-1] == last
    assert calls_of(target, "basic/square", "--since", "2h", "--until", "1h") == []


def test_calls_of_all_variants_of_a_class(target: Target) -> None:
    target.cls("Worker")(greeting="hi").greet.remote("Ada")
    rows = calls_of(target, "basic/Worker.*", "--all-variants")
    assert rows[-1]["service_method_name"] == "greet"
    assert any(row["startup_time_seconds"] is not None for row in rows)


def test_statistics_of_a_function(target: Target) -> None:
    square = target.function("square")
    before = square.stats()
    square.remote(4)
    with pytest.raises(ValueError, match="bad value"):
        target.function("fail").remote("value")

    after = square.stats()
    assert after.input_success_count == before.input_success_count + 1
    assert "Execution time (s)" in after.input_percentile_stats
    assert after.container_total_count >= 1
    assert target.function("fail").stats().input_failure_count >= 1
    assert "succeeded" in target.cli("function", "stats", "basic/square").stdout


def test_a_crash_loop_shows_in_the_statistics_and_nowhere_else(local_target: Target) -> None:
    # given an input whose container dies each time
    fail = local_target.function("fail")
    call = fail.spawn("3")
    assert until(lambda: fail.stats().container_error_count >= 2)

    # then its call is pending as any other
    with pytest.raises(TimeoutError):
        call.get(timeout=0)
    call.cancel()


def test_metrics_are_exported(target: Target) -> None:
    square = target.function("square")
    square.remote(5)
    schema = square.metrics.schema()
    assert set(schema) == {"calls", "containers"}
    until_then = datetime.now(UTC) + timedelta(minutes=2)
    exported = square.metrics.export(since=until_then - timedelta(hours=1), until=until_then, groups=["calls"])
    points = exported.series["calls_succeeded_sum"].points
    assert sum(point.value or 0 for point in points) >= 1
    assert exported.series["calls_succeeded_sum"].aggregation == "sum"
    with pytest.raises(modal.exception.InvalidError, match="network"):
        square.metrics.export(groups=["network"])


APP = """
import modal
image = modal.Image.debian_slim().env({"N": "%s"})
app = modal.App("released", image=image)
@app.function(serialized=True, scaledown_window=60)
def version():
    import os
    return os.environ["N"], os.environ["MODAL_TASK_ID"]
"""


def test_an_app_is_rolled_back_and_rolled_over(target: Target, tmp_path_factory: pytest.TempPathFactory) -> None:
    # given two versions
    folder = tmp_path_factory.mktemp("released")

    def modal_command(*words: str) -> None:
        target.cli(*words, project=str(folder))

    for number in ("one", "two"):
        (folder / "released.py").write_text(APP % number)
        modal_command("deploy", "released.py")
    version = modal.Function.from_name("released", "version", client=target.client)
    assert version.remote()[0] == "two"

    # when the app is rolled back, then the first one runs
    modal_command("app", "rollback", "released")
    assert version.remote()[0] == "one"
    modal_command("app", "rollback", "released", "v2")
    number, container = version.remote()
    assert number == "two"

    # and a rollover replaces the container, not the code
    modal_command("app", "rollover", "released")
    again, other = version.remote()
    assert again == "two"
    assert other != container

    # and the history has it all, and a version that never was is refused by name
    assert len(json.loads(target.cli("app", "history", "released", "--json").stdout)) == 5
    refused: subprocess.CompletedProcess[str] = target.cli("app", "rollback", "released", "v99", check=False)
    assert refused.returncode != 0
    assert "no version 99" in refused.stdout + refused.stderr
    modal_command("app", "stop", "released", "--yes")
