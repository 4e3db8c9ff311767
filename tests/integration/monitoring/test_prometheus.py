"""From an event to the webhook, and from the ledger to every panel: real exporter, Prometheus and Alertmanager."""

import math
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from ledger import Kind, Ledger
from ledger.decisions import RunOnModal
from ledger.limits import Limits
from monitoring.alerting.files import GROUPS
from monitoring.alerting.render import as_prometheus, duration_s
from monitoring.dashboards.files import DASHBOARDS
from monitoring.exporter.server import Exporter
from tests.support.activity import decide, everything, run_out_of_memory, spill_storm, submit
from tests.support.ledgers import fresh_ledger
from tests.support.prometheus import (
    MONITORING,
    Prometheus,
    Webhook,
    needs,
    running_alertmanager,
    running_prometheus,
    webhook,
)
from tests.support.redis_server import RedisServer
from tests.support.settings import settings_of
from tests.support.waiting import until
from workers.maintenance.duties import ALWAYS_DONE

#: The rules' windows are divided by this: a quarter of an hour is seven and a half seconds.
SHORTER = 120.0
CAP_USD = 1_000
#: How soon a person must know.
REACHED_WITHIN_S = 30.0
QUERIES = [
    pytest.param(query.expr, id=f"{page.uid}-{panel.title}-{number}")
    for page in DASHBOARDS
    for row in page.rows
    for panel in row.panels
    for number, query in enumerate(panel.queries)
]


@dataclass(frozen=True)
class Watched:
    """A ledger and everybody who watches it."""

    ledger: Ledger
    prometheus: Prometheus
    hook: Webhook


@pytest.fixture(scope="module")
def watched(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    needs("prometheus", "prometheus-alertmanager")
    folder = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as running:
        ledger = running.enter_context(fresh_ledger(redis_server.url()))
        exporter = Exporter(
            settings_of(
                {
                    "ledger_url": redis_server.url(),
                    "ledger_prefix": ledger.prefix,
                    "broker_url": redis_server.url(1),
                    "exporter_port": 0,
                }
            )
        )
        running.callback(exporter.stop)
        exporter.start()
        hook = running.enter_context(webhook())
        manager = running.enter_context(running_alertmanager(folder, configuration=quick_alertmanager(hook.url)))
        prometheus = running.enter_context(
            running_prometheus(
                folder,
                exporter=exporter.url.removeprefix("http://"),
                rules={f"{group.name}.yml": as_prometheus(group, shorter=SHORTER) for group in GROUPS},
                alertmanager=manager,
                every="500ms",
            )
        )
        running.callback(keep_alive(ledger).set)
        yield Watched(ledger, prometheus, hook)


def quick_alertmanager(url: str) -> str:
    """The configuration as it is, told to our webhook, with its waits divided as the rules' are."""

    def shorter(found: "re.Match[str]") -> str:
        return f"{found[1]}: {max(100, round(duration_s(found[2]) * 1000 / SHORTER))}ms"

    text = (MONITORING / "prometheus" / "alertmanager.yml").read_text()
    text = re.sub(r"(group_wait|group_interval): (\w+)", shorter, text)
    assert text.count("http://127.0.0.1:9095/alerts") == 1
    return text.replace("http://127.0.0.1:9095/alerts", url)


def keep_alive(ledger: Ledger) -> threading.Event:
    """A slot that beats, and maintenance and a follower that do their duties, as in a system that is well."""
    stopping = threading.Event()
    prefix, url = ledger.prefix, ledger.settings.url

    def beat() -> None:
        with Ledger(ledger.settings.model_copy(update={"prefix": prefix, "url": url})) as mine:
            while not stopping.is_set():
                mine.attempts.slot_lives(list(Kind), worker="gpu-1", lease_s=30)
                for duty in ALWAYS_DONE:
                    mine.maintenance.done(duty)
                mine.modal_calls.claim_due(limit=1, lease_s=1)
                stopping.wait(1)

    thread = threading.Thread(target=beat)
    thread.start()
    stop = stopping.set

    class Stopping(threading.Event):
        def set(self) -> None:
            stop()
            thread.join()

    return Stopping()


def test_each_induced_alert_reaches_the_webhook_and_is_silent_again(watched: Watched) -> None:
    # given a system that is well, and is seen to be
    ledger, prometheus, hook = watched.ledger, watched.prometheus, watched.hook
    until(lambda: prometheus.query("overspill_up == 1"), bool, timeout_s=20)
    induced = {"OutOfMemory", "SpillRate", "BudgetExhausted"}
    assert prometheus.firing() & induced == set()
    # when an attempt runs out of memory, forty jobs spill at once, and the last dollar is set aside
    began = time.monotonic()
    run_out_of_memory(ledger, Kind.TRAIN)
    stormy = spill_storm(ledger, Kind.RENDER, 40)
    dear = submit(ledger, Kind.TRAIN)
    month = ledger.stats.read().scopes["month"]
    left_usd_micros = CAP_USD * 1_000_000 - month.spent_usd_micros - month.reserved_usd_micros
    capped = Limits(month_cap_usd_micros=CAP_USD * 1_000_000, max_modal_attempts=10_000)
    decide(ledger, Kind.TRAIN, RunOnModal("H100", reserve_usd_micros=left_usd_micros), limits=capped)
    # then each reaches the webhook in time, with words that say what is wrong
    until(lambda: {told.name for told in hook.told if told.status == "firing"}, induced.issubset, timeout_s=60)
    reached = {name: hook.of(name, "firing")[0] for name in induced}
    seconds = {name: round(told.at - began, 1) for name, told in reached.items()}
    assert max(seconds.values()) < REACHED_WITHIN_S
    memory = reached["OutOfMemory"]
    assert memory.annotations["summary"] == "train ran out of cuda memory in the pool modal"
    assert memory.annotations["runbook_url"] == "docs/runbook.md#outofmemory"
    assert reached["SpillRate"].annotations["summary"] == "100% of the render jobs spill to Modal"
    assert reached["BudgetExhausted"].labels["scope"] == "month"
    # and the higher mark of the budget silences the lower ones
    assert not hook.of("Budget50", "firing", since=reached["BudgetExhausted"].at)
    # when the dear job and the storm are cancelled, and nothing happens any more
    for job_id in (dear, *stormy):
        ledger.jobs.cancel(job_id)
    # then each is told to be over
    until(lambda: {told.name for told in hook.told if told.status == "resolved"}, induced.issubset, timeout_s=60)
    until(lambda: prometheus.firing() & induced, lambda firing: not firing, timeout_s=20)
    sys.stdout.write(f"reached the webhook after {seconds} s, silent after {time.monotonic() - began:.1f} s\n")


@dataclass(frozen=True)
class Active:
    """A Prometheus that has seen everything happen, twice, and when it had."""

    prometheus: Prometheus
    at: float


@pytest.fixture(scope="module")
def active(watched: Watched) -> Active:
    prometheus = watched.prometheus

    def newest_scrape() -> float:
        series = prometheus.query("timestamp(overspill_up)")
        return float(series[0]["value"][1]) if series else 0.0

    for _ in range(2):
        everything(watched.ledger)
        begun_after = time.time()
        # Then: a scrape that began later, and an evaluation of the rules after it.
        until(newest_scrape, lambda moment, after=begun_after: moment > after + 1.5, timeout_s=30)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    return Active(prometheus, newest_scrape())


@pytest.mark.parametrize("expression", QUERIES)
def test_every_panel_has_data(active: Active, expression: str) -> None:
    # given a panel's query, with Grafana's variables filled in, and last week brought nearer
    query = expression.replace("$__rate_interval", "30s").replace("$kind", "render").replace("offset 1w", "offset 1s")
    # when it is asked, of the time when everything had just happened
    series = active.prometheus.query(query, at=active.at)
    # then it has data, and some of it is a number
    assert series, query
    assert any(not math.isnan(float(one["value"][1])) for one in series), query
