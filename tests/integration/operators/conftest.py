"""The command line, in this process, against a ledger of its own."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ledger import Ledger
from overspill.cli import app as command
from tests.support.ledgers import fresh_ledger
from tests.support.redis_server import RedisServer


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Overspill = Callable[..., Said]


@pytest.fixture
def ledger(redis_server: RedisServer) -> Iterator[Ledger]:
    with fresh_ledger(redis_server.url(2)) as fresh:
        yield fresh


@pytest.fixture
def overspill(
    ledger: Ledger, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Overspill:
    """Runs a command against `ledger`, under caps that are small enough to be seen."""
    environment = {
        **os.environ,
        "OVERSPILL_LEDGER_URL": redis_server.url(2),
        "OVERSPILL_BROKER_URL": redis_server.url(1),
        "OVERSPILL_LEDGER_PREFIX": ledger.prefix,
        "OVERSPILL_MONTH_CAP_USD": "10",
        "OVERSPILL_TENANT_MONTH_CAPS_USD": '{"acme": 4}',
        "LOGNAME": "ada",
    }
    monkeypatch.setattr(os, "environ", environment)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr("sys.argv", ["overspill", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            command.main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run
