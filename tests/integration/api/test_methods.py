"""HEAD answers what GET would without its body, and a refused method is told all that work."""

import pytest

from tests.integration.api.test_answers import finish
from tests.support.api_server import RunningApi, running_api
from tests.support.redis_server import RedisServer


def test_head_answers_as_get_does_without_a_body(api: RunningApi) -> None:
    video_id = api.post(prompt="x").json()["id"]
    finish(api)
    for path in ("/healthz", "/readyz", "/v1/videos", f"/v1/videos/{video_id}", f"/v1/videos/{video_id}/content"):
        asked, got = api.http.head(path), api.http.get(path)
        assert (asked.status_code, asked.content) == (got.status_code, b""), path
        assert asked.status_code in (200, 302), path


def test_head_without_a_key_or_a_video_is_refused_as_get_is(api: RunningApi) -> None:
    assert api.http.head("/v1/videos", headers={"Authorization": ""}).status_code == 401
    assert api.http.head("/v1/videos/video_none").status_code == 404
    assert api.http.head("/nothing").status_code == 404


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/videos", "GET, HEAD, POST"),
        ("/v1/videos/video_1", "DELETE, GET, HEAD"),
        ("/v1/videos/video_1/content", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS"])
def test_a_refused_method_is_told_all_that_work(api: RunningApi, path: str, allowed: str, method: str) -> None:
    answer = api.http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert allowed in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "settings",
    [{"replica-read-only": "yes"}, {"min-replicas-to-write": "1"}, {"maxmemory": "1"}],
    ids=["a read-only replica", "no replica to write to", "full"],
)
def test_who_takes_no_job_is_not_ready(redis_server: RedisServer, settings: dict[str, str]) -> None:
    with running_api(redis_server) as api:
        client = api.ledger.client
        before = {name: client.config_get(name)[name] for name in settings}
        assert api.http.get("/readyz").status_code == 200
        try:
            # given a server that answers and takes no writes
            for name, value in settings.items():
                client.config_set(name, value)
            if "replica-read-only" in settings:
                client.replicaof("127.0.0.1", "1")
            # when a job is sent / then it gets a 503, and nobody was told that we are ready
            assert api.post(prompt="x").status_code == 503
            assert api.http.get("/readyz").status_code == 503
            assert api.http.get("/healthz").status_code == 200
        finally:
            client.replicaof("NO", "ONE")
            for name, value in before.items():
                client.config_set(name, value)
        assert api.http.get("/readyz").status_code == 200
