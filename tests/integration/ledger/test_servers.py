"""The ledger on other servers: by TLS, behind Sentinel through a failover, full, and one that would evict."""

import subprocess
import sys
from pathlib import Path

import pytest
import redis
import trustme

from infra.nudging import CeleryNudger
from ledger import Ledger, LedgerFull, LedgerUnavailable, State
from ledger.decisions import RunInhouse
from ledger.models import Artifact, Kind, RenderJob
from ledger.nudges import decide
from ledger.outcomes import Completed, Delivering, Renewed
from ledger.server import EvictingServer
from tests.support.ledgers import place, submit
from tests.support.redis_server import RedisServer, free_port, running_redis
from tests.support.settings import ledger_settings_of, settings_of
from tests.support.waiting import until


def test_tls(tmp_path: Path) -> None:
    # Given a Redis that speaks only TLS
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    port = free_port()
    flags = (
        "--tls-port", str(port), "--tls-cert-file", str(tmp_path / "cert.pem"),
        "--tls-key-file", str(tmp_path / "key.pem"), "--tls-ca-cert-file", str(tmp_path / "ca.pem"),
        "--tls-auth-clients", "no",
    )  # fmt: skip
    server = RedisServer(port=free_port(), folder=tmp_path, flags=flags)
    server.start()
    try:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/ca.pem&ssl_cert_reqs=required"
        settings = settings_of({"ledger_url": url, "broker_url": url.replace("/0?", "/1?")})
        with Ledger(settings.ledger) as ledger:
            # Then the ledger and the broker both work over it
            assert ledger.jobs.get(submit(ledger)).state is State.QUEUED
        nudger = CeleryNudger(settings)
        assert nudger.send(decide(Kind.RENDER))
        nudger.close()
        with redis.Redis(port=server.port, db=1) as raw:
            assert raw.llen("render") == 1
        # And a certificate that nobody vouches for is refused
        unknown = settings_of({"ledger_url": f"rediss://127.0.0.1:{port}/0"})
        with Ledger(unknown.ledger) as ledger, pytest.raises(LedgerUnavailable):
            ledger.ping()
    finally:
        server.stop()


def test_a_failover_behind_sentinel_is_survived(tmp_path: Path) -> None:
    # Given a master, its replica, and a Sentinel that watches
    folders = [tmp_path / name for name in ("master", "replica", "sentinel")]
    for folder in folders:
        folder.mkdir()
    master = RedisServer(port=free_port(), folder=folders[0])
    replica = RedisServer(port=free_port(), folder=folders[1], flags=("--replicaof", "127.0.0.1", str(master.port)))
    sentinel_port = free_port()
    config = folders[2] / "sentinel.conf"
    config.write_text(
        f"port {sentinel_port}\nbind 127.0.0.1\ndir {folders[2]}\n"
        f"sentinel monitor jobs 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds jobs 1000\nsentinel failover-timeout jobs 5000\n"
    )
    master.start()
    replica.start()
    sentinel = subprocess.Popen(
        ["redis-server", str(config), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with redis.Redis(port=replica.port, decode_responses=True) as raw:
            until(lambda: raw.info("replication"), lambda info: info.get("master_link_status") == "up", timeout_s=30)
        with redis.Redis(port=sentinel_port, decode_responses=True) as raw:

            def known() -> object:
                try:
                    return raw.execute_command("SENTINEL", "REPLICAS", "jobs")
                except redis.exceptions.RedisError:
                    return None

            until(known, bool, timeout_s=30)
        settings = ledger_settings_of({"ledger_url": f"sentinel://127.0.0.1:{sentinel_port}/jobs/0"})
        with Ledger(settings) as ledger:
            job_id = submit(ledger)
            with redis.Redis(port=replica.port, decode_responses=True) as raw:
                until(lambda: raw.exists(f"{ledger.prefix}:job:{job_id}"), bool, timeout_s=10)
            # When the master dies
            master.kill()

            # Then the same ledger object finds the new master, with the job on it, and takes new ones
            def again() -> str | None:
                try:
                    return submit(ledger)
                except LedgerUnavailable:
                    return None

            assert until(again, bool, timeout_s=60, every_s=0.2)
            assert ledger.jobs.get(job_id).state is State.QUEUED
    finally:
        sentinel.terminate()
        sentinel.wait(10)
        replica.stop()
        master.stop()


def test_a_full_redis_refuses_new_work_and_lets_running_work_end(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path) as server,
        Ledger(ledger_settings_of({"ledger_url": server.url()})) as ledger,
    ):
        # Given a job under way, and a Redis without a byte to spare
        job_id = submit(ledger)
        place(ledger, RunInhouse())
        assert ledger.attempts.start_inhouse(Kind.RENDER, worker="w", lease_s=10) is not None
        before = ledger.client.dbsize()
        ledger.client.config_set("maxmemory", "1mb")
        # When another is submitted, then it is refused whole
        with pytest.raises(LedgerFull):
            ledger.jobs.submit(RenderJob(prompt="one too many"), source="client", idempotency_key="k")
        assert ledger.client.dbsize() == before
        # While the running one ends
        assert ledger.attempts.renew(job_id, 1, lease_s=10, progress=50) == Renewed()
        assert ledger.attempts.begin_delivery(job_id, 1) == Delivering()
        artifact = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
        done = ledger.attempts.complete(job_id, 1, artifact=artifact, measurements={}, cost_usd_micros=1)
        assert done == Completed()
        ledger.client.config_set("maxmemory", "0")
        assert ledger.audit() == []
        assert submit(ledger)


def test_a_server_that_evicts_is_refused_by_ledger_and_worker(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        with redis.Redis(port=server.port) as raw:
            raw.config_set("maxmemory-policy", "allkeys-lru")
        with (
            Ledger(ledger_settings_of({"ledger_url": server.url()})) as ledger,
            pytest.raises(EvictingServer, match="CONFIG SET maxmemory-policy noeviction"),
        ):
            ledger.refuse_eviction()
        refused = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", "overflow", "-P", "threads"],
            env={
                "PATH": "/usr/bin:/bin", "OVERSPILL_LEDGER_URL": server.url(0), "OVERSPILL_BROKER_URL": server.url(1),
            },
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert refused.returncode != 0
        assert "noeviction" in refused.stderr
        assert "Traceback" not in refused.stderr
