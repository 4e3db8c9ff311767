"""What is wrong with a command is told in one line."""

import pytest

from modal_local.cli import app


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["serve", "--port", "x"], 2),
        (["serve", "--gpus", "V100=1"], 1),
        (["serve", "--crash-policy", "shrug"], 1),
        (["no-such"], 2),
        ([], 2),
    ],
)
def test_a_wrong_command_is_told_in_one_line(capsys: pytest.CaptureFixture[str], words: list[str], status: int) -> None:
    with pytest.raises(SystemExit) as ended:
        app(words)
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert line.startswith("modal_local: ")
    assert (ended.value.code, said.out) == (status, "")
