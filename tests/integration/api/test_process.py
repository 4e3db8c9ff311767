"""The API as the Procfile starts it: a process of its own, with its settings from the environment."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import cast
from uuid import uuid4

import httpx
import redis

from ledger import Ledger
from tests.support.api_server import VIDEO
from tests.support.ledgers import start_inhouse
from tests.support.redis_server import RedisServer
from tests.support.settings import ledger_settings_of

#: As `openssl rand -base64 32` prints one.
PADDED_KEY = "q8b0Yx3WcQ0l5O0oZ1m2n3b4v5c6x7z8a9s0d1f2g3E="
COMMAND = [
    sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--host", "127.0.0.1", "--port", "0",
    "--http", "api.connections:StrictProtocol", "--no-access-log",
]  # fmt: skip


def environment(**changed: str) -> Mapping[str, str]:
    return {**os.environ, "OVERSPILL_LOG_FORMAT": "json", **changed}


def test_without_a_key_it_refuses_to_start_in_one_sentence() -> None:
    done = subprocess.run(COMMAND, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("overspill api: an API key is required")
    assert "Traceback" not in done.stderr


def test_it_serves_sends_a_real_nudge_signs_a_real_address_and_stops(redis_server: RedisServer) -> None:
    # given a ledger of its own and an empty queue
    where = {"ledger_url": redis_server.url(0), "ledger_prefix": "{p" + uuid4().hex[:8] + "}"}
    process = subprocess.Popen(
        COMMAND,
        env=environment(
            OVERSPILL_API_KEYS=f"acme={PADDED_KEY}",
            OVERSPILL_LEDGER_URL=where["ledger_url"],
            OVERSPILL_LEDGER_PREFIX=where["ledger_prefix"],
            OVERSPILL_BROKER_URL=redis_server.url(7),
            OVERSPILL_S3_ENDPOINT_URL="http://127.0.0.1:9",
            OVERSPILL_S3_ACCESS_KEY_ID="id",
            OVERSPILL_S3_SECRET_ACCESS_KEY="secret",
        ),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        with (
            httpx.Client(base_url=url, headers={"Authorization": f"Bearer {PADDED_KEY}"}, timeout=30) as http,
            Ledger(ledger_settings_of(where)) as ledger,
            redis.Redis.from_url(redis_server.url(7)) as broker,
        ):
            assert http.get("/readyz").json() == {"status": "ready"}
            # when a job is submitted
            video_id = http.post("/v1/videos", json={"prompt": "x"}).json()["id"]
            # then Celery's queue holds the nudge, which is sent behind the answer
            _, message = cast("tuple[bytes, bytes]", broker.blpop(["render"], timeout=10))
            assert json.loads(message)["headers"]["task"] == "tasks.dispatch"
            # when it has run to its end
            record = start_inhouse(ledger)
            ledger.attempts.begin_delivery(record.id, record.attempt)
            ledger.attempts.complete(record.id, record.attempt, artifact=VIDEO, measurements={}, cost_usd_micros=0)
            # then the address of its video is S3's
            address = http.get(f"/v1/videos/{video_id}/content").headers["location"]
            assert re.match(rf"http://127\.0\.0\.1:9/videos/{VIDEO.key}\?.*X-Amz-Signature=", address)
        # when it is told to stop, then it does in good order
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[1]
        assert '"event": "api.stopped"' in rest
    finally:
        process.kill()
        process.communicate(timeout=30)
