"""The embedded services, for real: they start, are ready when they say so, keep their data, and stop whole."""

import os
import subprocess
import sys
from pathlib import Path

import boto3
import httpx
import pytest
import redis

from overspill.dev.errors import MissingProgram
from overspill.dev.modal_service import ModalLocalService
from overspill.dev.prometheus_service import PrometheusService, find_prometheus
from overspill.dev.redis_service import RedisService
from overspill.dev.s3_service import BUCKET, S3Service
from tests.support.stack import REPOSITORY
from tests.support.waiting import until


def test_redis_keeps_what_it_acknowledged_when_it_is_killed(tmp_path: Path) -> None:
    # given a Redis with an entry
    service = RedisService(tmp_path / "redis", logs=tmp_path)
    service.start()
    try:
        service.ready()
        with redis.Redis.from_url(service.url()) as client:
            client.set("job", "accepted")
            # then it is durable and evicts nothing
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            # and only loopback reaches it
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
        # when it is killed and started again
        service.kill()
        service.start()
        service.ready()
        # then the entry is there, at the same address
        with redis.Redis.from_url(service.url(), decode_responses=True) as client:
            assert client.get("job") == "accepted"
    finally:
        service.stop()
        service.stop()
    with pytest.raises(redis.exceptions.ConnectionError), redis.Redis.from_url(service.url()) as client:
        client.ping()


def test_a_missing_redis_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a PATH without redis-server
    monkeypatch.setenv("PATH", str(tmp_path))
    # when it is started / then the sentence says what to install
    with pytest.raises(MissingProgram, match=r"redis-server.*apt-get install redis-server"):
        RedisService(tmp_path / "redis", logs=tmp_path).start()


def test_s3_keeps_objects_over_a_kill_and_refuses_strangers(tmp_path: Path) -> None:
    # given an S3 server with an object
    service = S3Service(tmp_path / "s3", logs=tmp_path, access_key_id="AKIATEST", secret_access_key="not-a-real-secret")
    service.start()
    try:
        service.ready()
        client = boto3.client(
            "s3",
            endpoint_url=service.url,
            region_name="us-east-1",
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="not-a-real-secret",
        )
        body = os.urandom(300_000)
        client.put_object(Bucket=BUCKET, Key="render/one/1/video.mp4", Body=body)
        # then whoever has no key is refused
        assert httpx.get(f"{service.url}/{BUCKET}/render/one/1/video.mp4", trust_env=False).status_code == 403
        # when it is killed and started again
        service.kill()
        service.start()
        service.ready()
        # then a presigned address gives the same bytes
        address = client.generate_presigned_url(
            "get_object", Params={"Bucket": BUCKET, "Key": "render/one/1/video.mp4"}
        )
        assert httpx.get(address, trust_env=False).content == body
        client.close()
    finally:
        service.stop()
        service.stop()
    # then nothing is left: no process that answers, no socket file of its own
    with pytest.raises(httpx.ConnectError):
        httpx.get(service.url, trust_env=False)
    ports = [*service._http.values(), *service._grpc.values()]
    assert not [path for path in Path("/tmp").glob("seaweedfs-*.sock") for port in ports if str(port) in path.name]  # noqa: S108  # where weed puts them


@pytest.mark.long
def test_modal_keeps_its_address_and_token_over_a_kill(tmp_path: Path) -> None:
    # given a local Modal, and Modal's own command line pointed at it
    service = ModalLocalService(tmp_path / "modal", logs=tmp_path, root=REPOSITORY)
    service.start()
    try:
        service.ready()
        environment = service.environment
        assert app_list(environment).returncode == 0
        # and its token is neither in its arguments, which everybody can read, nor in its log
        assert service.process is not None
        arguments = Path(f"/proc/{service.process.pid}/cmdline").read_text()
        # when it is killed and started again
        service.kill()
        service.start()
        service.ready()
        # then the same token is taken at the same address
        assert {**service.environment, "MODAL_LOCAL_ADMIN_URL": ""} == {**environment, "MODAL_LOCAL_ADMIN_URL": ""}
        assert app_list(environment).returncode == 0
        arguments += Path(f"/proc/{service.process.pid}/cmdline").read_text()
        assert environment["MODAL_TOKEN_SECRET"] not in arguments
        assert environment["MODAL_TOKEN_SECRET"] not in (tmp_path / "modal.log").read_text()
        # and another is not
        assert app_list({**environment, "MODAL_TOKEN_SECRET": "as-another"}).returncode != 0
    finally:
        service.stop()
        service.stop()


def app_list(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "modal", "app", "list"],
        env={**os.environ, **environment, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_prometheus_starts_with_our_rules_and_keeps_its_address(tmp_path: Path) -> None:
    if find_prometheus() is None:
        pytest.skip("prometheus is not installed (make setup-tests)")
    # given a Prometheus with the repository's rules, and an exporter that is not there yet
    rules = REPOSITORY / "monitoring" / "prometheus" / "rules"
    service = PrometheusService(tmp_path / "prometheus", logs=tmp_path, exporter="127.0.0.1:9", rules=rules)
    service.start()
    try:
        service.ready()
        # then it has every group of them, and looks for the exporter
        groups = httpx.get(f"{service.url}/api/v1/rules", trust_env=False).json()["data"]["groups"]
        assert {group["name"] for group in groups} == {f"overspill_{path.stem}" for path in rules.glob("*.yml")}
        (target,) = until(
            lambda: httpx.get(f"{service.url}/api/v1/targets", trust_env=False).json()["data"]["activeTargets"],
            bool,
            timeout_s=20,
        )
        assert target["scrapeUrl"] == "http://127.0.0.1:9/metrics"
        # and only loopback reaches it
        assert service.environment == {"OVERSPILL_PROMETHEUS_URL": f"http://127.0.0.1:{service.port}"}
    finally:
        service.stop()
        service.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(service.url, trust_env=False)
