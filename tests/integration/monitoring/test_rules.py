"""promtool and amtool agree: rules, their tests, both configurations."""

import subprocess
from pathlib import Path

import pytest

from tests.support.prometheus import MONITORING, needs

FOLDER = MONITORING / "prometheus"


def said_by(*command: str, cwd: Path = FOLDER) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(path.name for path in (FOLDER / "tests").glob("*.yml")))
def test_every_alert_fires_and_stays_quiet_when_it_should(name: str) -> None:
    needs("promtool")
    assert "SUCCESS" in said_by("promtool", "test", "rules", name, cwd=FOLDER / "tests")


def test_a_rule_test_can_fail(tmp_path: Path) -> None:
    # given the tests of the rules about the system, beside rules in which nobody waits for Redis's memory
    needs("promtool")
    (tmp_path / "rules").mkdir()
    (tmp_path / "tests").mkdir()
    broken = (FOLDER / "rules" / "system.yml").read_text().replace("> 0.8", "> 8")
    (tmp_path / "rules" / "system.yml").write_text(broken)
    tests = tmp_path / "tests" / "system.yml"
    tests.write_text((FOLDER / "tests" / "system.yml").read_text())
    # when they are run / then the one of RedisMemory fails
    done = subprocess.run(
        ["promtool", "test", "rules", str(tests)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode != 0
    assert "RedisMemory" in done.stdout + done.stderr


def test_the_configurations_are_sound() -> None:
    needs("promtool", "amtool")
    # given Prometheus's, with all its rules
    said = said_by("promtool", "check", "config", "prometheus.yml")
    assert "5 rule files found" in said
    assert "FAILED" not in said
    # and Alertmanager's
    assert "SUCCESS" in said_by("amtool", "check-config", "alertmanager.yml")
    # then critical alerts go to the webhook
    routed = said_by(
        "amtool",
        "config",
        "routes",
        "test",
        "--config.file=alertmanager.yml",
        "severity=critical",
        "alertname=Budget95",
    )
    assert routed.strip() == "webhook"
