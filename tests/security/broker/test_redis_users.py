"""The Redis users of docs/security.md: each can do what it must, and nothing else. The whole stack runs with them."""

import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from celery import Celery
from redis.exceptions import NoPermissionError, ResponseError

from infra.celery_config import queue_names
from ledger import Kind, Ledger
from ledger.models import JobRecord
from overspill.cli.checks.finding import Health
from overspill.client import Client
from overspill.dev import stack as dev_stack
from overspill.dev.procfile import read_procfile
from overspill.dev.redis_service import RedisService
from overspill.dev.stack import Stack
from tests.support.redis_server import RedisServer, free_port
from tests.support.settings import ledger_settings_of, settings_from
from tests.support.stack import REPOSITORY, overspill_command, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(240)

SMALL = {"seconds": "1", "size": "320x180"}


def users() -> dict[str, list[str]]:
    """The rules of each user, as the page has them."""
    page = (REPOSITORY / "docs" / "security.md").read_text()
    block = re.search(r"```acl\n(.*?)```", page, re.DOTALL)
    assert block
    lines = [line.split(" ", 2)[1:] for line in block[1].splitlines()]
    return {name: _rules(rules) for name, rules in lines}


def _rules(line: str) -> list[str]:
    """Rules as ACL SETUSER takes them: what stands in parentheses is one."""
    return re.findall(r"\([^)]*\)|\S+", line)


class RedisWithUsers(RedisService):
    """The stack's Redis, which everybody uses by his own name."""

    def ready(self) -> None:
        super().ready()
        with redis.Redis(port=self.port) as admin:
            for name, rules in users().items():
                admin.execute_command("ACL", "SETUSER", name, *rules)
            admin.execute_command("ACL", "LOG", "RESET")

    @property
    def environment(self) -> dict[str, str]:
        return {"OVERSPILL_LEDGER_URL": self.url_of("control", 0), "OVERSPILL_BROKER_URL": self.url_of("control", 1)}

    def url_of(self, name: str, database: int) -> str:
        """An address with this user's name and password."""
        return f"redis://{name}:{name.upper()}-PASSWORD@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    patch = pytest.MonkeyPatch()
    patch.setattr(dev_stack, "RedisService", RedisWithUsers)
    with running_stack(tmp_path_factory.mktemp("users"), flower=False) as running:
        yield running
    patch.undo()


@pytest.fixture
def ledger(stack: Stack) -> Iterator[Ledger]:
    with Ledger(ledger_settings_of({"ledger_url": stack.environment["OVERSPILL_LEDGER_URL"]})) as ledger:
        yield ledger


def url_of(stack: Stack, name: str, database: int) -> str:
    assert isinstance(stack.redis, RedisWithUsers)
    return stack.redis.url_of(name, database)


def refusals(stack: Stack) -> list[str]:
    """What Redis has refused since it was last asked, by user."""
    assert stack.redis is not None
    with redis.Redis(port=stack.redis.port, decode_responses=True) as admin:
        entries = admin.acl_log()
        admin.acl_log_reset()
    return [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in entries]


def ended(ledger: Ledger, prompt: str) -> JobRecord:
    """The job with this prompt, when it has ended."""

    def look() -> JobRecord | None:
        records = ledger.jobs.page(Kind.RENDER, limit=100).records
        return next((record for record in records if prompt in record.spec), None)

    record = until(look, lambda found: found is not None and found.is_terminal, timeout_s=90)
    assert record is not None
    return record


@pytest.mark.parametrize("burst", ["never", "always"])
@pytest.mark.parametrize("queue", [None, "render"])
def test_a_producer_submits_and_the_stack_does_it(stack: Stack, ledger: Ledger, burst: str, queue: str | None) -> None:
    # given a service that has nothing but Celery, and the producer's password
    prompt = f"by a producer {uuid.uuid4()}"
    with Celery(broker=url_of(stack, "producer", 1), set_as_current=False) as app:
        # when it sends a job, as the quickstart shows it, or to the queue by name
        app.send_task("tasks.render", kwargs={"prompt": prompt, **SMALL, "burst": burst}, queue=queue)
    # then the job completes, in-house or on Modal
    record = ended(ledger, prompt)
    assert record.artifact is not None, record
    # and Redis has refused nobody anything
    assert refusals(stack) == []


def test_a_service_of_ours_submits(stack: Stack, ledger: Ledger) -> None:
    # given a service that holds the ledger / when it submits / then its job completes
    client = Client(settings_from(stack.environment).ledger)
    assert ended(ledger, ledger.jobs.get(client.submit(prompt=f"ours {uuid.uuid4()}", **SMALL)).spec).artifact
    client.close()
    assert refusals(stack) == []


def test_the_doctor_is_content(stack: Stack) -> None:
    # given the stack, run with these users / when the doctor looks / then it finds nothing wrong, and was refused
    # nothing but the server's configuration, which it does without
    process = overspill_command("--state", str(stack.folder.path), "doctor", "--json", cwd=stack.folder.path)
    out, err = process.communicate(timeout=90)
    assert f'"{Health.WRONG}"' not in out, out + err
    assert {line for line in refusals(stack) if "config" not in line} == set()


DENIED: list[tuple[int, tuple[str, ...]]] = [
    # Others' jobs, and the ledger in any way.
    (0, ("HGETALL", "{overspill}:job:video_1")),
    (0, ("HGETALL", "{overspill}:counters")),
    (0, ("GET", "{overspill}:idempotency:x")),
    (0, ("SET", "{overspill}:override", "x")),
    (0, ("ZADD", "{overspill}:queued:render", "0", "video_1")),
    (0, ("XRANGE", "{overspill}:events", "-", "+")),
    (0, ("EVAL", "return redis.call('KEYS', '*')", "0")),
    (0, ("EVAL", "return 1", "1", "{overspill}:counters")),
    (0, ("SCAN", "0")),
    (0, ("KEYS", "*")),
    # Others' messages, and the queues themselves.
    (1, ("LRANGE", "render", "0", "-1")),
    (1, ("RPOP", "render")),
    (1, ("BRPOP", "render", "1")),
    (1, ("DEL", "render")),
    (1, ("UNLINK", "render")),
    (1, ("LTRIM", "render", "1", "0")),
    (1, ("RENAME", "render", "other")),
    (1, ("SET", "render", "x")),
    (1, ("SADD", "render", "x")),
    (1, ("EXPIRE", "render", "1")),
    (1, ("LPUSH", "inhouse.render", "x")),
    (1, ("LPUSH", "overflow", "x")),
    (1, ("SET", "overflow", "x")),
    (1, ("LPUSH", "_kombu.binding.celery", "x")),
    (1, ("SADD", "_kombu.binding.reply.celery.pidbox", "x")),
    (1, ("SMEMBERS", "_kombu.binding.celery")),
    # Workers, and the server.
    (1, ("PUBLISH", "/1.celery.pidbox", "x")),
    (1, ("PSUBSCRIBE", "/1.celeryev/*")),
    (1, ("SUBSCRIBE", "/1.celery.pidbox")),
    (1, ("CONFIG", "GET", "*")),
    (1, ("INFO",)),
    (1, ("FLUSHALL",)),
    (1, ("FLUSHDB",)),
    (1, ("MONITOR",)),
    (1, ("CLIENT", "LIST")),
    (1, ("CLIENT", "KILL", "TYPE", "normal")),
    (1, ("ACL", "LIST")),
    (1, ("SHUTDOWN",)),
]


@pytest.mark.parametrize(("database", "command"), DENIED, ids=[" ".join(command) for _, command in DENIED])
def test_a_producer_may_do_nothing_else(stack: Stack, database: int, command: tuple[str, ...]) -> None:
    # given a producer's password / when it is used for anything else / then Redis refuses
    with redis.Redis.from_url(url_of(stack, "producer", database)) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command)
    refusals(stack)


@pytest.mark.parametrize(
    "command",
    [("FLUSHALL",), ("CONFIG", "SET", "maxmemory", "1"), ("KEYS", "*"), ("GET", "a.key.of.somebody"), ("SHUTDOWN",),
     ("ACL", "SETUSER", "x"), ("PUBLISH", "a.channel.of.somebody", "x"), ("CLIENT", "KILL", "TYPE", "normal")],
    ids=" ".join,
)  # fmt: skip
def test_a_process_of_ours_stays_among_its_own(stack: Stack, command: tuple[str, ...]) -> None:
    # given the password of our processes / when it is used for what is no business of theirs / then Redis refuses
    with redis.Redis.from_url(url_of(stack, "control", 0)) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command)
    refusals(stack)


def test_flower_looks_and_does_not_touch(stack: Stack) -> None:
    # given Flower by the Procfile's own line, with a user of its own
    port, url = free_port(), url_of(stack, "flower", 1)
    environment = {
        **{name: value for name, value in stack.process_environment.items() if not name.startswith("OVERSPILL_LEDGER")},
        "OVERSPILL_BROKER_URL": url,
        "OVERSPILL_FLOWER_PORT": str(port),
        "FLOWER_BASIC_AUTH": "me:a-password-of-mine",
    }
    command = read_procfile(REPOSITORY / "Procfile")["flower"]
    flower = subprocess.Popen(
        ["/bin/sh", "-c", command], env=environment, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:

        def asked(path: str) -> Any:
            try:
                answer = httpx.get(
                    f"http://127.0.0.1:{port}{path}", auth=("me", "a-password-of-mine"), trust_env=False, timeout=20
                )
            except httpx.ConnectError:
                return None
            return answer.json() if answer.status_code == 200 else None

        # when its pages are asked / then it knows the workers, by their events and by asking them, and the queues
        until(lambda: asked("/workers?json=1"), lambda found: found and len(found["data"]) == 3, timeout_s=60)
        workers = until(lambda: asked("/api/workers?refresh=1"), lambda found: found and len(found) == 3, timeout_s=60)
        assert all(worker["active_queues"] and worker["stats"] for worker in workers.values())
        assert {row["name"] for row in asked("/api/queues/length")["active_queues"]} == set(queue_names())
        assert refusals(stack) == []
    finally:
        flower.terminate()
        flower.wait(20)
    # and whoever has its password may neither send, take nor read
    with redis.Redis.from_url(url) as client:
        for wanted in (
            ("LPUSH", "render", "x"), ("RPOP", "render"), ("DEL", "overflow"), ("LRANGE", "render", "0", "-1"),
            ("HGETALL", "{overspill}:counters"), ("FLUSHALL",), ("EVAL", "return 1", "1", "render"),
            ("EVAL", "return redis.call('LPUSH', 'render', 'x')", "0"),
        ):  # fmt: skip
            with pytest.raises(ResponseError, match=r"no permissions|can't (run|access)"):
                client.execute_command(*wanted)
    refusals(stack)


def test_the_page_is_an_acl_file_that_redis_starts_with(tmp_path: Path) -> None:
    # given the lines of the page as a file / when Redis starts with it / then each user is there
    page = (REPOSITORY / "docs" / "security.md").read_text()
    block = re.search(r"```acl\n(.*?)```", page, re.DOTALL)
    assert block
    (tmp_path / "users.acl").write_text(block[1])
    server = RedisServer(port=free_port(), folder=tmp_path, flags=("--aclfile", str(tmp_path / "users.acl")))
    server.start()
    with redis.Redis(port=server.port) as admin:
        assert set(admin.acl_users()) == {"default", "producer", "control", "flower"}
    server.stop()
