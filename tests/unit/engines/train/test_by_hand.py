"""The command line, `smoke` and `evaluate`, and the TensorBoard files that a run leaves."""

import json
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs the extra `torch`")

from tensorboardX.proto.event_pb2 import Event

from engines.train.__main__ import main
from engines.train.evaluate import evaluate
from tests.support.train_runs import context, tiny_classifier, tiny_transformer, train


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _config(path: Path, **fields: object) -> str:
    path.write_text(json.dumps({**tiny_classifier(steps=4).to_wire(), **fields}))
    return str(path)


def test_train_resume_and_evaluate_by_hand(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Given a config in a file
    config, folder = _config(tmp_path / "config.json"), str(tmp_path / "run")
    common = ["--folder", folder, "--cache", str(cache), "--device", "cpu", "--threads", "1"]
    # When it is trained, then its progress and its result are printed
    assert main(["--config", config, *common]) == 0
    said = capsys.readouterr().out.splitlines()
    assert any("step 4/4  progress  loss" in line for line in said)
    result = json.loads(said[-1])
    assert (result["outcome"], result["step"]) == ("finished", 4)
    # And it is not trained over, but resumed if one says so
    assert main(["--config", config, *common]) == 4
    assert "already holds checkpoints" in capsys.readouterr().err
    assert main(["--config", config, *common, "--resume"]) == 0
    capsys.readouterr()
    # And evaluating its checkpoint gives the figures of the run
    assert main(["--action", "evaluate", *common]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(result["metrics"])


def test_a_signal_saves_and_exits_with_temporary_failure(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a run that gets SIGTERM as it tells its first event
    config = _config(tmp_path / "config.json")
    monkeypatch.setattr("engines.train.__main__._show", lambda _: signal.raise_signal(signal.SIGTERM))
    # When it is trained, then it leaves a checkpoint and says so by its exit code
    assert main(["--config", config, "--folder", str(tmp_path / "run"), "--cache", str(cache), "--device", "cpu"]) == 75
    assert (tmp_path / "run" / "step-0" / "metadata.json").exists()


@pytest.mark.parametrize(
    ("fields", "code"), [({"learning_rate": 0}, 2), ({"colour": "red"}, 2), ({"dataset": "/no/such/place"}, 3)]
)
def test_bad_input_has_its_exit_code_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, object], code: int
) -> None:
    config = _config(tmp_path / "config.json", **fields)
    assert main(["--config", config, "--folder", str(tmp_path / "run"), "--device", "cpu"]) == code
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "expected" in said


def test_no_config_and_half_a_config_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "half.json").write_text('{"recipe": "image_')
    assert main([]) == 2
    assert main(["--config", str(tmp_path / "half.json")]) == 2
    assert "JSON file" in capsys.readouterr().err


def test_smoke_shows_the_device_and_one_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tiny_transformer(grad_accumulation=2, gpus=2).to_wire()))
    assert main(["--action", "smoke", "--config", str(path), "--device", "cpu", "--threads", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["device"].startswith("cpu")
    assert report["arithmetic"] == "float32"
    assert report["loss"] > 0
    assert report["estimated_gpu_memory_bytes"] > report["parameters"] * 16


def test_samples_are_judged_by_a_classifier_that_knows_their_classes(tmp_path: Path, cache: Path) -> None:
    # Given a classifier and a transformer, hardly trained
    judge = train(tiny_classifier(steps=2), context(tmp_path / "classifier", cache)).checkpoint
    config = tiny_transformer(steps=2)
    result = train(config, context(tmp_path / "transformer", cache, classifier=judge))
    # When the checkpoint is evaluated again, then the share is that of the run
    assert 0 <= result.metrics["recognised"] <= 1
    again = evaluate(result.checkpoint, cache=cache, classifier=judge, device_name="cpu", threads=1)
    assert again == pytest.approx(dict(result.metrics))


def test_tensorboard_files_lie_beside_the_checkpoints(tmp_path: Path, cache: Path) -> None:
    # Given a run and its resumption
    train(tiny_classifier(steps=4), context(tmp_path, cache, stop_requested=(tmp_path / "step-4").exists))
    train(tiny_classifier(steps=6), context(tmp_path, cache))
    # When its event files are read
    files = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: int(path.name.rsplit(".", 1)[1]))
    told = [(event.step, value.tag) for path in files for event in _events(path) for value in event.summary.value]
    # Then each step's loss is there once, and the accuracy where it was measured
    assert [step for step, tag in told if tag == "loss"] == [1, 2, 3, 4, 5, 6]
    assert [step for step, tag in told if tag == "accuracy"] == [4, 6]


def _events(path: Path) -> Iterator[Event]:
    # TFRecord: a length of 8 bytes, its checksum of 4, the record, its checksum of 4.
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]
