"""Training by hand, with the real command: `modal run [--detach] -m modal_apps.trainer`, `modal app logs`, `stop`."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from PIL import Image

from modal_apps.names import CHECKPOINTS_VOLUME
from modal_local.admin_client import AdminClient
from overspill.dev.s3_service import BUCKET, S3Service
from tests.support.modal_command import run_modal
from tests.support.modal_local import ModalLocalProcess, start_modal_local
from tests.support.stack import REPOSITORY
from tests.support.waiting import until

pytestmark = pytest.mark.long

TINY: dict[str, Any] = {
    "recipe": "image_classifier", "batch_size": 8, "checkpoint_every_steps": 20, "image_size": 8, "width": 8,
    "depth": 1, "eval_examples": 24, "warmup_steps": 2, "steps": 100_000, "eval_every_steps": 20,
}  # fmt: skip
NAME = "by-hand"
SECRET = "keys-of-pictures"


@dataclass(frozen=True)
class Server:
    """Modal on loopback, and a bucket of pictures that the trainer mounts."""

    modal: ModalLocalProcess
    bucket: dict[str, str]

    @property
    def admin_url(self) -> str:
        return self.modal.admin_url

    def environ(self) -> dict[str, str]:
        """For the modal command."""
        return {**self.modal.environ(), **self.bucket}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("by-hand")
    s3 = S3Service(folder / "s3", logs=folder, access_key_id="key-of-tests", secret_access_key="secret-of-tests")
    running = start_modal_local()
    s3.start()
    try:
        s3.ready()
        _put_pictures(s3)
        keys = {"AWS_ACCESS_KEY_ID": "key-of-tests", "AWS_SECRET_ACCESS_KEY": "secret-of-tests"}
        words = ["secret", "create", SECRET, *(f"{name}={value}" for name, value in keys.items())]
        assert run_modal(*words, cwd=REPOSITORY, env=running.environ()).returncode == 0
        yield Server(
            running,
            {
                "OVERSPILL_MODAL_DATA_BUCKET": BUCKET,
                "OVERSPILL_MODAL_DATA_BUCKET_SECRET": SECRET,
                "OVERSPILL_MODAL_DATA_BUCKET_ENDPOINT": s3.url,
            },
        )
    finally:
        running.stop()
        s3.stop()


def _put_pictures(s3: S3Service) -> None:
    """Two classes that even a tiny model tells apart: dark pictures and bright ones."""
    keys = s3.environment
    client = boto3.client(
        "s3",
        endpoint_url=s3.url,
        region_name=keys["OVERSPILL_S3_REGION"],
        aws_access_key_id=keys["OVERSPILL_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["OVERSPILL_S3_SECRET_ACCESS_KEY"],
    )
    for name, shade in (("dark", 40), ("bright", 200)):
        for number in range(16):
            png = io.BytesIO()
            Image.new("RGB", (8, 8), (shade, shade + number, shade)).save(png, "PNG")
            client.put_object(Bucket=BUCKET, Key=f"pictures/{name}/{number}.png", Body=png.getvalue())
    client.close()


def _modal(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    return run_modal(*words, cwd=REPOSITORY, env=server.environ())


def _by_hand(server: Server, action: str, *more: str) -> subprocess.CompletedProcess[str]:
    return _modal(server, "run", "-m", "modal_apps.trainer", "--action", action, *more)


@contextmanager
def _typed(
    server: Server, said: Path, action: str, *more: str, detached: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, which is killed at the end of the block if it is still there."""
    words = ["run", *(["--detach"] if detached else []), "-m", "modal_apps.trainer", "--action", action, *more]
    with (
        said.open("w") as into,
        subprocess.Popen(
            [sys.executable, "-m", "modal", *words],
            cwd=REPOSITORY, env=server.environ(), stdout=into, stderr=subprocess.STDOUT, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def _answer(said: str) -> dict[str, Any]:
    """The JSON that a run prints, among what the command says itself."""
    assert "\n{\n" in said, said
    answer: dict[str, Any] = json.JSONDecoder().raw_decode(said, said.index("\n{\n") + 1)[0]
    return answer


def _steps(server: Server, folder: str) -> list[int]:
    listed = _modal(server, "volume", "ls", CHECKPOINTS_VOLUME, folder, "--json")
    if listed.returncode != 0:
        return []
    names = [str(row["filename"]).rpartition("/")[2] for row in json.loads(listed.stdout)]
    return sorted(int(name.removeprefix("step-")) for name in names if name.startswith("step-"))


def test_a_detached_training_its_logs_and_its_end_and_what_can_be_asked_of_it(server: Server, tmp_path: Path) -> None:
    # Given a config in a file, of pictures in S3, and a training that is begun detached, as one would type it
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**TINY, "dataset": f"s3://{BUCKET}/pictures"}))
    said = tmp_path / "said"
    with _typed(server, said, "train", "--config", str(config), "--name", NAME, detached=True):
        until(lambda: _begun(said), bool, timeout_s=60)
        folder = _begun(said)
        until(lambda: _steps(server, folder), bool, timeout_s=60, every_s=0.5)
    # When whoever typed it is gone, then it goes on
    seen = _steps(server, folder)[-1]
    until(lambda: _steps(server, folder)[-1], lambda step: step > seen, timeout_s=30)
    # And by the id that the command has printed its logs can be read, and it can be stopped
    app_id = re.findall(r"ap-\w{22}", said.read_text())[0]
    logs = _modal(server, "app", "logs", app_id).stdout
    assert "step 0/100000  started" in logs, logs
    assert f"step {seen}/100000  checkpoint" in logs, logs
    assert _modal(server, "app", "stop", app_id, "--yes").returncode == 0
    admin = AdminClient(server.admin_url)
    until(lambda: admin.containers(live=True), lambda rows: not rows, timeout_s=60)
    # And a smoke test tells of the device and of the model, while what was left is evaluated
    with _typed(server, tmp_path / "smoke", "smoke", "--config", str(config)) as typed:
        evaluated = _answer(_by_hand(server, "evaluate", "--config", str(config), "--name", NAME).stdout)
        assert typed.wait(60) == 0
    assert evaluated["folder"] == folder
    assert evaluated["metrics"]["accuracy"] == 1.0
    smoke = _answer((tmp_path / "smoke").read_text())["image_classifier"]
    assert smoke["device"].startswith("cpu")
    assert smoke["parameters"] > 0


def _begun(said: Path) -> str:
    """The folder on the volume, which the command says before it trains."""
    lines = [line for line in said.read_text().splitlines() if line.startswith("trainer: ")]
    return lines[0].removeprefix("trainer: ").partition(" on ")[0] if lines else ""


def test_what_is_wrong_is_said_before_anything_is_begun(server: Server, tmp_path: Path) -> None:
    # Given a width that the classifier's arithmetic does not take
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**TINY, "width": 6}))
    # When it is trained by hand
    done = _by_hand(server, "train", "--config", str(config))
    # Then the command ends as for a wrong usage, with one sentence, and no call was made
    assert done.returncode == 2
    assert "width: expected a multiple of 4" in done.stderr, done.stderr
    assert not any(
        "train" in str(call["function_tag"]) for call in AdminClient(server.admin_url).calls(state="running")
    )
