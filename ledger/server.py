"""The Redis server behind the ledger: how to reach it, and whether it may be trusted with jobs."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from ledger.errors import LedgerError
from ledger.settings import LedgerSettings

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379


class WrongLedgerAddress(LedgerError):
    """The ledger's address cannot be understood."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            "expected OVERSPILL_LEDGER_URL as redis://host:port/db, rediss://host:port/db (TLS), unix://path, or "
            f"sentinel://host:port,host:port/service/db; {reason}."
        )


class EvictingServer(LedgerError):
    """The server may throw keys away, and a key thrown away is a job lost."""

    def __init__(self, address: str, policy: str) -> None:
        self.address = address
        self.policy = policy
        super().__init__(
            f"expected maxmemory-policy noeviction on the Redis at {address}, got {policy}: it could throw jobs away. "
            "Mend it with: redis-cli CONFIG SET maxmemory-policy noeviction (and in redis.conf)."
        )


def connect(settings: LedgerSettings) -> "redis.Redis":
    """A client for the ledger's Redis. It connects when first used, and again after every outage.

    Raises:
        WrongLedgerAddress: the address cannot be understood.
    """
    return client_for(
        settings.url.get_secret_value(),
        timeout_s=settings.timeout_s,
        connect_timeout_s=settings.connect_timeout_s,
        name="overspill-ledger",
    )


def client_for(url: str, *, timeout_s: float, connect_timeout_s: float, name: str) -> "redis.Redis":
    """A client for any Redis of ours, plain, by TLS, or found through Sentinel.

    A call is repeated once when its connection was found broken: every script may be run twice. After a failover the
    old master answers READONLY, which counts as broken too.

    Raises:
        WrongLedgerAddress: the address cannot be understood.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_timeout_s,
        "socket_keepalive": True,
        "retry": Retry(
            ConstantBackoff(0.05),
            1,
            supported_errors=(redis.exceptions.ConnectionError, redis.exceptions.ReadOnlyError),
        ),
        "client_name": name,
    }
    if is_sentinel(url):
        return _by_sentinel(parse_sentinel(url), options)
    try:
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise WrongLedgerAddress(str(error).rstrip(".")) from error


def address_of(url: str) -> str:
    """Hosts, ports and path of a Redis address, without its password."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


def refuse_eviction(client: "redis.Redis", *, address: str) -> None:
    """Raise unless the server keeps every key.

    Raises:
        EvictingServer: it may evict.
        redis.exceptions.RedisError: it does not answer.
    """
    # INFO says it where CONFIG is not allowed (hosted Redis).
    info: dict[str, object] = client.info("memory")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        raise EvictingServer(address, policy)


@dataclass(frozen=True)
class SentinelAddress:
    """A master behind Sentinels."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    database: int
    username: str | None
    password: str | None
    tls: bool


def is_sentinel(url: str) -> bool:
    """Whether an address names Sentinels rather than a server."""
    return url.startswith("sentinel://")


def parse_sentinel(url: str) -> SentinelAddress:
    """Read `sentinel://[user:password@]host:port,host:port/service/db[?ssl=true]`.

    Raises:
        WrongLedgerAddress: it is something else.
    """
    parts = urlsplit(url)
    path = [part for part in parts.path.split("/") if part]
    if not path:
        raise WrongLedgerAddress("the service's name is missing after the hosts")
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    sentinels = []
    for host_and_port in hosts.split(","):
        host, _, port = host_and_port.partition(":")
        if not host or (port and not port.isdigit()):
            raise WrongLedgerAddress(f"{host_and_port!r} is not host:port")
        sentinels.append((host, int(port or DEFAULT_SENTINEL_PORT)))
    database = path[1] if len(path) > 1 else "0"
    if not database.isdigit():
        raise WrongLedgerAddress(f"{database!r} is no number of a database")
    return SentinelAddress(
        sentinels=tuple(sentinels),
        service=path[0],
        database=int(database),
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=dict(parse_qsl(parts.query)).get("ssl") == "true",
    )


def _by_sentinel(address: SentinelAddress, options: dict[str, Any]) -> "redis.Redis":
    timeouts = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout")}
    found = Sentinel(list(address.sentinels), sentinel_kwargs=timeouts)  # type: ignore[no-untyped-call]  # the same
    client: redis.Redis = found.master_for(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        address.service,
        db=address.database,
        username=address.username,
        password=address.password,
        ssl=address.tls,
        **options,
    )
    return client
