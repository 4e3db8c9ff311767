"""What reaches Modal's control plane when the trainer is deployed: images, resources, retries, volumes, every alias."""

import base64
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from modal_proto import api_pb2

from modal_apps.gpu_table import retries_of
from modal_apps.gpus import CATALOGUE, training_classes
from modal_apps.images import CACHE_PATH, TRAIN_ENVIRONMENT, TRAIN_PACKAGES, not_for_training
from modal_apps.names import TRAINING_CLASS
from tests.support.modal_local import ModalLocalProcess, start_modal_local

REPOSITORY = Path(__file__).parents[3]
DAY_S = 86_400


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModalLocalProcess, Path]]:
    """A server to which the trainer was deployed with the real CLI."""
    state = tmp_path_factory.mktemp("modal")
    running = start_modal_local(state)
    try:
        command = [sys.executable, "-m", "modal", "deploy", "-m", "modal_apps.trainer"]
        subprocess.run(command, check=True, env=running.environ(), cwd=REPOSITORY, timeout=90, capture_output=True)
        yield running, state
    finally:
        running.stop()


@pytest.fixture(scope="module")
def recorded(server: tuple[ModalLocalProcess, Path]) -> tuple[dict[str, api_pb2.Function], dict[str, api_pb2.Image]]:
    """Functions by tag and images by id, as the control plane has kept them."""
    database = _database(server[1])
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT tab, key, value FROM entries WHERE tab IN ('functions', 'images')").fetchall()
    connection.close()
    functions, images = {}, {}
    for table, key, value in rows:
        if table == "images":
            images[key] = api_pb2.Image.FromString(value)
        else:
            facts = json.loads(value)
            functions[facts["tag"].removesuffix(".*")] = api_pb2.Function.FromString(
                base64.b64decode(facts["published"])
            )
    return functions, images


def _database(state: Path) -> Path:
    for path in state.rglob("*"):
        if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3":
            return path
    raise AssertionError(f"no database below {state}")


def _layers(images: dict[str, api_pb2.Image], image_id: str) -> list[str]:
    image = images[image_id]
    below = [line for base in image.base_images for line in _layers(images, base.image_id)]
    return [*below, *image.dockerfile_commands]


def test_every_class_is_reachable_under_its_alias_with_what_the_table_says(
    recorded: tuple[dict[str, api_pb2.Function], dict[str, api_pb2.Image]],
) -> None:
    functions, _ = recorded
    classes = {gpu.alias: gpu for gpu in training_classes()}
    assert set(functions) == {TRAINING_CLASS, *classes}
    assert {gpu.type for gpu in classes.values()} == {gpu.type for gpu in CATALOGUE}
    for alias, gpu in classes.items():
        made, plan = functions[alias], retries_of(gpu)
        asked = made.resources.gpu_config
        assert (asked.gpu_type, asked.count) == (gpu.type.upper(), gpu.count), alias
        assert (made.resources.milli_cpu, made.resources.memory_mb) == (gpu.cpu_cores * 1000, gpu.memory_mib), alias
        retries = made.retry_policy
        assert (retries.retries, retries.initial_delay_ms, retries.backoff_coefficient) == (
            plan.retries, plan.first_s * 1000, plan.backoff,
        )  # fmt: skip
        assert made.timeout_secs == DAY_S
        assert made.checkpointing_enabled
        assert {mount.mount_path for mount in made.volume_mounts} == {"/overspill/checkpoints", CACHE_PATH}


def test_the_figures_of_runs_that_starved_with_less() -> None:
    beside = {gpu.name: (gpu.cpu_cores, gpu.memory_gib) for gpu in training_classes()}
    assert beside["A100-80GB"] == (32, 128)
    assert beside["H100"] == (64, 256)
    assert "TrainingSession_A100_80GB_4" in {gpu.alias for gpu in training_classes()}


def test_one_image_pinned_exactly_with_the_allocators_environment(
    recorded: tuple[dict[str, api_pb2.Function], dict[str, api_pb2.Image]],
) -> None:
    functions, images = recorded
    (image_id,) = {made.image_id for made in functions.values()}
    lines = _layers(images, image_id)
    (install,) = [line for line in lines if "uv pip install" in line and "torch" in line]
    for package in TRAIN_PACKAGES:
        assert package in install
        assert "==" in package
    for name, value in TRAIN_ENVIRONMENT.items():
        assert any(line.startswith("ENV") and name in line and value in line for line in lines), name


def test_a_container_gets_the_source_that_it_needs_and_no_more(tmp_path: Path) -> None:
    # Given our two packages as a container gets them
    for package in ("modal_apps", "engines"):
        for path in (REPOSITORY / package).rglob("*"):
            inside = path.relative_to(REPOSITORY / package)
            if path.is_file() and "__pycache__" not in path.parts and not not_for_training(inside):
                target = tmp_path / package / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    assert not (tmp_path / "engines" / "render").exists()
    assert not (tmp_path / "modal_apps" / "renderer.py").exists()
    # Then the trainer and the engine import from there alone
    here = str(tmp_path)
    program = f"import sys; sys.path.insert(0, {here!r}); import modal_apps.trainer as t, engines.train.single as s\n"
    program += f"assert t.__file__.startswith({here!r}) and s.__file__.startswith({here!r})"
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=90, cwd="/")
