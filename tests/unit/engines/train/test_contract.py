"""What a config may be, what crosses the wire, and that none of it needs torch."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.train.contract import EventKind, TrainConfig, TrainEvent, TrainOutcome, TrainResult
from engines.train.errors import (
    CheckpointProblem,
    DatasetAway,
    DatasetProblem,
    DoesNotFit,
    InvalidTrainConfig,
    OutOfMemory,
    RankFailed,
    TorchMissing,
    TrainCancelled,
    TrainError,
    TrainingDiverged,
    VolumeFull,
    error_from_wire,
)

CLASSIFIER: dict[str, Any] = {"recipe": "image_classifier"}
TRANSFORMER: dict[str, Any] = {"recipe": "diffusion_transformer"}


@pytest.mark.parametrize(
    ("wire", "field"),
    [
        ({}, "recipe"),
        ({"recipe": "sorcery"}, "recipe"),
        (CLASSIFIER | {"momentum": 0.9}, "momentum"),
        (CLASSIFIER | {"learning_rate": 0}, "learning_rate"),
        (CLASSIFIER | {"learning_rate": -1e-3}, "learning_rate"),
        (CLASSIFIER | {"learning_rate": float("nan")}, "learning_rate"),
        (CLASSIFIER | {"learning_rate": float("inf")}, "learning_rate"),
        (CLASSIFIER | {"learning_rate": 10**400}, "learning_rate"),
        (CLASSIFIER | {"learning_rate": "0.1"}, "learning_rate"),
        (CLASSIFIER | {"steps": True}, "steps"),
        (CLASSIFIER | {"steps": 1.5}, "steps"),
        (CLASSIFIER | {"steps": 0}, "steps"),
        (CLASSIFIER | {"dataset": "  "}, "dataset"),
        (CLASSIFIER | {"precision": "fp8"}, "precision"),
        (CLASSIFIER | {"ema_decay": 1}, "ema_decay"),
        (CLASSIFIER | {"weight_decay": float("nan")}, "weight_decay"),
        (CLASSIFIER | {"batch_size": 32, "gpus": 3}, "batch_size"),
        (CLASSIFIER | {"batch_size": 6, "gpus": 2, "grad_accumulation": 2}, "batch_size"),
        (CLASSIFIER | {"image_size": 8, "depth": 3}, "depth"),
        (TRANSFORMER | {"image_size": 18, "patch_size": 4}, "image_size"),
        (TRANSFORMER | {"width": 100, "heads": 8}, "width"),
        (CLASSIFIER | {"width": 6}, "width"),
    ],
)
def test_a_bad_config_is_refused_by_the_name_of_its_first_bad_field(wire: dict[str, object], field: str) -> None:
    # When it comes in
    with pytest.raises(InvalidTrainConfig) as caught:
        TrainConfig.from_wire(wire)
    # Then the field is named, and the sentence says what was expected
    assert caught.value.field == field
    assert field in str(caught.value)
    assert "expected" in str(caught.value)


def test_a_config_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidTrainConfig):
        TrainConfig.from_wire([1, 2])  # type: ignore[arg-type]  # the point of the test


def test_a_config_survives_the_wire_with_its_recipe_s_own_size_filled_in() -> None:
    # Given a config that leaves its size to the recipe
    config = TrainConfig.from_wire(TRANSFORMER | {"seed": 7})
    # When it has gone over the wire
    back = TrainConfig.from_wire(config.to_wire())
    # Then it is the same, and its size is a number
    assert back == config
    assert back.width > 0
    assert back.depth > 0


def test_an_event_and_a_result_survive_the_wire() -> None:
    event = TrainEvent(kind=EventKind.EVALUATED, step=3, steps=9, metrics={"accuracy": 0.5})
    result = TrainResult(
        outcome=TrainOutcome.PREEMPTED,
        checkpoint=Path("/a/step-3"),
        step=3,
        steps_run=3,
        metrics={"accuracy": 0.5},
        best=None,
        seconds=1.5,
        cpu_s=1.0,
        examples_per_s=10.0,
        peak_memory_bytes=5,
        peak_gpu_memory_bytes=None,
        resumed_from=Path("/a/step-1"),
    )
    assert TrainEvent.from_wire(event.to_wire()) == event
    assert TrainResult.from_wire(result.to_wire()) == result


@pytest.mark.parametrize(
    "error",
    [
        InvalidTrainConfig("steps", 0, "more"),
        TorchMissing("No module named 'torch'"),
        DatasetProblem("bad_image", "cats.tar", "cat/1.jpg", "truncated"),
        DatasetAway("/data", "Input/output error"),
        CheckpointProblem("torn", "/a/step-3", "optimizer.safetensors"),
        VolumeFull("/a", 10, 5, "/a/step-3"),
        OutOfMemory("cuda", 4, None),
        DoesNotFit(99.5, "H200", 141),
        TrainingDiverged(7, None),
        TrainCancelled(3, 9),
        RankFailed(-9, "killed"),
    ],
)
def test_an_error_survives_a_pickle_and_the_wire_and_speaks_a_whole_sentence(error: TrainError) -> None:
    # When it crosses a process border, one way or the other
    pickled, wired = pickle.loads(pickle.dumps(error)), error_from_wire(error.to_wire())  # noqa: S301 - our own pickle
    # Then kind, data and text are the same
    assert type(pickled) is type(wired) is type(error)
    assert pickled.details() == error.details()
    if not isinstance(error, InvalidTrainConfig):  # which shows what came as a repr, and so a repr of a repr
        assert wired.details() == error.details()
    assert len(str(error).split()) > 5


def test_the_contract_needs_no_torch() -> None:
    # Given a process in which torch, numpy and pydantic cannot be imported
    program = """
import sys
for name in ("torch", "numpy", "pydantic", "safetensors"):
    sys.modules[name] = None
import engines.train.contract, engines.train.errors, engines.train.checkpoints, engines.train.allocator
from engines.train.engine import TorchTrainEngine
from pathlib import Path
try:
    TorchTrainEngine().train(engines.train.contract.TrainConfig(recipe="image_classifier"),
                             engines.train.contract.TrainContext(folder=Path("a"), cache=Path("b")))
except engines.train.errors.TorchMissing:
    print("missing")
"""
    # When it imports the contract and trains
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    # Then the import works, and the run says what is missing
    assert ended.stdout.strip() == "missing"
