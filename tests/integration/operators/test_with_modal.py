"""The commands that ask Modal, each in a process of its own, against a local Modal."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import Ledger
from overspill.cli.checks.finding import Health
from tests.support.modal_local import ModalLocalProcess, start_modal_local
from tests.support.redis_server import RedisServer
from tests.support.stack import REPOSITORY

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def modal() -> Iterator[ModalLocalProcess]:
    server = start_modal_local()
    yield server
    server.stop()


def overspill(modal: ModalLocalProcess, *arguments: str, **changed: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "overspill.cli", "--state", "/nonexistent", *arguments],
        env={**os.environ, **modal.env, "PYTHONPATH": str(REPOSITORY), **changed},
        cwd=Path("/"),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_doctor_tells_a_missing_app_from_a_wrong_token(modal: ModalLocalProcess) -> None:
    # given a local Modal on which nothing is deployed, and nothing else / when the doctor looks at it
    away = {"OVERSPILL_LEDGER_URL": NOWHERE, "OVERSPILL_BROKER_URL": NOWHERE,
            "OVERSPILL_S3_ENDPOINT_URL": "http://127.0.0.1:1"}  # fmt: skip
    missing = {one["name"]: one for one in json.loads(overspill(modal, "doctor", "--json", **away).stdout)}
    # then the app is missing, with what mends it
    assert missing["modal"]["health"] == Health.WRONG
    assert "modal deploy -m modal_apps.renderer" in missing["modal"]["remedy"]
    # when the token is one that it does not take / then that is said, and not the token
    refused = overspill(modal, "doctor", "--json", **away, MODAL_TOKEN_SECRET="as-revoked")
    found = {one["name"]: one for one in json.loads(refused.stdout)}
    assert refused.returncode == 1
    assert found["modal"]["health"] == Health.WRONG
    assert "modal token new" in found["modal"]["remedy"]
    assert "as-revoked" not in refused.stdout + refused.stderr


def test_modals_bill_is_booked_on_demand(modal: ModalLocalProcess, ledger: Ledger, redis_server: RedisServer) -> None:
    # given a ledger and a Modal on which nothing ran
    ours = {"OVERSPILL_LEDGER_URL": redis_server.url(2), "OVERSPILL_LEDGER_PREFIX": ledger.prefix}
    # when its bill is asked for
    booked = overspill(modal, "budget", "true-up", "--json", **ours)
    # then there is nothing to book, and the budget says when that was, and who asked
    assert booked.returncode == 0, booked.stderr
    assert json.loads(booked.stdout) == {"billed_usd_micros": 0, "used_usd_micros": 0, "booked_usd_micros": 0}
    assert "billed $0.0000, +$0.0000 booked" in overspill(modal, "budget", **ours).stdout
    # when a month that is over is to be closed / then it is compared to its end
    closed = overspill(modal, "budget", "true-up", "--month", "2026-06", **ours)
    assert closed.stdout == "billed $0.0000, known $0.0000: booked +$0.0000\n", closed.stderr
    assert ledger.money.book("2026-06", by="day").true_up["as_of_ms"] == "1782864000000"
    # when Modal does not take our token / then that is one sentence
    refused = overspill(modal, "budget", "true-up", **ours, MODAL_TOKEN_SECRET="as-revoked")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith("overspill: Modal did not give its bill: AuthError")
    assert refused.stderr.count("\n") == 1
