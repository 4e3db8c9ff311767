"""The command itself: what it says when nothing runs, and what Ctrl-C means."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from overspill.cli import app as command
from overspill.cli.up import readable
from overspill.terminal.stop_signals import StopSignals


@pytest.fixture(autouse=True)
def _keep_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command adopts a stack's environment; the next test must not."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["overspill", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # given / when help is asked for / then every command is there with a sentence
    code, out, _ = run(monkeypatch, capsys, "--help")
    assert code == 0
    for name in (
        "up",
        "demo",
        "submit",
        "jobs",
        "watch",
        "cancel",
        "why",
        "top",
        "spill",
        "budget",
        "cost",
        "calls",
        "prewarm",
        "demo-budget",
        "doctor",
        "modal",
    ):
        assert any(line.split()[:1] == [name] and len(line.split()) > 2 for line in out.splitlines()), name


@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs"],
        ["watch", "video_x"],
        ["cancel", "video_x"],
        ["submit", "a ball"],
        ["why", "video_x"],
        ["top", "--once"],
    ],
)
def test_without_a_ledger_a_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    # given an address at which no Redis listens / when a command is run / then one sentence names it
    monkeypatch.setitem(os.environ, "OVERSPILL_LEDGER_URL", "redis://127.0.0.1:1/0")
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert (code, out) == (1, "")
    assert "127.0.0.1:1/0" in err
    assert err.count("\n") == 1


def test_a_running_stack_is_found_by_its_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # given the environment that a stack has written
    (tmp_path / "env").write_text("OVERSPILL_LEDGER_URL=redis://127.0.0.1:2/0\n")
    # when a command is run with its folder / then that is the ledger it asks
    _, _, err = run(monkeypatch, capsys, "--state", str(tmp_path), "jobs")
    assert "127.0.0.1:2/0" in err
    # and what the environment says goes first
    monkeypatch.setitem(os.environ, "OVERSPILL_LEDGER_URL", "redis://127.0.0.1:3/0")
    _, _, err = run(monkeypatch, capsys, "--state", str(tmp_path), "jobs")
    assert "127.0.0.1:3/0" in err


@pytest.mark.parametrize("arguments", [["frobnicate"], ["jobs", "--limit", "0"], ["up", "--slots", "-1"], ["watch"]])
def test_wrong_usage_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    # given wrong usage / when it is run / then one sentence, and exit code 2
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("overspill: ")
    assert err.count("\n") == 1


def test_the_first_signal_interrupts_and_the_second_hurries() -> None:
    # given somebody who holds a stack
    hurried: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with StopSignals(lambda: hurried.append("at once")):
        # when the first signal comes / then the program is interrupted where it stands
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        # when more come / then it is only hurried
        os.kill(os.getpid(), signal.SIGINT)
    assert hurried == ["at once"]
    # and afterwards signals are what they were
    assert signal.getsignal(signal.SIGINT) == before


def test_a_command_started_in_the_background_can_be_interrupted() -> None:
    # given a shell that ignores SIGINT, as one does for its background commands
    program = """
import signal
from overspill.cli.app import main
try:
    main()
except SystemExit:
    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    # when the command runs below it
    shell = ["sh", "-c", 'trap "" INT; exec "$0" -c "$1" --help', sys.executable, program]
    ended = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=True)
    # then SIGINT interrupts it all the same
    assert ended.stdout.rstrip().endswith("True")


def test_nothing_interrupts_the_stop_itself() -> None:
    # given a program that stops for its own reasons / when a signal comes / then it hurries, and is not interrupted
    hurried: list[str] = []
    with StopSignals(lambda: hurried.append("at once")) as signals:
        signals.begin_to_stop()
        os.kill(os.getpid(), signal.SIGINT)
    assert hurried == ["at once"]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain words", "plain words"),
        ('{"event": "job.placed", "level": "info", "job_id": "x", "timestamp": "t"}', "job.placed job_id=x"),
        ('{"event": "lease.expired", "level": "warning"}', "warning: lease.expired"),
        ('{"event": "boom", "level": "error", "exception": "Traceback"}', "error: boom\nTraceback"),
        ('{"no": "event"}', '{"no": "event"}'),
        ("[1]", "[1]"),
    ],
)
def test_json_logs_are_made_readable(line: str, shown: str) -> None:
    # given a line of log / when it is shown to a person / then JSON is words
    assert readable(line) == shown
