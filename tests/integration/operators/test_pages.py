"""The commands that the pages for operators show, run as they stand there."""

import re
import shlex
from pathlib import Path

from ledger import Ledger
from tests.integration.operators.conftest import Overspill

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "set-a-budget.md"
_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def test_every_command_of_the_page_about_budgets_runs(ledger: Ledger, overspill: Overspill) -> None:
    lines = [
        shlex.split(line, comments=True)
        for block in _BLOCK.findall(PAGE.read_text("utf-8"))
        for line in block.splitlines()
    ]
    commands = [line[1:] for line in lines if line]
    assert len(commands) == 6
    for arguments in commands:
        said = overspill(*arguments)
        assert said.code == 0, (arguments, said.err)
    assert ledger.money.limits().month_cap_usd_micros == 2_500_000_000
