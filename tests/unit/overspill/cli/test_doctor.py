"""What the doctor finds: each dependency wrong in turn, against real servers where there are any."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import redis

from infra.limits import given_limits
from infra.settings import Settings
from ledger.limits import Limits
from modal_apps.prices import PriceList
from overspill.cli.checks import machine, money, services
from overspill.cli.checks.finding import Finding, Health
from overspill.cli.doctor import examine
from tests.support.ledgers import MODAL, ROOMY, fresh_ledger, limited, place, submit
from tests.support.redis_server import RedisServer
from tests.support.settings import settings_of

NOWHERE = "redis://127.0.0.1:1/0"


def settings(**values: object) -> Settings:
    return settings_of(values)


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator["redis.Redis"]:
    """The session's Redis, put back as it was."""
    with redis.Redis.from_url(redis_server.url(3), decode_responses=True) as client:
        yield client
        client.flushdb()
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendfsync", "everysec")


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_a_good_redis_is_well(server: "redis.Redis", redis_server: RedisServer) -> None:
    # given a Redis as it should be / when it is looked at / then all is well
    found = by_name(services.ledger(settings(ledger_url=redis_server.url(3))))
    assert set(found) == {"ledger", "durability", "eviction", "clock"}
    assert {finding.health for finding in found.values()} == {Health.OK}
    assert services.broker(settings(broker_url=redis_server.url(3))).health is Health.OK


def test_a_redis_that_forgets_is_wrong(server: "redis.Redis", redis_server: RedisServer) -> None:
    # given a Redis that evicts, seldom syncs, and has its clock moved
    server.config_set("maxmemory-policy", "allkeys-lru")
    server.config_set("appendfsync", "no")
    server.hset("{overspill}:meta", "clock_offset_ms", 5_000)
    # when it is looked at
    found = by_name(services.ledger(settings(ledger_url=redis_server.url(3))))
    # then each is found, with what mends it
    assert found["eviction"].health is Health.WRONG
    assert "config set maxmemory-policy noeviction" in found["eviction"].remedy
    assert found["durability"].health is Health.NOTE
    assert found["clock"].health is Health.WRONG
    assert "hdel '{overspill}:meta' clock_offset_ms" in found["clock"].remedy


def test_durability_off_or_unknown() -> None:
    # given Redis without a file, and one that does not tell / then the first is wrong, the second to be looked at
    assert services.durability("no", "everysec").health is Health.WRONG
    assert services.durability(None, None).health is Health.NOTE
    assert services.eviction(None).health is Health.NOTE
    assert services.durability("yes", "always").health is Health.OK


def test_a_redis_that_is_away_is_one_finding() -> None:
    # given no Redis / when it is looked at / then that is all that is said of it
    [finding] = services.ledger(settings(ledger_url=NOWHERE))
    assert (finding.name, finding.health) == ("ledger", Health.WRONG)
    assert "127.0.0.1:1/0" in finding.detail
    assert services.broker(settings(broker_url=NOWHERE)).health is Health.WRONG
    assert services.slots(settings(ledger_url=NOWHERE)).health is Health.WRONG


def test_nobody_works(server: "redis.Redis", redis_server: RedisServer) -> None:
    # given an empty ledger and no worker / then both are found
    url = redis_server.url(3)
    assert "no in-house GPU worker lives" in services.slots(settings(ledger_url=url)).detail
    finding = services.queues(settings(ledger_url=url, broker_url=url))
    assert finding.health is Health.WRONG
    assert "unread" in finding.detail


def test_an_s3_that_is_away_is_found() -> None:
    # given an S3 address at which nobody listens / then it is named
    finding = services.s3(
        settings(s3_endpoint_url="http://127.0.0.1:1", s3_access_key_id="AKIATEST", s3_secret_access_key="x" * 20)
    )
    assert finding.health is Health.WRONG
    assert "http://127.0.0.1:1" in finding.detail


def test_modal_needs_a_token_unless_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # given no token / then it is wrong, unless nothing may run there
    assert services.modal(settings()).health is Health.WRONG
    assert services.modal(settings(max_modal_attempts=0)).health is Health.NOTE


@pytest.mark.parametrize(
    ("keys", "auth", "health"),
    [
        ("", "required", Health.WRONG),
        ("team=k1-k1-k1-k1-k1-k1,k2-k2-k2-k2-k2-k2", "required", Health.OK),
        ("", "off", Health.NOTE),
    ],
)
def test_somebody_must_have_a_key(keys: str, auth: str, health: Health) -> None:
    # given keys / when they are looked at / then none is wrong, and the keys themselves are never shown
    finding = machine.api_keys(settings(api_keys=keys, api_auth=auth))
    assert finding.health is health
    assert "k1" not in finding.detail


def test_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given this machine / then it is well; with an old Python and no redis-server it is not
    assert machine.python().health is Health.OK
    assert machine.codecs().health is Health.OK
    assert machine.python((3, 10)).health is Health.WRONG
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install redis-server" in machine.redis_server().remedy


def test_a_budget_is_well_until_it_drains(redis_server: RedisServer) -> None:
    # given a budget of $10, of which more and more is set aside / when it is looked at
    limits = Limits(month_cap_usd_micros=10_000_000, max_modal_attempts=100, drain_ratio=0.9)
    found = []
    with fresh_ledger(redis_server.url(2)) as ledger:
        for reserve_usd_micros in (4_000_000, 5_500_000, 500_000):
            submit(ledger)
            place(ledger, replace(MODAL, reserve_usd_micros=reserve_usd_micros), limits=ROOMY)
            found.append(money.of_budget(limited(ledger, limits).money.view()))
    # then it is well, then only priority jobs spill, then nothing is left
    assert [finding.health for finding in found] == [Health.OK, Health.NOTE, Health.WRONG]
    assert "$4.00 of $10.00 spent or set aside" in found[0].detail
    assert "(40%)" in found[0].detail
    assert "only priority jobs still spill for the month" in found[1].detail
    assert "nothing is left for the month" in found[2].detail
    assert found[2].remedy


def test_an_environment_that_differs_from_the_limits_in_force_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # given an environment that names three limits
    monkeypatch.setenv("OVERSPILL_MONTH_CAP_USD", "2500")
    monkeypatch.setenv("OVERSPILL_TENANT_MONTH_CAPS_USD", '{"acme": 4}')
    monkeypatch.setenv("OVERSPILL_MAX_MODAL_GPUS", "8")
    given = given_limits(settings())
    # when the ledger has none yet, or the same, or others / then only the last is noted, with what to do
    assert money.of_limits(given, {}).health is Health.OK
    same = {"month": "2500000000", "tenant:acme": "4000000", "gpus": "8", "day": "1"}
    assert money.of_limits(given, same).health is Health.OK
    found = money.of_limits(given, {**same, "month": "50000000000", "tenant:acme": "default", "gpus": "none"})
    assert found.health is Health.NOTE
    assert "OVERSPILL_MONTH_CAP_USD says $2,500.00, in force is $50,000.00" in found.detail
    assert "OVERSPILL_TENANT_MONTH_CAPS_USD says $4.00, in force is no limit" in found.detail
    assert "OVERSPILL_MAX_MODAL_GPUS says 8, in force is no limit" in found.detail
    assert "overspill budget set gpus=8 month=2500 tenant.acme=4 --why" in found.remedy


def test_a_hand_on_spilling_and_an_open_breaker_are_found(redis_server: RedisServer) -> None:
    # given an operator who turned spilling off, and then a breaker that opened
    with fresh_ledger(redis_server.url(2)) as ledger:
        asked = settings(ledger_url=redis_server.url(2), ledger_prefix=ledger.prefix)
        assert money.spilling(asked).health is Health.OK
        ledger.money.set_override("off", who="ada@here", why="prices")
        off = money.spilling(asked)
        ledger.modal_calls.move_breaker(version=0, phase="open", reason="token_refused", memory="{}")
        broken = money.spilling(asked)
    # then the first is worth knowing, the second wrong, each with what mends it
    assert (off.health, off.remedy) == (Health.NOTE, "`overspill spill auto`")
    assert "turned off by ada@here: prices" in off.detail
    assert broken.health is Health.WRONG
    assert "token_refused" in broken.detail
    assert "modal token new" in broken.remedy
    # and a ledger that is away is that finding
    assert money.spilling(settings(ledger_url=NOWHERE)).health is Health.WRONG
    assert money.budget(settings(ledger_url=NOWHERE)).health is Health.WRONG


def test_prices_that_are_not_modals_are_found() -> None:
    # given the workspace's own rates / when ours are compared / then those that differ are named with the setting
    rates = {"gpu_hour_cost_h100": Decimal("3.9492"), "gpu_hour_cost_h200": Decimal("4.5396")}
    names = ("H100", "H200")
    assert money.of_rates(PriceList(), names, rates).health is Health.OK
    dear = money.of_rates(PriceList(), names, {**rates, "gpu_hour_cost_h100": Decimal("5.00")})
    assert dear.health is Health.WRONG
    assert dear.remedy == """set OVERSPILL_MODAL_PRICES_USD_PER_HOUR='{"H100": 5}'"""
    assert (
        money.of_rates(PriceList({"H100": 5.0}), names, {**rates, "gpu_hour_cost_h100": Decimal(5)}).health is Health.OK
    )
    assert "H200" in money.of_rates(PriceList(), names, {"gpu_hour_cost_h100": Decimal("3.9492")}).detail


@pytest.mark.parametrize(
    ("variable", "value"), [("OVERSPILL_LEASE_S", "soon"), ("OVERSPILL_MODAL_RENDER_CLASSES", "H100")]
)
def test_wrong_settings_are_one_finding_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    # given a value of the wrong type, or no JSON / when everything is checked / then the variable is named, and it ends
    monkeypatch.setenv(variable, value)
    *_, last = examine()
    assert (last.name, last.health, last.detail.startswith(f"{variable}: ")) == ("settings", Health.WRONG, True)
