"""The ledger's Redis and the broker's: reachable, durable, evicting nothing, on a true clock."""

import time
from collections.abc import Iterator
from typing import Any

import redis

from infra.settings import Settings
from ledger import Ledger
from ledger.server import address_of, client_for
from overspill.cli.checks.finding import Finding, note, ok, wrong

SERVER_AT_LEAST = (6, 2)  # kombu 5.7's own bound
_PROMISES = {
    "always": "fsync always: nothing that was accepted is lost",
    "everysec": "fsync every second: a power cut may lose the last second, a crash of a process nothing",
}


def ledger(settings: Settings) -> Iterator[Finding]:
    """Everything about the ledger's Redis; one finding if it is away."""
    url = settings.ledger_url.get_secret_value()
    address = address_of(url)
    with Ledger(settings) as opened:
        began = time.perf_counter()
        try:
            opened.client.ping()
            took_ms = (time.perf_counter() - began) * 1000
            version = str(_info(opened.client, "server").get("redis_version", "0"))
        except redis.exceptions.RedisError as error:
            yield wrong(
                "ledger", f"Redis at {address} does not answer: {error}", "start it, or set OVERSPILL_LEDGER_URL"
            )
            return
        yield _reachable(address, version, took_ms)
        yield durability(_config(opened.client, "appendonly"), _config(opened.client, "appendfsync"))
        yield eviction(_config(opened.client, "maxmemory-policy"))
        yield clock(opened.client.hget(f"{opened.prefix}:meta", "clock_offset_ms"), opened.prefix)


def broker(settings: Settings) -> Finding:
    """Celery's Redis."""
    url = settings.broker_url.get_secret_value()
    client = client_for(
        url,
        timeout_s=settings.ledger_timeout_s,
        connect_timeout_s=settings.ledger_connect_timeout_s,
        name="overspill-doctor",
    )
    with client:
        try:
            client.ping()
        except redis.exceptions.RedisError as error:
            return wrong(
                "broker",
                f"Redis at {address_of(url)} does not answer: {error}",
                "start it, or set OVERSPILL_BROKER_URL",
            )
    return ok("broker", f"{address_of(url)} answers")


def _reachable(address: str, version: str, took_ms: float) -> Finding:
    if tuple(int(part) for part in version.split(".")[:2]) < SERVER_AT_LEAST:
        return wrong("ledger", f"{address} is Redis {version}", "upgrade it to 6.2 or newer")
    return ok("ledger", f"{address} answers in {took_ms:.1f} ms, Redis {version}")


def durability(appendonly: str | None, appendfsync: str | None) -> Finding:
    """What was accepted must still be there after a restart."""
    if appendonly is None:
        return note(
            "durability", "this Redis does not tell its settings", "make sure that it keeps an append-only file"
        )
    if appendonly != "yes":
        return wrong(
            "durability", "appendonly is off: a restart of Redis loses jobs", "`redis-cli config set appendonly yes`"
        )
    if appendfsync not in _PROMISES:
        return note(
            "durability", f"appendfsync is {appendfsync}: a power cut may lose half a minute",
            "`redis-cli config set appendfsync everysec` or `always`",
        )  # fmt: skip
    return ok("durability", f"append-only file, {_PROMISES[appendfsync]}")


def eviction(policy: str | None) -> Finding:
    """A full Redis must refuse writes, not forget jobs."""
    if policy is None:
        return note(
            "eviction", "this Redis does not tell its settings", "make sure that maxmemory-policy is noeviction"
        )
    if policy != "noeviction":
        remedy = "`redis-cli config set maxmemory-policy noeviction`"
        return wrong("eviction", f"maxmemory-policy is {policy}: a full Redis forgets jobs", remedy)
    return ok("eviction", "noeviction")


def clock(offset_ms: Any, prefix: str) -> Finding:
    """Tests may move the ledger's clock; nobody else may."""
    if offset_ms is not None:
        remedy = f"`redis-cli hdel '{prefix}:meta' clock_offset_ms`"
        return wrong("clock", f"the ledger's clock is moved by {offset_ms} ms, which only tests may do", remedy)
    return ok("clock", "Redis's own")


def _info(client: "redis.Redis", section: str) -> dict[str, Any]:
    answer: Any = client.info(section)
    return dict(answer)


def _config(client: "redis.Redis", name: str) -> str | None:
    """A setting of the server; None where CONFIG is not allowed (hosted Redis)."""
    try:
        answer: dict[str | None, str | None] = client.config_get(name)
    except redis.exceptions.RedisError:
        return None
    return answer.get(name)
