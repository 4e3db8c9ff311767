"""The services that we use, and our own workers: the ledger's Redis and the broker's, S3, Modal, slots, queues."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis
from kombu.exceptions import OperationalError

from infra.artifacts import ArtifactStore, ArtifactStoreUnavailable
from infra.celery_config import make_celery, queue_names
from infra.settings import Settings
from ledger import Kind, Ledger, LedgerError
from ledger.server import address_of, client_for
from modal_apps.names import RENDERER_CLASS
from overspill.cli.checks.finding import Finding, note, ok, wrong

_MODAL_TIMEOUT_S = 15.0
_CELERY_TIMEOUT_S = 1.5
SERVER_AT_LEAST = (6, 2)  # kombu 5.7's own bound
_PROMISES = {
    "always": "fsync always: nothing that was accepted is lost",
    "everysec": "fsync every second: a power cut may lose the last second, a crash of a process nothing",
}


def ledger(settings: Settings) -> Iterator[Finding]:
    """Everything about the ledger's Redis; one finding if it is away."""
    url = settings.ledger.url.get_secret_value()
    address = address_of(url)
    with Ledger(settings.ledger) as opened:
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
    url = settings.ledger.broker_url.get_secret_value()
    client = client_for(
        url,
        timeout_s=settings.ledger.timeout_s,
        connect_timeout_s=settings.ledger.connect_timeout_s,
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
    """Only tests may move the ledger's clock."""
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


def s3(settings: Settings) -> Finding:
    """The bucket takes, gives and removes an object."""
    where = f"{settings.s3.endpoint_url or 'AWS'}, bucket {settings.s3.bucket}"
    try:
        ArtifactStore(settings).check()
    except ArtifactStoreUnavailable as error:
        return wrong("s3", f"{where}: {error.reason}", "check OVERSPILL_S3_* and that the bucket exists")
    return ok("s3", f"{where} can be written")


def modal(settings: Settings) -> Finding:
    """The token is taken, and our app is deployed."""
    if settings.budget.max_modal_attempts == 0:
        return note("modal", "OVERSPILL_MAX_MODAL_ATTEMPTS=0: nothing may run on Modal")
    if not os.environ.get("MODAL_TOKEN_ID") or not os.environ.get("MODAL_TOKEN_SECRET"):
        return wrong("modal", "no token in the environment", "set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET")
    where = os.environ.get("MODAL_SERVER_URL") or "Modal"
    error = answer_within(lambda: _look_up(settings), _MODAL_TIMEOUT_S)
    if not isinstance(error, BaseException):
        return ok("modal", f"{where} has {settings.modal.app} deployed")
    remedies = {
        "NotFoundError": "deploy it with `modal deploy -m modal_apps.renderer`",
        "AuthError": "make a new token with `modal token new`, and set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET",
    }
    remedy = remedies.get(type(error).__name__, "check MODAL_SERVER_URL and the network")
    message = " ".join(str(error).split()) or type(error).__name__
    return wrong("modal", f"{where}: {message.rstrip('.')}", remedy)


def _look_up(settings: Settings) -> None:
    import modal as sdk  # noqa: PLC0415 - heavy, and most checks do without

    sdk.Cls.from_name(settings.modal.app, RENDERER_CLASS, environment_name=settings.modal.environment).hydrate()


def answer_within(look: Callable[[], object], timeout_s: float) -> object:
    """What `look` returned, or what it raised, or a TimeoutError. The SDK itself would try for minutes."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(look())
        except BaseException as error:  # noqa: BLE001  # it is the finding
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True, name="doctor-modal")
    thread.start()
    thread.join(timeout_s)
    return outcome[0] if outcome else TimeoutError(f"no answer within {timeout_s:g} s")


def slots(settings: Settings) -> Finding:
    """In-house GPU workers, by their leases."""
    try:
        with Ledger(settings.ledger) as ledger:
            view = ledger.placement.view()
    except LedgerError as error:
        return wrong("slots", str(error), "mend the ledger first")
    live = {kind: view.of(kind).live_slots for kind in Kind}
    words = ", ".join(f"{count} for {kind}" for kind, count in live.items())
    if not any(live.values()):
        return wrong("slots", "no in-house GPU worker lives", "start the `gpu` process of the Procfile")
    return ok("slots", f"{words}; {view.of(Kind.RENDER).waiting_inhouse} renders wait")


def queues(settings: Settings) -> Finding:
    """Every queue has a worker that reads it."""
    app = make_celery(settings)
    try:
        answers = app.control.inspect(timeout=_CELERY_TIMEOUT_S).active_queues() or {}
    except (OperationalError, OSError) as error:
        return wrong("queues", f"the workers cannot be asked: {error}", "mend the broker first")
    finally:
        app.close()
    read = {queue["name"] for queues_of_one in answers.values() for queue in queues_of_one}
    unread = [name for name in queue_names() if name not in read]
    if unread:
        return wrong("queues", f"unread: {', '.join(unread)}", "start the Procfile's dispatch, gpu and overflow")
    return ok("queues", f"all are read, by {', '.join(sorted(answers))}")
