"""The demo, as a person runs it."""

import re
import signal
import time
from pathlib import Path

import pytest

from overspill.demo.proof import what_is_wrong_with
from tests.support.stack import overspill_command, processes_of

pytestmark = pytest.mark.timeout(300)
LAST_LINE = re.compile(r"demo: 12 completed, 0 failed, (\d+) in-house, (\d+) on modal, \$(\d+\.\d+) spent")


def test_the_demo_keeps_its_promise(tmp_path: Path) -> None:
    # given a machine with nothing of ours running / when the demo is run in an empty folder
    began = time.monotonic()
    demo = overspill_command("demo", cwd=tmp_path, environment={"TMPDIR": str(tmp_path)})
    out, err = demo.communicate(timeout=280)
    # then it succeeds, in time, and its last line says what happened
    assert demo.returncode == 0, out + err
    assert time.monotonic() - began < 120
    last = LAST_LINE.fullmatch(out.rstrip().splitlines()[-1])
    assert last, out
    inhouse, on_modal, spent = int(last[1]), int(last[2]), float(last[3])
    assert inhouse > 0
    assert on_modal > 0
    assert inhouse + on_modal == 12
    assert spent > 0
    # and one video lies in ./out, whole
    [video] = (tmp_path / "out").glob("*.mp4")
    assert what_is_wrong_with(video.read_bytes()) is None
    # and nothing of it is left, neither processes nor its temporary folder
    assert processes_of(tmp_path) == {}
    assert not list(tmp_path.glob("overspill-demo-*"))


def test_an_interrupted_demo_stops_everything(tmp_path: Path) -> None:
    # given a demo whose jobs are arriving
    demo = overspill_command("demo", cwd=tmp_path, environment={"TMPDIR": str(tmp_path)})
    assert demo.stdout is not None
    for line in demo.stdout:
        if "running on in-house" in line:
            break
    # when somebody presses Ctrl-C
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=60)
    # then it says so in a sentence, with the exit code of an interrupted program
    assert demo.returncode == 130, out + err
    assert "Traceback" not in err
    assert "interrupted" in err
    # and nothing is left
    assert processes_of(tmp_path) == {}
    assert not list(tmp_path.glob("overspill-demo-*"))
